"""The room `relay/reception`."""
