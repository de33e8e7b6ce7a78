"""The room `relay/processes`."""
