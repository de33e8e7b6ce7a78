"""The replicated form of the log: over the database in memory, and over real servers."""
