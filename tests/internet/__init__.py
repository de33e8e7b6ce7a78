"""What the relay asks of strangers other than receivers of mail: HTTPS."""
