"""Open status streams of one edge and tickets for them: who listens, who is woken, and who has to leave.

The invariant: **a stream costs its place here and a task that waits; it is woken by an event of its own member and by
nothing else.** No timers, no polling, and nothing is held for a reader: what it has not read yet is in the log.

A stream ends at once when the key that opened it is revoked, when the session of the console that opened it is over,
when the relay stops, and when this node's log is not that of the others (`relay.nodes.trouble`). A suspended member may
go on reading.

How many there may be the core decides, for all edges together (`relay.stream_places`). Of what happens an edge in the
core's process sees every batch (`observe`); another is told (`hear`).

Tickets are for browsers, which cannot set headers: good for 60 seconds and for one stream. Each is sealed with a key
that the core makes when it starts, so any of its edges opens what another has issued, and none outlives it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import NamedTuple

import trio

from relay.authentication import is_active_key
from relay.codec import Recorded
from relay.events import ConsoleEpochRaised, KeyRevoked, OwnedEvent
from relay.message.tokens import TICKET_NONCE_OCTETS, StreamTickets, Ticket
from relay.news import Heard
from relay.principals import Principal
from relay.refusals import Refusal
from relay.stream_places import TICKET_SECONDS, Places, TicketUse, no_more_streams
from relay.times import SECOND_US
from spool.views import Snapshot

#: A browser needs one for each connection that it opens. Of an edge: the core counts what is used, not what is issued.
TICKETS_PER_MEMBER_MAX = 100


class Ending(NamedTuple):
    """Why the relay closes a stream: a websocket close code (RFC 6455, 7.4.1) and a sentence of at most 123 bytes."""

    code: int
    reason: str


STOPPING = Ending(1001, "the relay is stopping; reconnect with the last seq")
#: What clients do at that code is right here, too: another node has what comes behind their last event.
ELSEWHERE = Ending(1001, "this node cannot go on with the log of the others; reconnect with the last seq")
KEY_REVOKED = Ending(1008, "the API key that opened this stream was revoked")
SESSION_OVER = Ending(1008, "the session that opened this stream is over; sign in again")


class Subscriber:
    """One open stream. Made by `Streams.open`."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        #: Set once it has to leave; nothing more may be sent then.
        self.ending: Ending | None = None
        #: When its session is over, by trio's clock.
        self.until = math.inf
        self._news = trio.Event()

    async def wait(self) -> None:
        """Until there may be something new, or an ending. Look for it after this, not before: then none is missed."""
        with trio.move_on_at(self.until):
            await self._news.wait()
        self._news = trio.Event()
        if trio.current_time() >= self.until:
            self.ending = self.ending or SESSION_OVER

    def wake(self) -> None:
        self._news.set()

    def end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        self.wake()


