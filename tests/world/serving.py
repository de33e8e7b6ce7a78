"""The relay's HTTP server with an application of the test's own in the relay's place, on a real port of loopback.

With `run_on_a_jumping_clock`, minutes of waiting take no time. The clock jumps when nothing has happened for
REAL_SECONDS of the real clock: what goes over loopback is there long before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import hypercorn
import trio
from trio.testing import MockClock

from relay.api.clients import Clients
from relay.api.places import Places
from relay.api.server import serve_http
from relay.listening import listen_http

REAL_SECONDS = 0.005
KEEP_ALIVE_SECONDS = 75

Application = Callable[[Any, Any, Any], Awaitable[None]]


def run_on_a_jumping_clock(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=MockClock(autojump_threshold=REAL_SECONDS))


async def answer_ok(scope: Any, receive: Any, send: Any) -> None:
    """Answer 200 once the whole request is there."""
    while (await receive()).get("more_body"):
        pass
    await give_ok(send)


async def give_ok(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(
    application: Application = answer_ok,
    *,
    places: Places | None = None,
    clients: Clients | None = None,
    bind: str = "127.0.0.1:0",
    close: trio.Event | None = None,
) -> AsyncIterator[str]:
    """Its address. `application` is called for what is no lifespan; `close` stops it before the block ends."""
    close = trio.Event() if close is None else close
    config = hypercorn.Config()
    config.graceful_timeout = 8
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.max_app_queue_size = 10

    async def with_lifespan(scope: Any, receive: Any, send: Any, *arguments: Any) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http,
            with_lifespan,
            config,
            await listen_http(bind),
            places=places or Places(lambda: 100),
            clients=clients,
            close=close,
        )
        yield await nursery.start(serve)
        close.set()
