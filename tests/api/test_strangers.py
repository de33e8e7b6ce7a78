"""Strangers take all the places, and do nothing with them. Nobody else waits for them."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.world.http import HttpConnection, open_http
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory

#: As `[http] connections_max` has it.
PLACES = 1000
STRANGERS = 1150
#: On a machine that has much else to do. It was a minute and a half.
AT_ONCE_SECONDS = 45.0
HALF_A_HEAD = b"POST /v1/send HTTP/1.1\r\nHost: relay\r\nContent-Len"


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * STRANGERS:
        pytest.skip("not so many files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3 * STRANGERS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def connections(relay: RelayProcess, count: int) -> AsyncIterator[list[HttpConnection]]:
    """No stack of a thousand contexts: where a test fails, pytest would be busy with its traceback for an hour."""
    opened: list[HttpConnection] = []
    host, _, port = relay.address.rpartition(":")
    try:
        for _ in range(count):
            opened.append(HttpConnection(await trio.open_tcp_stream(host, int(port))))
        yield opened
    finally:
        for http in opened:
            http.stream.socket.close()


async def assert_b_is_served(relay: RelayProcess, credentials: dict[str, str]) -> None:
    """A mail of somebody who comes now, ten times, and once more on the same connection."""
    for _ in range(10):
        began = time.monotonic()
        async with open_http(relay.address) as http:
            assert (await http.post_send(credentials)).status == 200
            assert (await http.post_send(credentials)).status == 200
        assert time.monotonic() - began < AT_ONCE_SECONDS


def test_more_than_there_are_places_say_nothing_or_half_a_head(tmp_path: Path) -> None:
    async def main() -> None:
        relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            async with connections(relay, STRANGERS) as strangers:
                for stranger in strangers[::2]:
                    # Some of them have had to give way already.
                    try:
                        await stranger.stream.send_all(HALF_A_HEAD)
                    except trio.BrokenResourceError:
                        continue
                await assert_b_is_served(relay, credentials)

    trio.run(main)


def test_as_many_as_there_are_places_ask_now_and_then_to_hold_the_door(tmp_path: Path) -> None:
    """They ask within the time of keep-alive, so none of them is ever ended for its rest."""

    async def main() -> None:
        relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
        credentials = relay.enrol()
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            async with connections(relay, PLACES) as strangers:
                for stranger in strangers:
                    assert (await stranger.request("GET", "/healthz")).status == 200
                await assert_b_is_served(relay, credentials)

    trio.run(main)


def test_handshakes_that_cannot_be_accepted_hold_no_place(tmp_path: Path) -> None:
    """Each was answered 400 once, and its connection left to itself for ever, as if it were at work."""

    async def main() -> None:
        directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9", http="connections_max = 3")
        relay = RelayProcess(directory)
        credentials = relay.enrol()
        upgrade = {"Host": "relay", "Connection": "Upgrade", "Upgrade": "websocket"}
        with relay.running(), trio.fail_after(PATIENCE_SECONDS):
            async with connections(relay, 5) as strangers:
                for stranger in strangers:
                    await stranger.send_head("GET", "/v1/stream", {**upgrade, "Sec-WebSocket-Version": "8"})
                    answer = await stranger.read_answer()
                    assert (answer.status, answer.code) == (400, "AUTH_REQUIRED")
                await assert_b_is_served(relay, credentials)

    trio.run(main)
