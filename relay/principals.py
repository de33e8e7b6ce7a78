"""Who asks: a member by one of its keys, the operator by a Unix user's name, or a stranger.

Whatever is decided is decided for one of these, whichever door it came in by.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

#: What a key may be used for. `send`: to send, and to read back what became of it and who is suppressed. `full`: for
#: all that a member may do, such as changing its keys, its domains, its suppression list and who hears of its bounces.
Scope = Literal["send", "full"]
SEND: Scope = "send"
FULL: Scope = "full"

#: So begins the key id of a member's session in the console that has no key, because the operator vouched for it.
VOUCHED = "console:"


class Principal(NamedTuple):
    """An authenticated member, and by which key."""

    did: str
    key_id: str
    scope: Scope = SEND
    #: The category of sends by this key that name none; None: `bulk`. It is never a limit.
    category: str | None = None

    @property
    def is_vouched(self) -> bool:
        """Known by no key but by the operator's word (`relay.console_links`)."""
        return self.key_id.startswith(VOUCHED)


class Operator(NamedTuple):
    """The operator: the Unix user who gave the order, whom the kernel names. Under sudo that is root."""

    user: str


def recorded(by: Principal | Operator) -> dict[str, Any]:
    """Whose order it is, in the words that events have for it."""
    return {"key_id": by.key_id} if isinstance(by, Principal) else {"by": by.user}


class Stranger(NamedTuple):
    """Anybody: who follows a link in a mail, say. What a stranger may do, its arguments have to prove."""


Asker = Principal | Operator | Stranger
