"""The doors of a relay as one: HTTP, submission and inbound mail, on sockets that somebody else has made.

    addresses = await nursery.start(serve_doors, edge, certificates, listened, close)

They are served by the core's process, or by each edge (`relay.edges`), on the same sockets; nothing here knows which.

The invariant: **all doors are opened together and closed together.** None is served before all can be; once `close` is
set none lets anybody in, what is under way has its grace, and `serve_doors` returns when all have ended.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import hypercorn
import trio

from relay.api import create_app, serve_http
from relay.api.clients import Clients
from relay.api.places import WHY, Places
from relay.console.member_door import member_console
from relay.edge import Edge
from relay.listening import Addresses, Listened, Listening
from relay.reception.certificates import Certificates
from relay.reception.inbound_ports import serve_inbound
from relay.reception.submission_ports import serve_submission

#: Requests under way when the relay is stopped have this long to be answered.
HTTP_GRACE_SECONDS: Final = 8


async def serve_doors(
    edge: Edge,
    certificates: Certificates | None,
    listened: Listened,
    close: trio.Event,
    *,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until `close`, and then as the module docstring says. Reports when all are served. At the end this process
    listens there no more."""
    if certificates is not None:
        edge.metrics.certificate_expires.set_function(lambda: certificates.not_after.timestamp())
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve_http, edge, listened.http, close)
        await _start(nursery, serve_submission, edge, certificates, listened.submission, close)
        await _start(nursery, serve_inbound, edge, certificates, listened.inbound, close)
        task_status.started(listened.addresses)


async def _start(
    nursery: trio.Nursery,
    serve: Callable[..., Awaitable[None]],
    edge: Edge,
    certificates: Certificates | None,
    listening: Sequence[Listening],
    close: trio.Event,
) -> None:
    if listening:
        await nursery.start(partial(serve, edge, certificates, listening, close=close))


async def _serve_http(
    edge: Edge, listening: Listening, close: trio.Event, *, task_status: trio.TaskStatus[str]
) -> None:
    config = hypercorn.Config()
    # Spelt out, because hypercorn's own defaults are for something else.
    config.graceful_timeout = HTTP_GRACE_SECONDS
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1_000_000
    config.max_app_queue_size = 10
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    turned_away = {why: edge.metrics.http_turned_away.labels(why) for why in WHY}
    places = Places(
        lambda: edge.config.http.connections_max,
        per_address_max=lambda: edge.config.http.connections_per_address_max,
        count_turned_away=lambda why: turned_away[why].inc(),
    )
    edge.settings.observers.append(lambda before: places.look_again())
    edge.metrics.http_connections.set_function(lambda: places.connections)
    await serve_http(
        create_app(edge, member_console(edge)),
        config,
        listening,
        places=places,
        clients=Clients(lambda: edge.config.http.trusted_proxies),
        close=close,
        task_status=task_status,
    )
