"""The room `relay/reports`."""
