"""HTTP over TCP: hypercorn speaks it on every connection, in a loop of ours that can end each of them.

The invariant: **no client decides how long a connection lives.** Three things in hypercorn 0.18 would let it, and the
loop of `hypercorn.trio.serve` has no place to mend them:

- it shields its writing from every cancellation, so one client that never reads its answers keeps the process from
  ending, even one whose log is poisoned; here, a cancelled connection is closed underneath it;
- where writing fails while further requests wait behind the one that is answered, it goes on waiting for its turn for
  ever, and the socket is never closed; here, a failed write ends the connection;
- where a client closes a connection that rests, it keeps its own side open until `keep_alive_timeout` is over; here, it
  ends at once.

It also starts a task for each rest of each connection, and makes three writes of an answer, which is a quarter of what
a send costs; here, one task looks after all that rest, and an answer is one write.

What goes wrong inside it on one connection ends that connection, and nothing else.

With websockets come three more: it lets each of them have a compressor (300 KB, and a bomb where one is sent), which
cannot be turned off; it sends pings and does not mind whether anybody is there to answer; and it does not mind whether
a close frame is answered. Here, there is no compression, a peer that says nothing in spite of pings is cut off, and so
is one that does not close.

HTTP/2 is not spoken: a proxy speaks it to the world, and nobody needs it from us. An upgrade to it is passed over, and
who takes it for granted is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import h11
import hypercorn
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, Scope
from hypercorn.utils import parse_socket_addr, wrap_app
from quart_trio import QuartTrio

from relay.api.places import PatientListener, Places

logger = logging.getLogger(__name__)

#: One write is one answer, or a piece of it; a client that does not take it in so long, or a quarter more, is cut off.
WRITE_SECONDS_MAX = 60.0
#: How long requests under way have to be answered when everything is being cancelled.
LAST_ANSWER_SECONDS_MAX = 1.0

#: A websocket's peer is sent a ping so often, and is cut off at the first write after it has said nothing for so long:
#: not even a pong. A reader that reads nothing answers no pings either.
PING_SECONDS = 30.0
SILENT_SECONDS_MAX = 75.0
#: A close frame is answered within so long, or the connection ends without.
CLOSE_SECONDS_MAX = 5.0
#: Nobody has anything to say to us on a websocket.
WEBSOCKET_MESSAGE_BYTES_MAX = 4096

_UPGRADED = b"HTTP/1.1 101 "
_CLOSE_FRAME = 0x88


async def serve_http(
    app: QuartTrio,
    config: hypercorn.Config,
    *,
    places: Places,
    close: trio.Event,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on `config.bind[0]` until `close`; requests under way then have `config.graceful_timeout` seconds.

    Reports the address, `127.0.0.1:8025`, when it listens. Cancelled, it gives them LAST_ANSWER_SECONDS_MAX: where the
    log has failed, whoever waits for it is told so (503). Streams hold none of the `places`: they have a bound
    of their own (`relay.streams`).
    """
    connections_open: set[_Connection] = set()
    config.websocket_ping_interval = PING_SECONDS
    config.websocket_max_message_size = WEBSOCKET_MESSAGE_BYTES_MAX
    wrapped = _without_compression(wrap_app(cast(Any, app), config.wsgi_max_body_size, "asgi"))
    context = WorkerContext(None)

    async def serve_connection(stream: trio.SocketStream) -> None:
        connection = _Connection(stream, places)
        connections_open.add(connection)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.end_when_told, nursery.cancel_scope)
                await _Http1Server(wrapped, config, context, ConnectionState({}), cast(Any, connection))
                nursery.cancel_scope.cancel()
        except* h11.ProtocolError:
            # Who asks for a websocket and goes on talking, or talks HTTP/2.
            logger.info("http.connection_confused")
        except* Exception as group:
            logger.error("http.connection_defect", exc_info=group)
        finally:
            connections_open.discard(connection)
            connection.leave_place()

    async def watch() -> None:
        """One task for all connections, because a deadline for each write and each rest costs more than a write."""
        while True:
            await trio.sleep(WRITE_SECONDS_MAX / 4)
            for connection in connections_open:
                connection.end_if_stuck(trio.current_time())
                connection.end_rest(trio.current_time() - config.keep_alive_timeout)

    no_more = trio.Event()
    all_ended = trio.Event()

    async def hold_connections(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as connections:
            task_status.started(connections)
            await no_more.wait()
        all_ended.set()

    async def end_within(seconds: float) -> None:
        """Idle connections end now, the others with their answer or when the time is over."""
        no_more.set()
        await context.terminated.set()
        for connection in connections_open:
            connection.end_rest(trio.current_time())
        scope = connections.cancel_scope
        scope.deadline = min(scope.deadline, trio.current_time() + seconds)

    lifespan = Lifespan(wrapped, config, {})
    with _listening(config, places) as (address, listeners):
        async with trio.open_nursery() as lifespan_nursery:
            await lifespan_nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                connections: trio.Nursery = await nursery.start(hold_connections)
                # Not before we are here to end it: who is cancelled while it starts would wait for it for ever.
                connections.cancel_scope.shield = True
                try:
                    async with trio.open_nursery() as accepting:
                        accepting.start_soon(
                            partial(
                                trio.serve_listeners, serve_connection, listeners, handler_nursery=connections
                            )
                        )
                        task_status.started(address)
                        await close.wait()
                        accepting.cancel_scope.cancel()
                    await end_within(config.graceful_timeout)
                    await all_ended.wait()
                finally:
                    await end_within(LAST_ANSWER_SECONDS_MAX)
                nursery.cancel_scope.cancel()
            await lifespan.wait_for_shutdown()
            lifespan_nursery.cancel_scope.cancel()


@contextmanager
def _listening(config: hypercorn.Config, places: Places) -> Iterator[tuple[str, list[PatientListener]]]:
    """The address, and who accepts there; at the end nobody does. Raises OSError where the address cannot be had."""
    listening = config.create_sockets().insecure_sockets
    try:
        host, port = listening[0].getsockname()[:2]
        for one in listening:
            one.listen(config.backlog)
        sockets = map(trio.socket.from_stdlib_socket, listening)
        listeners = [PatientListener(trio.SocketListener(one), places) for one in sockets]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}", listeners
    finally:
        for one in listening:
            one.close()


