"""Hypercorn on one connection, and what in it is mended here.

The invariant: **what a client does on its connection costs that connection, and ends with it.** In hypercorn 0.18:

- where writing fails while further requests wait behind the one that is answered, it goes on waiting for its turn for
  ever, and the socket is never closed; here, a failed write ends the connection, and one that is being closed reads no
  more;
- where an answer is out and the rest of its request is not in, and more of that has come than anybody read, it waits
  for somebody to read that, for ever; here, that an exchange is over is never waited for;
- it starts a task for each rest of each connection, and makes three writes of an answer, which is a quarter of what a
  send costs; here, one task looks after all that rest (`relay.api.server`), and an answer is one write;
- each request is a task, a channel and a dozen objects; here, one that has come whole is answered where it was read
  (`relay.api.whole_request`), and only others go that way;
- an error in what it reads has no body; here it is JSON like all others, and its client has time to read it;
- a websocket's handshake that cannot be accepted is answered, and the connection left to itself; here, it is a request
  like any other (`relay.api.http1`);
- each websocket has a compressor (300 KB, and a bomb where one is sent), which cannot be turned off; here it is;
- HTTP/2 is spoken wherever somebody asks for it; here it is not: a proxy speaks it to the world, and nobody needs it
  from us. An upgrade to it is passed over, and who takes it for granted is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast
from urllib.parse import unquote

import h11
import hypercorn
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, Scope
from hypercorn.utils import parse_socket_addr

from relay.api.answers import Answer
from relay.api.connection import Connection
from relay.api.http1 import MAY_ANSWER, Head, Http1
from relay.api.places import Places
from relay.api.request import RESTS
from relay.api.whole_request import NO_BODY, WholeRequest, plain_head
from relay.presentation import ErrorAnswer

_ANSWERS: Final = (h11.Response, h11.InformationalResponse)
_GONE: Final = {"http.disconnect", "websocket.disconnect"}


def without_compression(app: AppWrapper) -> AppWrapper:
    async def wrapped(scope: Scope, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        if scope["type"] == "websocket":
            # `send` is a method of hypercorn's WSStream, which else accepts what the client asks for.
            send.__self__.handshake.extensions = None
        await app(scope, receive, send, sync_spawn, call_soon)

    return wrapped


class Http1Server(TCPServer):
    """Hypercorn's, for connections without TLS or HTTP/2."""

    protocol: _Http1  # type: ignore[assignment]

    def __init__(
        self,
        app: AppWrapper,
        config: hypercorn.Config,
        context: WorkerContext,
        places: Places,
        connection: Connection,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), cast(Any, connection))
        self.connection = connection
        self.places = places
        self._has_heard_the_end = False

    async def run(self) -> None:
        """Returns when the connection has ended, whoever ended it."""
        try:
            async with _TaskGroup(self.connection) as task_group:
                self.protocol = _Http1(self, task_group)
                await self._read_data()
        except OSError:
            pass  # it is gone already
        finally:
            await self._close()

    async def _read_data(self) -> None:
        """Hypercorn's has a deadline for each read, which is infinite."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self.connection.receive_some(MAX_RECV):
                await self.protocol.handle(RawData(bytes(data)))
            self._has_heard_the_end = True
            if not self.protocol.wire.is_between_requests:
                await self.protocol.handle(RawData(b""))
        await self.protocol.handle(Closed())

    async def _close(self) -> None:
        if self._has_heard_the_end:
            await self.connection.aclose()  # whoever has said that, has no need to be told
        else:
            await super()._close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            if event.idle:
                self.connection.rest()
            else:
                self.connection.work()
            return
        if isinstance(event, Closed):
            self.protocol.wire.read_no_more()
        await super().protocol_send(event)


class _TaskGroup(TaskGroup):
    """Hypercorn's, but that telling the application of the end waits for nobody."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    async def spawn_app(
        self,
        app: AppWrapper,
        config: hypercorn.Config,
        scope: Scope,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[None]]:
        assert self._nursery is not None
        to_app, from_client = trio.open_memory_channel[Any](config.max_app_queue_size)

        async def put(message: Any) -> None:
            if message["type"] not in _GONE:
                await to_app.send(message)
                return
            try:
                to_app.send_nowait(message)
            except trio.WouldBlock:
                # Pieces of a body that nobody reads: neither it nor the connection goes on. Somebody may wait for room
                # with another piece, too.
                self._connection.end()

        self._nursery.start_soon(
            _handle,
            app,
            config,
            scope,
            from_client.receive,
            send,
            trio.to_thread.run_sync,
            trio.from_thread.run,
        )
        return put


