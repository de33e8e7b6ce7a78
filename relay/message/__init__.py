"""What a message looks like on the wire: composing, header fields, signatures, notifications of bounces, tokens.

All of it is pure, but for reading and writing the files of keys (`key_files`, `keys`). May import the words, `config`,
`codec` and the views. It must never decide whether a mail may be sent, nor talk to anybody: composing the same events
again, today or in a year, gives the same bytes.

So the rules are numbered, and an event says by which ones it is composed. `COMPOSITION` is the newest, 2: h= names each
field once more than it occurs (`signing`), more fields are known to be structured (`headers`), and a notification
quotes less of a receiver's words (`dsn`). What was written before keeps rule 1.
"""

from typing import Final

#: By which rules what is accepted now is composed.
COMPOSITION: Final = 2
