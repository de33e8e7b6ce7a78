"""How others see the relay: its names, records, ports, and the way out."""
