"""Who asks: a member by one of its keys, the operator by a Unix user's name, or a stranger.

Whatever is decided is decided for one of these, whichever door it came in by.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

#: What a key may be used for. `send`: to send, and to read back what became of it and who is suppressed. `full`: for
#: all that a member may do, such as changing its keys, its domains, its suppression list and who hears of its bounces.
Scope = Literal["send", "full"]
SEND: Scope = "send"
FULL: Scope = "full"


class Principal(NamedTuple):
    """An authenticated member, and by which key."""

    did: str
    key_id: str
    scope: Scope = SEND
    #: The category of sends by this key that name none; None: `bulk`. It is never a limit.
    category: str | None = None


class Operator(NamedTuple):
    """The operator: the Unix user who gave the order, whom the kernel names. Under sudo that is root."""

    user: str


class Stranger(NamedTuple):
    """Anybody: who follows a link in a mail, say. What a stranger may do, its arguments have to prove."""


Asker = Principal | Operator | Stranger