def _without_compression(app: AppWrapper) -> AppWrapper:
    async def wrapped(scope: Scope, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        if scope["type"] == "websocket":
            # `send` is a method of hypercorn's WSStream, which else accepts what the client asks for.
            send.__self__.handshake.extensions = None
        await app(scope, receive, send, sync_spawn, call_soon)

    return wrapped


class _Http1Server(TCPServer):
    """Hypercorn's, for connections without TLS or HTTP/2."""

    async def run(self) -> None:
        """Returns when the connection has ended, whoever ended it."""
        try:
            socket = self.stream.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as task_group:
                self._task_group = task_group
                self.protocol = cast(
                    Any,
                    _Http1(
                        self.app,
                        self.config,
                        self.context,
                        task_group,
                        ConnectionState(self.state),
                        False,
                        client,
                        server,
                        self.protocol_send,
                    ),
                )
                self.protocol.end_connection = cast(_Connection, self.stream).end  # type: ignore[attr-defined]
                await self._read_data()
        except OSError:
            pass  # it is gone already
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Hypercorn starts a task for each rest of a connection, which `serve_http` looks after instead."""
        if isinstance(event, Updated):
            cast(_Connection, self.stream).rest(event.idle)
        else:
            await super().protocol_send(event)


class _Http1(H11Protocol):
    """Hypercorn's, which goes over to HTTP/2 wherever it is asked to, and makes three writes of an answer: head,
    body, and nothing."""

    #: Of the answer, until it is known what follows: the body, or that there is none. Both come from the application at
    #: once, or not at all.
    _head = b""
    end_connection: Callable[[], None]

    async def _send_h11_event(self, event: Any) -> None:
        try:
            data = self.connection.send(event) or b""
        except h11.LocalProtocolError:
            # Something was said that this cannot follow, an error say: the connection is of no more use.
            self.end_connection()
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data
            return
        data, self._head = self._head + data, b""
        if data:
            await self.send(RawData(data))

    async def _check_protocol(self, event: h11.Request) -> None:
        if not event.http_version.startswith(b"1."):
            await self._send_error_response(505)
            await self.send(Closed())
            raise h11.RemoteProtocolError("this is HTTP/1 only")


class _Connection:
    """What hypercorn takes for the stream of a connection without TLS."""

    def __init__(self, stream: trio.SocketStream, places: Places) -> None:
        self._stream = stream
        #: Where it has a place; None when it has given that back.
        self._places: Places | None = places
        self.socket = stream.socket
        self.send_eof = stream.send_eof
        #: There is no more to be said: a write has failed, or a websocket has ended.
        self._over = trio.Event()
        self._writing_since: float | None = None
        self._resting_since: float | None = trio.current_time()
        self._is_websocket = False
        self._heard_at = trio.current_time()
        self._scope: trio.CancelScope | None = None

    async def receive_some(self, bytes_max: int) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(bytes_max)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._websocket_is_over()
            raise
        self._heard_at = trio.current_time()
        if not data:
            self._websocket_is_over()
        return data

    async def send_all(self, data: bytes) -> None:
        """Called behind a shield, with whole frames. Raises BrokenResourceError or ClosedResourceError, and then the
        connection ends."""
        self._writing_since = trio.current_time()
        try:
            if self._is_websocket and self._writing_since - self._heard_at > SILENT_SECONDS_MAX:
                raise trio.BrokenResourceError("the peer of this websocket is silent")
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._over.set()
            raise
        self._writing_since = None
        if self._is_websocket and data[0] == _CLOSE_FRAME:
            assert self._scope is not None
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + CLOSE_SECONDS_MAX)
        elif data.startswith(_UPGRADED):
            self._is_websocket = True
            self.leave_place()

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._websocket_is_over()

    def leave_place(self) -> None:
        """Let another connection come in, once."""
        places, self._places = self._places, None
        if places is not None:
            places.leave()

    def end(self) -> None:
        """Whatever is under way."""
        self._over.set()

    def rest(self, is_resting: bool) -> None:
        """Whether it waits for a request's head."""
        self._resting_since = trio.current_time() if is_resting else None

    def end_rest(self, latest: float) -> None:
        """End the connection where it rests, and has done so since `latest` or longer."""
        if self._resting_since is not None and self._resting_since <= latest:
            self.end()

    def end_if_stuck(self, now: float) -> None:
        """End the connection where its client has not taken what is being written, for WRITE_SECONDS_MAX."""
        if self._writing_since is not None and now >= self._writing_since + WRITE_SECONDS_MAX:
            self.end()

    async def end_when_told(self, scope: trio.CancelScope) -> None:
        """Cancel the connection's tasks once it is over. However it is cancelled itself, it closes the socket, which
        no shield keeps from being noticed."""
        self._scope = scope
        try:
            await self._over.wait()
            scope.cancel()
        finally:
            self.socket.close()

    def _websocket_is_over(self) -> None:
        """Else hypercorn would wait until its task that sends pings wakes up."""
        if self._is_websocket:
            self._over.set()
