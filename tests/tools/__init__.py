"""The commands as an operator types them: what they print, their exit status, what they leave alone."""
