"""Benchmarks: one file a question, each run with `python -m benchmarks.NAME`.

Machines are shared and noisy, so every script measures its ceiling in the same run, alternating with what it measures,
and prints medians and ratios. `world` starts real relays, `load` makes requests from a process of its own.
"""
