"""The log alone: its bytes, its writer and readers, recovery, strips, backups, verification, the views' storage."""
