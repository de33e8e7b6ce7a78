"""What a message looks like on the wire: composing, header fields, signatures, notifications of bounces, tokens.

All of it is pure, but for reading and writing the files of keys (`key_files`, `keys`). May import the words, `config`,
`codec` and the views. It must never decide whether a mail may be sent, nor talk to anybody: composing the same events
again, today or in a year, gives the same bytes.

So the rules are numbered, and an event says by which ones it is composed: what was accepted by older ones keeps them.

1. What was written before the rules had numbers.
2. h= names each field once more than it occurs (`signing`), more fields are known to be structured (`headers`), and a
   notification quotes less of a receiver's words (`dsn`).
3. Members' messages have their token in X-Atmos-Message (`tokens`), and h= names it. A notification quotes the `advice`
   for the class of its bounce.
"""

from typing import Final

#: By which rules what is accepted now is composed.
COMPOSITION: Final = 3
#: A member's message has its token in a field of its own since this one.
TOKEN_SINCE: Final = 3
#: A notification has the advice for the class of its bounce since this one.
ADVICE_SINCE: Final = 3
