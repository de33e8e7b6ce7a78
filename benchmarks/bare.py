"""The ceiling of everything over HTTP: hypercorn on trio, answering from memory. Prints its address.

A request for a websocket is accepted, and kept. With the argument `fan-out` a POST sends ten frames to each of them, as
large as those of the status stream, before it is answered. With `own-server` it is the relay's server that serves the
application (`relay.api.server`), and the settings are the same.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import hypercorn
import hypercorn.trio
import trio

from relay.api import serve_http
from relay.api.places import Places
from relay.listening import listen_http

ANSWER = b'{"accepted":[{"recipient":"friend@example.com","messageId":448}],"rejected":[]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
FRAMES = 10
CONNECTIONS_MAX = 1000
FRAME = '{"seq":' + "1" * 300 + "}"

Send = Callable[[dict[str, Any]], Awaitable[None]]


class App:
    def __init__(self, *, fans_out: bool) -> None:
        self._fans_out = fans_out
        self._streams: list[Send] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": message["type"] + ".complete"})
        elif scope["type"] == "websocket":
            await self._keep(receive, send)
        else:
            await self._answer(receive, send)

    async def _keep(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self._streams.append(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self._streams.remove(send)

    async def _answer(self, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        if self._fans_out:
            for stream in self._streams:
                for _ in range(FRAMES):
                    await stream({"type": "websocket.send", "text": FRAME})
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})


async def main() -> None:
    config = hypercorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.keep_alive_max_requests = 1_000_000
    config.errorlog = None
    app: Any = App(fans_out="fan-out" in sys.argv)
    if "own-server" in sys.argv:
        serve = functools.partial(_serve_as_the_relay, app, config)
    else:
        serve = functools.partial(hypercorn.trio.serve, app, config, shutdown_trigger=trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(serve)
        print(binds[0].removeprefix("http://"), flush=True)


async def _serve_as_the_relay(app: Any, config: hypercorn.Config, *, task_status: Any) -> None:
    async with trio.open_nursery() as nursery:
        places = Places(lambda: CONNECTIONS_MAX)
        listening = await listen_http("127.0.0.1:0")
        serve = functools.partial(serve_http, app, config, listening, places=places, close=trio.Event())
        task_status.started([await nursery.start(serve)])


if __name__ == "__main__":
    trio.run(main)
