"""HTTP over TCP: hypercorn speaks it on every connection, in a loop of ours that can end each of them.

The invariant: **no client decides how long a connection lives.** Two things in hypercorn 0.18 would let it, and the
loop of `hypercorn.trio.serve` has no place to mend them:

- it shields its writing from every cancellation, so one client that never reads its answers keeps the process from
  ending, even one whose log is poisoned; here, a cancelled connection is closed underneath it;
- where writing fails while further requests wait behind the one that is answered, it goes on waiting for its turn for
  ever, and the socket is never closed; here, a failed write ends the connection.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import hypercorn
import trio
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

#: One write is one answer, or a piece of it; a client that does not take it in so long, or a quarter more, is cut off.
WRITE_SECONDS_MAX = 60.0
#: How long requests under way have to be answered when everything is being cancelled.
LAST_ANSWER_SECONDS_MAX = 1.0


async def serve_http(
    app: QuartTrio,
    config: hypercorn.Config,
    *,
    close: trio.Event,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on `config.bind[0]` until `close`; requests under way then have `config.graceful_timeout` seconds.

    Reports the address, `127.0.0.1:8025`, when it listens. Cancelled, it gives them LAST_ANSWER_SECONDS_MAX: where the
    log has failed, whoever waits for it is told so (503).
    """
    connections_open: set[_Connection] = set()
    wrapped = wrap_app(cast(Any, app), config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)

    async def serve_connection(stream: trio.SocketStream) -> None:
        connection = _Connection(stream)
        connections_open.add(connection)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.end_when_told, nursery.cancel_scope)
                await TCPServer(wrapped, config, context, ConnectionState({}), cast(Any, connection))
                nursery.cancel_scope.cancel()
        finally:
            connections_open.discard(connection)

    async def watch_writes() -> None:
        """One task for all connections, because a deadline for each write costs more than the write."""
        while True:
            await trio.sleep(WRITE_SECONDS_MAX / 4)
            for connection in connections_open:
                connection.end_if_stuck(trio.current_time())

    listening = config.create_sockets().insecure_sockets
    host, port = listening[0].getsockname()[:2]
    for one in listening:
        one.listen(config.backlog)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in listening]

    no_more = trio.Event()
    all_ended = trio.Event()

    async def hold_connections(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as connections:
            connections.cancel_scope.shield = True
            task_status.started(connections)
            await no_more.wait()
        all_ended.set()

    async def end_within(seconds: float) -> None:
        """Idle connections end now, the others with their answer or when the time is over."""
        no_more.set()
        await context.terminated.set()
        scope = connections.cancel_scope
        scope.deadline = min(scope.deadline, trio.current_time() + seconds)

    lifespan = Lifespan(wrapped, config, {})
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_writes)
            connections: trio.Nursery = await nursery.start(hold_connections)
            try:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners, serve_connection, listeners, handler_nursery=connections
                        )
                    )
                    task_status.started(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
                    await close.wait()
                    accepting.cancel_scope.cancel()
                await end_within(config.graceful_timeout)
                await all_ended.wait()
            finally:
                await end_within(LAST_ANSWER_SECONDS_MAX)
            nursery.cancel_scope.cancel()
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


class _Connection:
    """What hypercorn takes for the stream of a connection without TLS."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.receive_some = stream.receive_some
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose
        self._write_failed = trio.Event()
        self._writing_since: float | None = None

    async def send_all(self, data: bytes) -> None:
        """Called behind a shield. Raises BrokenResourceError or ClosedResourceError, and then the connection ends."""
        self._writing_since = trio.current_time()
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._write_failed.set()
            raise
        self._writing_since = None

    def end_if_stuck(self, now: float) -> None:
        """End the connection where its client has not taken what is being written, for WRITE_SECONDS_MAX."""
        if self._writing_since is not None and now >= self._writing_since + WRITE_SECONDS_MAX:
            self._write_failed.set()

    async def end_when_told(self, scope: trio.CancelScope) -> None:
        """Cancel the connection's tasks once a write has failed. However it is cancelled itself, it closes the
        socket, which no shield keeps from being noticed."""
        try:
            await self._write_failed.wait()
            scope.cancel()
        finally:
            self.socket.close()
