"""The repository itself: its fences, its pages, its benchmarks. What is said here is checked here."""
