"""A client closes a connection that rests. It ends at once, and not when the time for a next request is over: until
then a socket and a place would be held for nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked

from relay.service import open_relay
from tests.world.http import HttpConnection, open_http
from tests.world.process import make_process_directory

#: Far below `keep_alive_timeout`.
SECONDS_MAX = 30


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[HttpConnection]:
    make_process_directory(directory, route="127.0.0.1:9")
    with trio.fail_after(SECONDS_MAX):
        async with open_relay(directory) as relay:
            async with open_http(relay.http_address) as http:
                yield http
            await relay.stop()


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
