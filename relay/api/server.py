"""HTTP over TCP: hypercorn speaks it on every connection (`relay.api.protocol`), in a loop of ours that can end each.

The invariant: **no client decides how long a connection lives, and nobody waits for one that does nothing**
(`relay.api.connection`, `relay.api.places`). Two things in hypercorn 0.18 would let it, and the loop of
`hypercorn.trio.serve` has no place to mend them:

- it shields its writing from every cancellation, so one client that never reads its answers keeps the process from
  ending, even one whose log is poisoned; here, a cancelled connection is closed underneath it;
- where a client closes a connection that rests, it keeps its own side open until `keep_alive_timeout` is over; here, it
  ends at once.

With websockets come two more: it sends pings and does not mind whether anybody is there to answer, and it does not mind
whether a close frame is answered. Here, a peer that says nothing in spite of pings is cut off, and so is one that does
not close.

What goes wrong inside hypercorn on one connection ends that connection, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import h11
import hypercorn
import trio
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from relay.api import connection as connections
from relay.api.clients import Clients
from relay.api.connection import Connection
from relay.api.listener import PatientListener
from relay.api.places import Places
from relay.api.protocol import Http1Server, without_compression
from relay.listening import Listening

logger = logging.getLogger(__name__)

#: So often rests are looked at. None is longer than it may be by more than this.
REST_WATCH_SECONDS = 1.0
#: How long requests under way have to be answered when everything is being cancelled.
LAST_ANSWER_SECONDS_MAX = 1.0

#: A websocket's peer is sent a ping so often.
PING_SECONDS = 30.0
#: Nobody has anything to say to us on a websocket.
WEBSOCKET_MESSAGE_BYTES_MAX = 4096


async def serve_http(
    app: QuartTrio,
    config: hypercorn.Config,
    listening: Listening,
    *,
    places: Places,
    close: trio.Event,
    clients: Clients | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve there until `close`; requests under way then have `config.graceful_timeout` seconds. At the end this
    process listens there no more.

    Reports the address, `127.0.0.1:8025`, when it serves. Cancelled, it gives them LAST_ANSWER_SECONDS_MAX: where the
    log has failed, whoever waits for it is told so (503). Streams hold none of the `places`: they have a bound
    of their own (`relay.streams`).
    """
    connections_open: set[Connection] = set()
    somebody = trio.Event()
    config.websocket_ping_interval = PING_SECONDS
    config.websocket_max_message_size = WEBSOCKET_MESSAGE_BYTES_MAX
    wrapped = without_compression(wrap_app(cast(Any, app), config.wsgi_max_body_size, "asgi"))
    context = WorkerContext(None)

    async def serve_connection(connection: Connection) -> None:
        connections_open.add(connection)
        somebody.set()
        try:
            with trio.CancelScope() as scope:
                connection.served_in(scope)
                await Http1Server(wrapped, config, context, places, connection)
        except* h11.ProtocolError:
            # Who asks for a websocket and goes on talking.
            logger.info("http.connection_confused")
        except* Exception as group:
            logger.error("http.connection_defect", exc_info=group)
        finally:
            connection.socket.close()
            connections_open.discard(connection)
            places.leave(connection)

    async def watch() -> None:
        """One task for all connections, because a deadline for each write and each rest costs more than a write."""
        nonlocal somebody
        looked_at_writes = trio.current_time()
        while True:
            if not connections_open:
                somebody = trio.Event()
                await somebody.wait()
            await trio.sleep(REST_WATCH_SECONDS)
            now = trio.current_time()
            places.end_long_rests(now, keep_alive_seconds=config.keep_alive_timeout)
            if now >= looked_at_writes + connections.WRITE_SECONDS_MAX / 4:
                looked_at_writes = now
                for connection in connections_open:
                    if connection.end_if_stuck(now):
                        places.count_turned_away("never_read")

    no_more = trio.Event()
    all_ended = trio.Event()

    async def hold_connections(
        task_status: trio.TaskStatus[tuple[trio.Nursery, trio.CancelScope]],
    ) -> None:
        async with trio.open_nursery() as around:
            around.start_soon(close_when_cancelled)
            async with trio.open_nursery() as served:
                task_status.started((served, around.cancel_scope))
                await no_more.wait()
            around.cancel_scope.cancel()
        all_ended.set()

    async def close_when_cancelled() -> None:
        """One task for all connections: a write is shielded, and ends only when its connection does."""
        try:
            await trio.sleep_forever()
        finally:
            for connection in connections_open:
                connection.end()

    async def end_within(seconds: float) -> None:
        """Idle connections end now, the others with their answer or when the time is over."""
        no_more.set()
        await context.terminated.set()
        places.end_all_rests()
        serving.deadline = min(serving.deadline, trio.current_time() + seconds)

    lifespan = Lifespan(wrapped, config, {})
    with _accepting(listening, clients or Clients(), places) as listeners:
        async with trio.open_nursery() as lifespan_nursery:
            await lifespan_nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                served, serving = await nursery.start(hold_connections)
                # Not before we are here to end it: who is cancelled while it starts would wait for it for ever.
                serving.shield = True
                try:
                    async with trio.open_nursery() as accepting:
                        accepting.start_soon(
                            partial(trio.serve_listeners, serve_connection, listeners, handler_nursery=served)
                        )
                        task_status.started(listening.address)
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
def _accepting(listening: Listening, clients: Clients, places: Places) -> Iterator[list[PatientListener]]:
    """Who accepts there; at the end nobody does."""
    try:
        yield [PatientListener(listener, clients, places) for listener in listening.listeners()]
    finally:
        listening.close()
