"""A log that several machines have, agreed upon row by row in a database's table.

`table` is what is asked of the database, and `postgres` is one. `rows` is the form of a batch in it. `leading` makes
the batches of the one machine that appends durable there; `following` takes what the others appended into this
machine's own log. Nothing here agrees on anything by itself: the table decides what is durable, and who may write.

It stands on the log and may import all of `spool` but `backup` and `verify`, and nothing of `relay`. Only `postgres`
and its parts may import psycopg, which is there only where it is used. What a batch says it must never ask, and what
comes out of the database it must never believe before it is checked.
"""
