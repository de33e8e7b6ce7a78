"""One HTTP connection, as hypercorn has its stream, and as others can end it.

The invariant: **no client decides how long a connection lives.** A write that its client does not take ends it, so does
a websocket's peer that says nothing in spite of pings, or does not answer a close frame; and whatever is under way in
it, `end` closes the socket, which no shield keeps from being noticed.
"""

from __future__ import annotations

import select
from contextlib import suppress

import trio

from relay.api.clients import Client
from relay.api.places import Places

#: One write is one answer, or a piece of it; a client that does not take it in so long, or a quarter more, is cut off.
WRITE_SECONDS_MAX = 60.0
#: A websocket's peer is cut off at the first write after it has said nothing for so long: not even a pong. A reader
#: that reads nothing answers no pings either.
SILENT_SECONDS_MAX = 75.0
#: A close frame is answered within so long, or the connection ends without.
CLOSE_SECONDS_MAX = 5.0
#: So long a client that was refused has to read why.
LINGER_SECONDS_MAX = 2.0

_UPGRADED = b"HTTP/1.1 101 "
_CLOSE_FRAME = 0x88


class Connection(trio.abc.HalfCloseableStream):
    """Made by the listener; it is served when it has a place."""

    def __init__(self, stream: trio.SocketStream, client: Client | None, places: Places) -> None:
        self._stream = stream
        self._places = places
        self.socket = stream.socket
        self.client = client
        self.has_asked = False
        #: There is no more to be said: a write has failed, a websocket has ended, or somebody ended it.
        self._is_over = False
        self._writing_since: float | None = None
        self._is_websocket = False
        self._heard_at = trio.current_time()
        self._scope: trio.CancelScope | None = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._websocket_is_over()
            raise
        self._heard_at = trio.current_time()
        if not data:
            self._websocket_is_over()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Called behind a shield, with whole frames. Raises BrokenResourceError or ClosedResourceError, and then the
        connection ends."""
        if self._is_over:
            raise trio.ClosedResourceError
        self._writing_since = trio.current_time()
        try:
            if self._is_websocket and self._writing_since - self._heard_at > SILENT_SECONDS_MAX:
                raise trio.BrokenResourceError("the peer of this websocket is silent")
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end()
            raise
        except trio.BusyResourceError:  # the connection is just being closed
            self.end()
            raise trio.BrokenResourceError from None
        self._writing_since = None
        if self._is_websocket and data[0] == _CLOSE_FRAME:
            assert self._scope is not None
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + CLOSE_SECONDS_MAX)
        elif data[: len(_UPGRADED)] == _UPGRADED:
            self._is_websocket = True
            self._places.leave(self)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        if self.socket.fileno() < 0:
            return  # it was closed before, and nobody has to be let in between
        await self._stream.aclose()
        self._websocket_is_over()

    async def linger(self) -> None:
        """Say no more, and let the client read what was said: a socket that is closed on unread words takes back what
        it has said last (RFC 9112, 9.6). Until then it rests, and may have to give way."""
        self.rest()
        with (
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
            trio.move_on_after(LINGER_SECONDS_MAX),
        ):
            await self._stream.send_eof()
            while await self._stream.receive_some():
                pass

    def has_more_to_read(self) -> bool:
        """Something has come that nobody has read, be it the end."""
        descriptor = self.socket.fileno()
        if descriptor < 0:  # closed, and about to leave
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def work(self) -> None:
        """A request's head has come."""
        self.has_asked = True
        self._places.work(self)

    def rest(self) -> None:
        """It waits for a request's head."""
        self._places.rest(self)

    def served_in(self, scope: trio.CancelScope) -> None:
        """All that is done on it, is done in this scope."""
        self._scope = scope
        if self._is_over:
            scope.cancel()

    def end(self) -> None:
        """Whatever is under way: its tasks are cancelled, and at their end it is closed. A write is shielded from that
        by hypercorn: under it the socket is closed now, which no shield keeps from being noticed."""
        self._is_over = True
        if self._scope is not None:
            self._scope.cancel()
        if self._writing_since is not None:
            self.socket.close()

    def end_if_stuck(self, now: float) -> bool:
        """End it where its client has not taken what is being written, for WRITE_SECONDS_MAX. Whether that was so."""
        if self._is_over or self._writing_since is None or now < self._writing_since + WRITE_SECONDS_MAX:
            return False
        self.end()
        return True

    def _websocket_is_over(self) -> None:
        """Else hypercorn would wait until its task that sends pings wakes up."""
        if self._is_websocket:
            self.end()
