"""The consoles in a real browser: every page that they have, as members and operators see it."""
