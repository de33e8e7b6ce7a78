"""A client closes a connection that rests. It ends at once, and not when the time for a next request is over: until
then a socket and a place would be held for nobody. That time does come, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hypercorn
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import relay.api.server
from relay.api.places import Places
from relay.api.server import serve_http
from relay.listening import listen_http
from relay.service import open_relay
from tests.world.http import HttpConnection, open_http
from tests.world.process import make_process_directory

#: Far below `keep_alive_timeout`.
SECONDS_MAX = 60


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[HttpConnection]:
    make_process_directory(directory, route="127.0.0.1:9")
    with trio.fail_after(SECONDS_MAX):
        async with open_relay(directory) as service:
            async with open_http(service.http_address) as http:
                yield http
            await service.stop()


def test_without_a_word(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "data") as http:
            await http.stream.send_eof()
            assert await http.read_to_end() == b""

    trio.run(main)


def test_after_its_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path / "data") as http:
            assert (await http.request("GET", "/healthz")).status == 200
            await wait_all_tasks_blocked()  # else the relay may not be done with the answer
            await http.stream.send_eof()
            assert await http.read_to_end() == b""

    trio.run(main)


def test_a_connection_that_rests_is_ended_and_one_that_is_being_answered_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One task looks after all of them, from when there is one, and comes round every REST_WATCH_SECONDS."""
    monkeypatch.setattr(relay.api.server, "REST_WATCH_SECONDS", 0.25)
    config = hypercorn.Config()
    config.keep_alive_timeout = 0
    asked, answer = trio.Event(), trio.Event()

    async def application(scope: Any, receive: Any, send: Any, *arguments: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": message["type"] + ".complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        asked.set()
        await answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main() -> None:
        close = trio.Event()
        with trio.fail_after(SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                listening = await listen_http("127.0.0.1:0")
                serve = partial(
                    serve_http, application, config, listening, places=Places(lambda: 10), close=close
                )
                address = await nursery.start(serve)
                async with open_http(address) as asking, open_http(address) as resting:
                    await asking.send_head("GET", "/", {"Host": "relay"})
                    await asked.wait()
                    # It came later, and has been ended before the other.
                    assert await resting.read_to_end() == b""
                    answer.set()
                    assert (await asking.read_answer()).body == b"ok"
                    assert await asking.read_to_end() == b""
                close.set()

    trio.run(main)
