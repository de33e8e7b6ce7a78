"""How many HTTP connections there may be at a time, and what becomes of one more: it waits.

The invariant: **a connection is accepted only when there is a place for it.** Until then it stands in the kernel's
queue, where it costs the relay nothing, and is served when another ends; nobody is refused. A connection without a
valid request ends within `keep_alive_timeout` and a quarter of a minute, and no client decides how long another lives
(`relay.api.server`), so every place comes free. It costs a connection an addition and a subtraction, and a request
nothing.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

logger = logging.getLogger(__name__)

#: A server at its bound fills up again and again; it says so this often at most.
FULL_SAID_SECONDS_MIN: Final = 60.0


class Places:
    """Room for so many connections at a time."""

    def __init__(self, connections_max: int) -> None:
        self._connections_max = connections_max
        self._free = trio.Semaphore(connections_max)
        self._full_said_at = float("-inf")
        #: Connections that have a place. A listener that waits for one to come holds a place as well.
        self.connections = 0

    async def take(self) -> None:
        """Wait for a place and take it. Cancelled: none is taken."""
        if not self._free.value:
            self._say_full()
        await self._free.acquire()

    def give_back(self) -> None:
        """A place that no connection came for."""
        self._free.release()

    def come(self) -> None:
        """A connection has come, and has the place that was taken for it."""
        self.connections += 1

    def leave(self) -> None:
        """It gives its place back."""
        self.connections -= 1
        self._free.release()

    def _say_full(self) -> None:
        if trio.current_time() >= self._full_said_at + FULL_SAID_SECONDS_MIN:
            self._full_said_at = trio.current_time()
            logger.warning("http.connections_full", extra={"connections_max": self._connections_max})


class PatientListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts a connection when there is a place for it, which is then its own to give back."""

    def __init__(self, listener: trio.SocketListener, places: Places) -> None:
        self._listener = listener
        self._places = places

    async def accept(self) -> trio.SocketStream:
        """Raises as trio's listener does; no place is taken then, nor where it is cancelled."""
        await self._places.take()
        try:
            stream = await self._listener.accept()
        except BaseException:
            self._places.give_back()
            raise
        self._places.come()
        return stream

    async def aclose(self) -> None:
        await self._listener.aclose()
