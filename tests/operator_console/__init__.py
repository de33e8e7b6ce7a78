"""The operator's console, as the operator meets it, and whoever would like to be the operator."""