class Streams:
    """All of an edge's. Either `observe` is one of the views' observers, or `hear` is called with what `relay.news`
    tells. `seal`: of the core's key."""

    def __init__(
        self,
        places: Places,
        read: Callable[[], AbstractContextManager[Snapshot]],
        seal: Callable[[], StreamTickets],
        randbytes: Callable[[int], bytes],
    ) -> None:
        self._places = places
        self._read = read
        self._seal = seal
        self._randbytes = randbytes
        self._open: dict[str, set[Subscriber]] = {}
        self._count = 0
        self._stopping = False
        #: What was issued here and has not been used here, by member; and all that was issued, the oldest first.
        self._unused: dict[str, set[bytes]] = {}
        self._issued: deque[Ticket] = deque()

    @property
    def count(self) -> int:
        return self._count

    @asynccontextmanager
    async def open(self, principal: Principal, ticket: TicketUse | None = None) -> AsyncIterator[Subscriber]:
        """A place for one stream; a ticket is used up by it, or by the attempt. Raises Refusal: RATE_LIMITED,
        TEMPORARILY_UNAVAILABLE, or AUTH_FAILED where the ticket is used or the key was revoked meanwhile.

        From when this has begun whatever happens to the member wakes the subscriber: what was before, the views have.
        """
        if self._stopping:
            raise no_more_streams()
        if ticket is not None:
            self._no_more_unused(principal.did, ticket.nonce)
        subscriber = Subscriber(principal)
        # Before the core has given the place: that a session is over is told once, and stands in no view.
        self._open.setdefault(principal.did, set()).add(subscriber)
        try:
            session = principal.key_id if principal.is_vouched else None
            left = await self._places.take(principal.did, ticket, session)
            if left is not None:
                subscriber.until = trio.current_time() + left
            self._count += 1
            try:
                # A place may take its time. A revocation before this look is seen by it, and any later one ends the
                # stream.
                self._check(subscriber)
                yield subscriber
            finally:
                self._count -= 1
                self._places.leave(principal.did)
        finally:
            of_member = self._open[principal.did]
            of_member.discard(subscriber)
            if not of_member:
                del self._open[principal.did]

    def _check(self, subscriber: Subscriber) -> None:
        if self._stopping or subscriber.ending is ELSEWHERE:
            raise no_more_streams()
        with self._read() as view:
            if subscriber.ending is not None or not is_active_key(view, subscriber.principal):
                raise Refusal("AUTH_FAILED", "the API key was revoked, or the session is over")

    # ------------------------------------------------------------------------------------------------ what happens

    def observe(self, recorded: Sequence[Recorded]) -> None:
        """Called once a batch, right after it became durable and its views can be read."""
        if not self._open:
            return
        for _, _, event in recorded:
            if event.STREAMED:
                assert isinstance(event, OwnedEvent)
                self._wake(event.did)
            elif isinstance(event, KeyRevoked):
                self.revoked(event.did, event.key_id)
            elif isinstance(event, ConsoleEpochRaised):
                self.hear(Heard((), None))

    def hear(self, heard: Heard) -> None:
        """Called in the order in which it was told. Raises ReadersFullError."""
        for did in self._open if heard.dids is None else heard.dids:
            self._wake(did)
        for did, key_id in self._revoked() if heard.revoked is None else heard.revoked:
            self.revoked(did, key_id)

    def _wake(self, did: str) -> None:
        for subscriber in self._open.get(did, ()):
            subscriber.wake()

    def revoked(self, did: str, key_id: str) -> None:
        """This key is good no more, or this session, which counts as one."""
        for subscriber in self._open.get(did, ()):
            if subscriber.principal.key_id == key_id:
                subscriber.end(SESSION_OVER if subscriber.principal.is_vouched else KEY_REVOKED)

    def _revoked(self) -> Iterable[tuple[str, str]]:
        """Of the keys that have opened streams here, those that are no good any more. Of sessions that cannot be seen
        here, so all are taken to be over: whoever still has one opens a stream anew."""
        principals = {one.principal for of_member in self._open.values() for one in of_member}
        with self._read() as view:
            return [
                (one.did, one.key_id) for one in principals if one.is_vouched or not is_active_key(view, one)
            ]

    def send_away(self) -> None:
        """End all streams: nothing more will come here, and other nodes have it."""
        self._end_all(ELSEWHERE)

    def stop(self) -> None:
        """End all streams, and open none any more."""
        self._stopping = True
        self._end_all(STOPPING)

    def _end_all(self, ending: Ending) -> None:
        for of_member in self._open.values():
            for subscriber in of_member:
                subscriber.end(ending)

    # ------------------------------------------------------------------------------------------------ tickets

    def issue_ticket(self, principal: Principal, now_us: int) -> tuple[str, int]:
        """A ticket, and until when it is good. Raises Refusal(RATE_LIMITED)."""
        while self._issued and self._issued[0].expires_at <= now_us:
            expired = self._issued.popleft()
            self._no_more_unused(expired.did, expired.nonce)
        own = len(self._unused.get(principal.did, ()))
        if own >= TICKETS_PER_MEMBER_MAX:
            raise Refusal(
                "RATE_LIMITED",
                f"you have {own} unused tickets, the most; use one, or wait until they expire",
                retry_after_seconds=TICKET_SECONDS,
            )
        expires_at = now_us + TICKET_SECONDS * SECOND_US
        nonce = self._randbytes(TICKET_NONCE_OCTETS)
        ticket = Ticket(principal.did, principal.key_id, principal.scope, expires_at, nonce)
        self._issued.append(ticket)
        self._unused.setdefault(principal.did, set()).add(nonce)
        return self._seal().seal(ticket), expires_at

    def open_ticket(self, ticket: str) -> tuple[Principal, TicketUse] | None:
        """Whom it was issued to, and what `open` wants of it; None where it is none. That it is neither used nor too
        old is judged there."""
        opened = self._seal().open(ticket)
        if opened is None:
            return None
        principal = Principal(opened.did, opened.key_id, opened.scope)
        return principal, TicketUse(opened.nonce, opened.expires_at)

    def _no_more_unused(self, did: str, nonce: bytes) -> None:
        unused = self._unused.get(did, set())
        unused.discard(nonce)
        if not unused:
            self._unused.pop(did, None)
