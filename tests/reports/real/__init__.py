"""What mail servers of three makes really send back, one file for each, and what a reader must find in it.

`NAME-KIND.eml` is one mail as it came in (CRLF), about a mail of a relay's own (tests.world.bouncers says which
recipient makes a server say what). `expected.toml` has the fields of its `Reading`. `python -m tests.reports.real`
makes the files anew; the tokens in them are of a relay that is gone.
"""
