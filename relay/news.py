"""What an edge in another process has to hear without asking: whose events have come, and which keys were revoked.

The invariant: **what is not yet told costs no more than NAMES_MAX names, and nothing is ever missed.** It is a set, not
a queue: a member whose events come faster than its edge hears of them is named once. When there are too many names,
what is told is "everybody" and "look at all keys", which means the same and more.

An edge is told what concerns it: members that have a stream there. It hears of an event after that is durable and in
the views, so whoever looks when he hears finds it. And the other way round: an edge that first gets its place, then
listens, and then looks at the views, has missed nothing (`relay.streams` does it in this order).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, TypeVar

import msgspec
import trio

from relay.codec import Recorded
from relay.events import ConsoleEpochRaised, KeyRevoked, OwnedEvent

NAMES_MAX: Final = 1000

T = TypeVar("T")


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """What is told at a time."""

    #: Members with something new; None: it may be any.
    dids: tuple[str, ...] | None = ()
    #: Member and key id; None: it may be any.
    revoked: tuple[tuple[str, str], ...] | None = ()


class News:
    """Of one edge; `observe` must be one of the views' observers. `listening`: the members that have a stream there."""

    def __init__(self, listening: Container[str]) -> None:
        self._listening = listening
        # Dicts, so that they are told in the order in which they came.
        self._dids: dict[str, None] = {}
        self._revoked: dict[tuple[str, str], None] = {}
        self._any_key = False
        self._there_is_some = trio.Event()

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """Called once a batch, right after it became durable and its views can be read."""
        for _, _, event in recorded:
            if event.STREAMED:
                assert isinstance(event, OwnedEvent)
                if event.did in self._listening:
                    _remember(self._dids, event.did)
                    self._there_is_some.set()
            elif isinstance(event, KeyRevoked):
                self.revoked(event.did, event.key_id)
            elif isinstance(event, ConsoleEpochRaised):
                # Sessions that the operator vouched for are over, and they count as keys.
                self._any_key = True
                self._there_is_some.set()

    def revoked(self, did: str, key_id: str) -> None:
        """A session that the operator vouched for is over. It counts as a key, and its end is no event."""
        if did in self._listening:
            _remember(self._revoked, (did, key_id))
            self._there_is_some.set()

    async def next(self) -> Heard:
        """What has not been told yet, as soon as there is some. Cancelled: it is told the next time.

        Whoever sends it should ask for more only when it was received: else it piles up on the way.
        """
        await self._there_is_some.wait()
        heard = Heard(_told(self._dids), None if self._any_key else _told(self._revoked))
        self._any_key = False
        self._dids, self._revoked = {}, {}
        self._there_is_some = trio.Event()
        return heard


def _remember(names: dict[T, None], name: T) -> None:
    if len(names) <= NAMES_MAX:
        names[name] = None


def _told(names: dict[T, None]) -> tuple[T, ...] | None:
    return None if len(names) > NAMES_MAX else tuple(names)
