"""Places of status streams, and which tickets were used: what the core knows of the streams of all its edges.

The invariant: **`streams_max` and `streams_per_member_max` are exact, and a ticket opens one stream**, whichever edges
are asked at the same time: a stream is opened when the core has given it a place. What an edge holds it gives back
stream by stream, or all at once when it is lost.

A ticket says by itself whose it is and when it expires (`relay.message.tokens.StreamTickets`), so it is remembered only
once it was used, and only for as long as it would be good. That is judged by a time that never goes back: a clock that
is set back makes no used ticket new.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Annotated, NamedTuple, Protocol

import msgspec

from relay.config_doors import HttpConfig
from relay.refusals import Refusal
from relay.times import SECOND_US

TICKET_SECONDS = 60
RETRY_AFTER_SECONDS = 30
#: Used in the last minute by all members together; each costs some two hundred octets.
USED_TICKETS_MAX = 100_000


class TicketUse(NamedTuple):
    """Of a ticket that was opened: what makes it one of its kind, and when it ends."""

    nonce: Annotated[bytes, msgspec.Meta(max_length=64)]
    expires_at: int


class Places(Protocol):
    """Where an edge gets places for its streams: of the core, by a call or over a channel."""

    async def take(self, did: str, ticket: TicketUse | None, session: str | None = None) -> float | None:
        """A place for one more stream of this member; `ticket`, where it was asked for by one, is used from now on.
        `session`: the key id of whoever asks, where that is a session that the operator vouched for, which only the
        core knows (`relay.console_links`). For so many seconds the stream may be there; None: no end is known.

        Raises Refusal: RATE_LIMITED, TEMPORARILY_UNAVAILABLE, or AUTH_FAILED where the ticket is used or too old, or
        the session over. Cancelled: no place was taken.
        """

    def leave(self, did: str) -> None:
        """One stream of the member has ended. Never waits."""


class StreamPlaces:
    """All of a relay's. `now_us`: the time to decide by. `session_ends`: when that of a member is over, by its key id;
    0: there is none."""

    def __init__(
        self,
        limits: Callable[[], HttpConfig],
        now_us: Callable[[], int],
        session_ends: Callable[[str, str], int] = lambda did, session: 0,
    ) -> None:
        self._limits = limits
        self._now_us = now_us
        self._session_ends = session_ends
        #: Who admits streams in the place of `admit`: where the relay runs on several nodes, the one that leads.
        self.admitted_by: Callable[[str, TicketUse | None, str | None], Awaitable[float | None]] | None = None
        #: No ticket that was issued before is good: which of those were used, another knew.
        self.tickets_from_us = 0
        self._count = 0
        self._of_members: Counter[str] = Counter()
        #: The greatest time that a ticket was judged by.
        self._latest_us = 0
        self._used: set[bytes] = set()
        #: When each was used, in that order.
        self._used_at: deque[tuple[int, bytes]] = deque()

    @property
    def count(self) -> int:
        return self._count

    def held(self) -> HeldPlaces:
        """For one edge."""
        return HeldPlaces(self)

    def admit(self, did: str, ticket: TicketUse | None, session: str | None) -> float | None:
        """What `Places.take` does but for the place: the ticket is used, the session looked up."""
        left = None if session is None else self._seconds_left(did, session)
        if ticket is not None:
            self._use(ticket)
        return left

    def _use(self, ticket: TicketUse) -> None:
        """Raises Refusal where it was used, or is too old."""
        self._latest_us = now_us = max(self._latest_us, self._now_us())
        while self._used_at and self._used_at[0][0] + TICKET_SECONDS * SECOND_US < now_us:
            self._used.discard(self._used_at.popleft()[1])
        issued_at = ticket.expires_at - TICKET_SECONDS * SECOND_US
        if ticket.expires_at <= now_us or ticket.nonce in self._used or issued_at < self.tickets_from_us:
            raise no_such_ticket()
        if len(self._used) >= USED_TICKETS_MAX:
            raise Refusal(
                "TEMPORARILY_UNAVAILABLE",
                "too many tickets were used in the last minute; try again, or use the headers",
                retry_after_seconds=TICKET_SECONDS,
            )
        self._used.add(ticket.nonce)
        self._used_at.append((now_us, ticket.nonce))

    def _seconds_left(self, did: str, session: str) -> float:
        """Raises Refusal where it is over."""
        left = self._session_ends(did, session) - self._now_us()
        if left <= 0:
            raise Refusal("AUTH_FAILED", "this session is over; sign in again")
        return left / SECOND_US

    def _take(self, did: str) -> None:
        of_member = self._of_members.get(did, 0)
        if of_member >= self._limits().streams_per_member_max:
            raise Refusal(
                "RATE_LIMITED",
                f"you have {of_member} streams open, the most; close one",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if self._count >= self._limits().streams_max:
            raise no_more_streams()
        self._of_members[did] += 1
        self._count += 1

    def _free(self, did: str, places: int) -> None:
        self._count -= places
        self._of_members[did] -= places
        if not self._of_members[did]:
            del self._of_members[did]


class HeldPlaces(Places):
    """Those of one edge. `did in held`: whether it has a stream of this member, or is about to."""

    def __init__(self, places: StreamPlaces) -> None:
        self._places = places
        self._held: Counter[str] = Counter()
        self._is_lost = False

    def __contains__(self, did: object) -> bool:
        return did in self._held

    async def take(self, did: str, ticket: TicketUse | None, session: str | None = None) -> float | None:
        self._check_not_lost()
        if self._places.admitted_by is None:
            left = self._places.admit(did, ticket, session)
        else:
            left = await self._places.admitted_by(did, ticket, session)
            self._check_not_lost()
        self._places._take(did)
        self._held[did] += 1
        return left

    def _check_not_lost(self) -> None:
        if self._is_lost:
            # It had asked before it ended: nobody would ever give the place back.
            raise no_more_streams()

    def leave(self, did: str) -> None:
        if did not in self._held:
            return  # what an edge does not hold it cannot give back
        self._places._free(did, 1)
        self._held[did] -= 1
        if not self._held[did]:
            del self._held[did]

    def lose(self) -> None:
        """The edge has ended, and its streams with it. It gets no place any more."""
        self._is_lost = True
        for did, places in self._held.items():
            self._places._free(did, places)
        self._held.clear()


def no_such_ticket() -> Refusal:
    return Refusal("AUTH_FAILED", f"the ticket is not known, used, or older than {TICKET_SECONDS} seconds")


def no_more_streams() -> Refusal:
    return Refusal(
        "TEMPORARILY_UNAVAILABLE",
        "the relay can open no more streams now; try again, or use /v1/events",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
