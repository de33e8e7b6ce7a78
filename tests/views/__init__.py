"""The views as folds of the log: the same however the log is cut, and made again when they are lost."""
