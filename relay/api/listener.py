"""Where clients come in: each connection is let in, told to wait, or turned away.

The invariant: **a connection is served only when it has a place** (`relay.api.places`). One is accepted and held in the
hand until it has; all others stand in the kernel's queue meanwhile, where they cost the relay nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

import trio

from relay.api.answers import Answer
from relay.api.clients import Clients
from relay.api.connection import Connection
from relay.api.places import Places
from relay.presentation import ErrorAnswer

#: Of what somebody who is turned away has said already.
_READ_BYTES_MAX = 64 * 1024


class PatientListener(trio.abc.Listener[Connection]):
    """Accepts a connection when there is a place for it, which is then its own to leave."""

    def __init__(self, listener: trio.SocketListener, clients: Clients, places: Places) -> None:
        self._listener = listener
        self._clients = clients
        self._places = places

    async def accept(self) -> Connection:
        """Raises as trio's listener does; no place is taken then, nor where it is cancelled."""
        while True:
            stream = await self._listener.accept()
            try:
                try:
                    client = self._clients.known(stream.socket.getpeername()[0])
                except OSError:  # it is gone already
                    stream.socket.close()
                    continue
                if not self._places.admits(client):
                    _turn_away(stream.socket)
                    continue
                connection = Connection(stream, client, self._places)
                await self._places.take(connection)
            except BaseException:
                stream.socket.close()
                raise
            return connection

    async def aclose(self) -> None:
        await self._listener.aclose()


def too_many(what: str) -> Answer:
    """There is too much of one address."""
    sentence = f"there are too many {what} from your address at a time; wait until some of them have ended"
    return Answer.of(ErrorAnswer(sentence, "RATE_LIMITED"), 429, ("Retry-After", "1"))


def _turn_away(socket: trio.socket.SocketType) -> None:
    """Answer without waiting for what will be asked. What has come already is read: a socket that is closed on unread
    words takes back what it has said."""
    with suppress(OSError):  # it is gone, which is what is wanted of it
        os.write(socket.fileno(), _TOO_MANY_CONNECTIONS)
        os.read(socket.fileno(), _READ_BYTES_MAX)
    socket.close()


def _closing(answer: Answer) -> bytes:
    """As it is on the wire, of an answer after which the connection is closed."""
    lines = [b"HTTP/1.1 %d " % answer.status]
    lines += [name + b": " + value for name, value in (*answer.raw_headers(), (b"connection", b"close"))]
    return b"\r\n".join([*lines, b"", answer.body])


_TOO_MANY_CONNECTIONS = _closing(too_many("connections"))
