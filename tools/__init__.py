"""The operator's command line: thin commands over importable functions.

`cli` is the entry; the commands stand in the module of their noun: `service` (init, serve, doctor), `membership`
(member, domain, key, dns), `log` (what the log holds, and whether it is whole).
"""
