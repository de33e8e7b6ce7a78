"""The operator's command line: thin commands over importable functions.

`cli` is the entry; the commands stand in the module of their name or noun (`init`, `serve`, `doctor`, `membership`,
`queue`, `policy`, `watch`, and the room `log`). A module here is imported when its command is called, and imports no
more than that command uses: an operator types many commands (`lazy`). `demo` is `make demo`.

May import `relay` and `spool`. It must never decide anything: what a command changes, it asks of `relay.operator`.
"""
