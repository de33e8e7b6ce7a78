"""The past: what was true at a record, the audit of a message, another policy over the same log."""