class _Websocket(WSStream):
    """Hypercorn's, but that who talks before the application has said yes or no is told so, and that is the end.

    Hypercorn's tells the client, and then neither closes the connection nor lets the application know.
    """

    def __init__(self, on: Connection, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._on = on

    async def handle(self, event: events.Event) -> None:
        was_closed = self.closed
        await super().handle(event)
        if self.closed and not was_closed and isinstance(event, events.Body | events.Data):
            await self._on.linger()
            self._on.end()


class _Http1(H11Protocol):
    #: Of the answer, until it is known what follows: the body, or that there is none. Both come from the application at
    #: once, or not at all.
    _head = b""
    #: An error has been answered in its place.
    _is_too_late = False

    def __init__(self, server: Http1Server, task_group: TaskGroup) -> None:
        """Raises OSError where the client is gone."""
        socket, client = server.connection.socket, server.connection.client
        super().__init__(
            server.app,
            server.config,
            server.context,
            task_group,
            ConnectionState(server.state),
            False,
            (client.address, socket.getpeername()[1]) if client else None,
            parse_socket_addr(socket.family, socket.getsockname()),
            server.protocol_send,
        )
        self._on = server.connection
        self._places = server.places
        #: What has the bytes. Of a websocket there is something in front of it.
        self.wire = Http1()
        self.connection = cast(Any, self.wire)

    async def _send_h11_event(self, event: Any) -> None:
        if type(event) in _ANSWERS:
            self._is_too_late = self.wire.our_state not in MAY_ANSWER
        if self._is_too_late:
            # Who asks for a websocket and goes on talking has been told so, and hypercorn leaves it at that.
            self._on.end()
            return
        try:
            data = self.connection.send(event) or b""
        except h11.LocalProtocolError:
            # Something was said that this cannot follow: the connection is of no more use.
            self._on.end()
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if type(event) is h11.Response:
            self._head = data
            return
        data, self._head = self._head + data, b""
        if data:
            await self.send(RawData(data))

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn's goes over to HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        head = self.wire.head
        assert head is not None
        if not head.is_websocket and (body := self.wire.whole_body()) is not None:
            await self._answer(head, body)
            return
        self.stream = (partial(_Websocket, self._on) if head.is_websocket else HTTPStream)(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        if head.is_websocket:
            self.connection = H11WSConnection(cast(Any, self.wire))
        await self.stream.handle(
            events.Request(
                stream_id=STREAM_ID,
                headers=head.headers,
                http_version=head.http_version,
                method=head.method,
                raw_path=head.target,
                state=self.connection_state,
            )
        )
        if not head.is_websocket:
            cast(Any, self.stream).scope["extensions"][RESTS] = self._on.rest
        self.keep_alive_requests += 1

    async def _answer(self, head: Head, body: bytes) -> None:
        """A whole request, here and now. Raises what the application raises, and the connection ends."""
        self.keep_alive_requests += 1
        path, _, query = head.target.partition(b"?")
        scope: Any = {
            "type": "http",
            "http_version": head.http_version,
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": head.method,
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": self.client,
            "server": self.server,
            "state": self.connection_state.copy(),
            "extensions": {},
        }
        request = WholeRequest(body)
        await self.app(
            scope, cast(Any, request.receive), request.send, trio.to_thread.run_sync, trio.from_thread.run
        )
        if not request.is_answered:
            raise AssertionError("the application has not answered")
        headers = [*request.headers, *self.config.response_headers("h11")]
        content = b"" if head.method == "HEAD" or request.status in NO_BODY else request.answer
        may_be_kept = (
            not self.context.terminated.is_set()
            and self.keep_alive_requests <= self.config.keep_alive_max_requests
        )
        if not may_be_kept:
            headers.append((b"connection", b"close"))
        plain = plain_head(request.status, headers) if self.wire.has_more_to_say else None
        if plain is not None:
            self.wire.has_been_answered()
            await self.send(RawData(plain + content))
        else:
            await self._send_h11_event(h11.Response(status_code=request.status, headers=headers))
            if content:
                await self._send_h11_event(h11.Data(data=content))
            await self._send_h11_event(h11.EndOfMessage())
            may_be_kept = self.wire.our_state is self.wire.their_state is h11.DONE
            if may_be_kept:
                self.wire.start_next_cycle()
        if may_be_kept:
            self._on.rest()
        else:
            await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        """Answer what is no request, or breaks off. Hypercorn closes the connection behind it."""
        self._places.count_turned_away("not_http")
        if self.stream is not None:
            self.stream.send = _to_nobody  # what the application answers now would come too late
            await self._close_stream()
        answer = Answer.of(ErrorAnswer(self.wire.why, "INVALID_REQUEST"), status_code)
        headers = [*answer.raw_headers(), (b"connection", b"close")]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if self.wire.head is None or self.wire.head.method != "HEAD":
            await self._send_h11_event(h11.Data(data=answer.body))
        await self._send_h11_event(h11.EndOfMessage())
        await self._on.linger()


async def _to_nobody(event: Any) -> None:
    pass
