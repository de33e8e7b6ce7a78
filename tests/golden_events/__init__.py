"""Every version of every event as it stands in logs. README.md says more."""
