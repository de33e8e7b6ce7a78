"""The room `relay/webhooks`: endpoints that are told of events."""
