"""A log that several machines have, agreed upon row by row in a database's table.

`table` is what is asked of the database, and `postgres` is one. `rows` is the form of a batch in it. `leading` makes
the batches of the one machine that appends durable there; `following` takes what the others appended into this
machine's own log. Nothing here agrees on anything by itself: the table decides what is durable, and who may write.

It imports `spool`'s own words and its log, and what talks to the database imports that one's driver, which is installed
only where it is wanted. It must never believe what comes out of the database before it has checked it, and never decide
anything by a clock.
"""
