"""What a message looks like on the wire: composing, headers, signatures, tokens, DSNs, and the keys."""
