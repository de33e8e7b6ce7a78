"""Connections to endpoints that are kept between two requests, and for how long.

The invariant: **an endpoint has one connection at most, and what rests is bounded**: each for REST_SECONDS, and
RESTING_MAX of all together; of more, the one that has rested for longest is closed. So a thousand endpoints with
nothing to hear cost no sockets.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Final, NamedTuple

import trio

from relay.internet.https import FetchLimits, KeptConnection, Permits, Url, parse_url
from relay.surroundings import Surroundings

REST_SECONDS: Final = 30.0
RESTING_MAX: Final = 256
#: Of an answer only the status counts; it is read so far that the connection can be used again.
LIMITS: Final = FetchLimits(seconds_max=20.0, head_bytes_max=16 * 1024, body_bytes_max=16 * 1024)


class _Resting(NamedTuple):
    where: Url
    connection: KeptConnection
    until: float


class Connections:
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._resolver = cache(surroundings.dns)  # made when first wanted
        #: The one that has rested for longest first.
        self._resting: OrderedDict[str, _Resting] = OrderedDict()

    async def take(self, who: str, url: str, permits: Permits) -> KeptConnection:
        """The endpoint's own; it is taken until `give_back`. Raises FetchError for a URL that is not to be asked."""
        # What was permitted when it was made may be so no more: then it rests until its time is over.
        where = parse_url(url, permits)
        resting = self._resting.pop(who, None)
        if resting is not None:
            if resting.where == where:
                return resting.connection
            await resting.connection.aclose()
        return self.new(url, permits)

    def new(self, url: str, permits: Permits) -> KeptConnection:
        """One that is not kept here. Raises FetchError for a URL that is not to be asked."""
        return KeptConnection(
            url,
            resolver=self._resolver(),
            permits=permits,
            open_stream=self._surroundings.open_stream,
            tls=self._surroundings.tls,
            limits=LIMITS,
        )

    async def give_back(self, who: str, connection: KeptConnection) -> None:
        if not connection.is_open:
            return
        until = trio.current_time() + REST_SECONDS
        self._resting[who] = _Resting(connection.where, connection, until)
        if len(self._resting) > RESTING_MAX:
            _, oldest = self._resting.popitem(last=False)
            await oldest.connection.aclose()

    async def close(self, who: str) -> None:
        """That of an endpoint that is asked no more."""
        resting = self._resting.pop(who, None)
        if resting is not None:
            await resting.connection.aclose()

    async def close_rested(self) -> None:
        """Those whose time is over."""
        while (deadline := self.next_deadline()) is not None and deadline <= trio.current_time():
            _, oldest = self._resting.popitem(last=False)
            await oldest.connection.aclose()

    def next_deadline(self) -> float | None:
        return next((resting.until for resting in self._resting.values()), None)

    async def close_all(self) -> None:
        for who in list(self._resting):
            await self.close(who)
