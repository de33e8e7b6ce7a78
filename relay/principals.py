"""Who asks: a member by one of its keys, the operator by a Unix user's name, or a stranger.

Whatever is decided is decided for one of these, whichever door it came in by.
"""

from __future__ import annotations

from typing import NamedTuple


class Principal(NamedTuple):
    """An authenticated member, and by which key."""

    did: str
    key_id: str


class Operator(NamedTuple):
    """The operator: the Unix user who gave the order, whom the kernel names. Under sudo that is root."""

    user: str


class Stranger(NamedTuple):
    """Anybody: who follows a link in a mail, say. What a stranger may do, its arguments have to prove."""


Asker = Principal | Operator | Stranger
