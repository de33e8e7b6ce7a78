"""HTTP/1.1 between two nodes, as both sides of it speak it.

    POST /ask HTTP/1.1
    Host: NAME.node.invalid
    Transfer-Encoding: chunked

    length of the question (4 octets, big-endian) | the question | nothing, or CANCEL

    200: answered; the body is the answer. 204: it was cancelled, and nothing was done.
    400, 403, 421, 503: it was not carried out, and will not be; the body is empty. (It is no question; who asks is no
    node; this node does not lead; it has no room for it.)

The body of a request ends when its answer has come, or with the next request on that connection: so who asks can say in
the meantime that it wants no answer any more, on the connection on which it has asked, and nothing overtakes anything.
One question at a time on a connection. What ends a connection within a question ends that question: what is being done
for it is cancelled, if it can be yet.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

import h11
import trio

from relay.networks import counted_as, parse_address

TARGET: Final = "/ask"
CANCEL: Final = b"\x18"
LENGTH: Final = struct.Struct(">I")
#: Of one question, or one answer: more than any door takes.
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
HEAD_BYTES_MAX: Final = 4096

ANSWERED: Final = 200
NOTHING_DONE: Final = 204
NO_QUESTION: Final = 400
NO_NODE: Final = 403
NOT_LEADING: Final = 421
NO_ROOM: Final = 503

_READ_BYTES: Final = 64 * 1024
#: Seconds. A machine that is gone says nothing: after these the kernel says that it is.
_KEEPALIVE_IDLE: Final = 2
_KEEPALIVE_INTERVAL: Final = 1
_KEEPALIVE_COUNT: Final = 3
_UNACKNOWLEDGED_MS: Final = 5000


class Spoken:
    """One connection: what is sent and received over TLS, as events of h11."""

    def __init__(self, stream: trio.SSLStream[trio.abc.Stream], role: type[h11.CLIENT | h11.SERVER]) -> None:
        self.stream = stream
        self.http = h11.Connection(role, max_incomplete_event_size=HEAD_BYTES_MAX)
        #: The other side has closed, within a request perhaps: the end of the last one goes with the next.
        self.has_ended = False

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        """The next that has come. Raises h11.RemoteProtocolError, trio.BrokenResourceError."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # it is one, or PAUSED
            octets = await self.stream.receive_some(_READ_BYTES)
            self.has_ended = not octets
            self.http.receive_data(bytes(octets))

    def octets_of(self, *events: h11.Event) -> bytes:
        return b"".join(self.http.send(event) or b"" for event in events)

    async def close(self) -> None:
        """At once, whatever is under way."""
        await trio.aclose_forcefully(self.stream)


def address_of(transport: trio.abc.Stream) -> str:
    """What stands for the other end where addresses are counted. Empty: it is gone already, or has none."""
    if not isinstance(transport, trio.SocketStream):
        return ""
    try:
        return counted_as(parse_address(transport.socket.getpeername()[0]))
    except OSError:
        return ""


def mind_the_peer(transport: trio.abc.Stream) -> None:
    """Learn within seconds that the machine at the other end is gone: tcp(7)."""
    if not isinstance(transport, trio.SocketStream):
        return
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
