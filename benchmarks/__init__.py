"""Benchmarks: one file a question; `make bench` asks them all, `python -m benchmarks.NAME` one.

Machines are shared and noisy, so every question measures its ceiling in the same run, round by round in turn, and says
medians, their spread, and ratios. `command` is the command line, `report` the table and the JSON, `pages` puts the
figures into the pages; `world` starts real relays, `load` makes requests from a process of its own, `receiver` takes
the mail.
"""
