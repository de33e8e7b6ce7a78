"""The ceiling of everything over HTTP: hypercorn on trio, answering from memory. Prints its address."""

from __future__ import annotations

import functools
from typing import Any

import hypercorn
import hypercorn.trio
import trio

ANSWER = b'{"accepted":[{"recipient":"friend@example.com","messageId":448}],"rejected":[]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": message["type"] + ".complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


async def main() -> None:
    config = hypercorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.keep_alive_max_requests = 1_000_000
    config.errorlog = None
    serve = functools.partial(hypercorn.trio.serve, app, config, shutdown_trigger=trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(serve)
        print(binds[0].removeprefix("http://"), flush=True)


if __name__ == "__main__":
    trio.run(main)
