"""Open status streams and tickets for them: who listens, who is woken, and who has to leave.

The invariant: **a stream costs its place here and a task that waits; it is woken by an event of its own member and by
nothing else.** No timers, no polling, and nothing is held for a reader: what it has not read yet is in the log.

A stream ends at once when the key that opened it is revoked, and when the relay stops. A suspended member may go on
reading.

Tickets are for browsers, which cannot set headers: good for 60 seconds and for one stream. They live in memory and end
with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import trio

from relay.codec import Recorded
from relay.config import HttpConfig
from relay.events import KeyRevoked, OwnedEvent
from relay.principals import Principal
from relay.refusals import Refusal
from relay.times import SECOND_US

TICKET_SECONDS = 60
#: A browser needs one for each connection that it opens.
TICKETS_PER_MEMBER_MAX = 100
RETRY_AFTER_SECONDS = 30


class Ending(NamedTuple):
    """Why the relay closes a stream: a websocket close code (RFC 6455, 7.4.1) and a sentence of at most 123 bytes."""

    code: int
    reason: str


STOPPING = Ending(1001, "the relay is stopping; reconnect with the last seq")
KEY_REVOKED = Ending(1008, "the API key that opened this stream was revoked")


class Subscriber:
    """One open stream. Made by `Streams.open`."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        #: Set once it has to leave; nothing more may be sent then.
        self.ending: Ending | None = None
        self._news = trio.Event()

    async def wait(self) -> None:
        """Until there may be something new, or an ending. Look for it after this, not before: then none is missed."""
        await self._news.wait()
        self._news = trio.Event()

    def wake(self) -> None:
        self._news.set()

    def end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        self.wake()


class _Issued(NamedTuple):
    principal: Principal
    expires_at: int


class Streams:
    """All of a relay's; `observe` must be one of the views' observers."""

    def __init__(self, limits: Callable[[], HttpConfig], randbytes: Callable[[int], bytes]) -> None:
        self._limits = limits
        self._randbytes = randbytes
        self._open: dict[str, set[Subscriber]] = {}
        self._count = 0
        self._stopping = False
        self._tickets: dict[str, _Issued] = {}

    @property
    def count(self) -> int:
        return self._count

    @contextmanager
    def open(self, principal: Principal) -> Iterator[Subscriber]:
        """A place for one stream. Raises Refusal(RATE_LIMITED or TEMPORARILY_UNAVAILABLE).

        Open it without an `await` after authenticating, so that no revocation falls in between.
        """
        of_member = self._open.get(principal.did, set())
        if len(of_member) >= self._limits().streams_per_member_max:
            raise Refusal(
                "RATE_LIMITED",
                f"you have {len(of_member)} streams open, the most; close one",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if self._stopping or self._count >= self._limits().streams_max:
            raise Refusal(
                "TEMPORARILY_UNAVAILABLE",
                "the relay can open no more streams now; try again, or use /v1/events",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        subscriber = Subscriber(principal)
        self._open.setdefault(principal.did, of_member).add(subscriber)
        self._count += 1
        try:
            yield subscriber
        finally:
            self._count -= 1
            of_member.discard(subscriber)
            if not of_member:
                del self._open[principal.did]

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """Called once a batch, right after it became durable and its views can be read."""
        for _, _, event in recorded:
            if event.STREAMED:
                assert isinstance(event, OwnedEvent)
                for subscriber in self._open.get(event.did, ()):
                    subscriber.wake()
            elif isinstance(event, KeyRevoked):
                for subscriber in self._open.get(event.did, ()):
                    if subscriber.principal.key_id == event.key_id:
                        subscriber.end(KEY_REVOKED)

    def stop(self) -> None:
        """End all streams, and open none any more."""
        self._stopping = True
        for of_member in self._open.values():
            for subscriber in of_member:
                subscriber.end(STOPPING)

    def issue_ticket(self, principal: Principal, now_us: int) -> tuple[str, int]:
        """A ticket, and until when it is good. Raises Refusal(RATE_LIMITED)."""
        self._tickets = {
            ticket: issued for ticket, issued in self._tickets.items() if issued.expires_at > now_us
        }
        own = sum(issued.principal.did == principal.did for issued in self._tickets.values())
        if own >= TICKETS_PER_MEMBER_MAX:
            raise Refusal(
                "RATE_LIMITED",
                f"you have {own} unused tickets, the most; use one, or wait until they expire",
                retry_after_seconds=TICKET_SECONDS,
            )
        ticket = self._randbytes(32).hex()
        expires_at = now_us + TICKET_SECONDS * SECOND_US
        self._tickets[ticket] = _Issued(principal, expires_at)
        return ticket, expires_at

    def redeem_ticket(self, ticket: str, now_us: int) -> Principal | None:
        """Whom it was issued to; None where it is unknown, used or too old. It is used from now on."""
        issued = self._tickets.pop(ticket, None)
        if issued is None or issued.expires_at <= now_us:
            return None
        return issued.principal
