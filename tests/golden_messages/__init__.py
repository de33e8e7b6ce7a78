"""Messages as they are composed and signed, byte for byte. README.md says more."""
