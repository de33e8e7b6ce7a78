"""A relay on several machines."""
