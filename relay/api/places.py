"""Who may be connected: how many at a time, how many of one address, and who gives way when there is no more room.

The invariant: **nobody waits for a client that does nothing.** A connection *rests* while it waits for a request's
head, also before its first one, and while it waits for the rest of a request that was answered already. When all places
are taken, and another one comes, the connection that has rested for longest gives way at once, but that a new one has a
moment to say its first word. One that is at work never does; so only where all are at work does whoever comes wait, in
the kernel's queue, until one of them ends or comes to rest.

A rest has an end, too: a first head has HEAD_SECONDS_MAX to come, each further one as long as connections are kept
alive, and half a head changes nothing. No client decides how long its connection lives (`relay.api.connection`).

Of one address there are `[http] connections_per_address_max` connections; one more is answered 429 and closed. It is
not the address's own resting ones that give way: a client that opens more than it may is told so, and its other
connections, which it may be about to use, stay.

It costs a connection two entries and a request two changes of one; nothing here is a task, and nothing has a deadline
of its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

import trio

from relay.api.clients import Client

logger = logging.getLogger(__name__)

#: So long the first head has, from the moment of connecting.
HEAD_SECONDS_MAX = 10.0
#: A server at its bound fills up again and again; it says so this often at most.
FULL_SAID_SECONDS_MIN: Final = 60.0
#: A new connection has so long for the first word of its head, even where others wait for its place: else many that
#: come together would close each other before any of them can ask.
FIRST_WORD_SECONDS: Final = 0.1
#: So many that rest are asked whether something has come from them that nobody has read yet. Closing such a connection
#: would lose a request.
ASKED_MAX: Final = 32

#: Why a client was turned away: the labels of `atmos_http_turned_away`.
WHY: Final = (
    "connections_per_address",
    "requests_per_address",
    "gave_way",
    "no_head",
    "not_http",
    "never_read",
)


class Guest(Protocol):
    """A connection, as places know it."""

    client: Client | None
    #: It has asked for something already.
    has_asked: bool

    def has_more_to_read(self) -> bool: ...

    def end(self) -> None: ...


class Places:
    """Room for so many connections at a time."""

    def __init__(
        self,
        connections_max: int,
        *,
        per_address_max: int | None = None,
        count_turned_away: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._connections_max = connections_max
        self._per_address_max = per_address_max
        #: Called with one of WHY.
        self.count_turned_away = count_turned_away
        #: Who has a place, and what it is counted under; None: it has no limit.
        self._guests: dict[Guest, str | None] = {}
        #: How many have each address.
        self._of_address: dict[str, int] = {}
        #: Who rests, and since when; the longest rest comes first.
        self._resting: dict[Guest, float] = {}
        #: Set when there may be a place. None: nobody waits for one.
        self._news: trio.Event | None = None
        self._said_at: dict[str, float] = {}

    @property
    def connections(self) -> int:
        """Connections that have a place."""
        return len(self._guests)

    def admits(self, client: Client | None) -> bool:
        """Whether there may be one more of this address. Where not, it is counted as turned away."""
        counted_as = self._counted_as(client)
        if counted_as is None or self._per_address_max is None:
            return True
        if self._of_address.get(counted_as, 0) < self._per_address_max:
            return True
        self.count_turned_away("connections_per_address")
        self._say("http.address_full", connections_per_address_max=self._per_address_max)
        return False

    async def take(self, guest: Guest) -> None:
        """Wait for a place; it then rests there. Cancelled: it has none."""
        while len(self._guests) >= self._connections_max:
            self._say("http.connections_full", connections_max=self._connections_max)
            longest, until = self._next_to_give_way()
            if longest is not None and trio.current_time() >= until:
                self._give_way(longest)
            else:
                await self._wait(until)
        counted_as = self._guests[guest] = self._counted_as(guest.client)
        if counted_as is not None:
            self._of_address[counted_as] = self._of_address.get(counted_as, 0) + 1
        self._resting[guest] = trio.current_time()

    def leave(self, guest: Guest) -> None:
        """Give the place back; of one that has none, nothing."""
        if guest not in self._guests:
            return
        self._resting.pop(guest, None)
        counted_as = self._guests.pop(guest)
        if counted_as is not None:
            self._of_address[counted_as] -= 1
            if not self._of_address[counted_as]:
                del self._of_address[counted_as]
        self._tell()

    def work(self, guest: Guest) -> None:
        """A head has come."""
        self._resting.pop(guest, None)
        self._tell()

    def rest(self, guest: Guest) -> None:
        """It waits for the next head, or for the rest of a request that was answered already."""
        if guest in self._guests:
            self._resting.pop(guest, None)  # or it would keep its place in the order
            self._resting[guest] = trio.current_time()
            self._tell()

    def end_long_rests(self, now: float, *, keep_alive_seconds: float) -> None:
        """End those whose head has not come in its time."""
        first_seconds = min(HEAD_SECONDS_MAX, keep_alive_seconds)
        for guest, since in list(self._resting.items()):
            if now >= since + (keep_alive_seconds if guest.has_asked else first_seconds):
                if not guest.has_asked:
                    self.count_turned_away("no_head")
                guest.end()

    def end_all_rests(self) -> None:
        for guest in list(self._resting):
            guest.end()

    async def _wait(self, until: float) -> None:
        """Until there is news, or that time has come."""
        if self._news is None:
            self._news = trio.Event()
        with trio.move_on_at(until):
            await self._news.wait()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    def _next_to_give_way(self) -> tuple[Guest | None, float]:
        """Who has rested for longest, of those from whom nothing has come that is not read, and when it has to go."""
        asked = list(islice(self._resting, ASKED_MAX))
        silent = next((guest for guest in asked if not guest.has_more_to_read()), None)
        if silent is not None:
            since = self._resting[silent]
            return silent, since if silent.has_asked else since + FIRST_WORD_SECONDS
        if asked:  # what has come from all of them will be read at once, if it is a request
            return asked[0], self._resting[asked[0]] + FIRST_WORD_SECONDS
        return None, math.inf

    def _give_way(self, guest: Guest) -> None:
        self.count_turned_away("gave_way")
        self.leave(guest)
        guest.end()

    @staticmethod
    def _counted_as(client: Client | None) -> str | None:
        return None if client is None or client.is_trusted else client.counted_as

    def _say(self, what: str, **limit: int) -> None:
        if trio.current_time() >= self._said_at.get(what, float("-inf")) + FULL_SAID_SECONDS_MIN:
            self._said_at[what] = trio.current_time()
            logger.warning(what, extra=limit)
