"""No more HTTP connections than allowed: who comes then waits in the kernel's queue until one of them ends.

Nobody is refused, and what waits costs the relay nothing. A stream gives its place back: it has a bound of its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.service import Relay, open_relay
from tests.world.http import HttpConnection, NoAnswerError, open_http
from tests.world.orders import order
from tests.world.process import make_process_directory
from tests.world.relay import DID, DOMAIN
from tools.watch import open_websocket

CONNECTIONS_MAX = 2
GAUGE = "atmos_http_connections_open "


@asynccontextmanager
async def full_relay(directory: Path) -> AsyncIterator[tuple[Relay, list[HttpConnection], HttpConnection]]:
    """A relay, the connections that it may have, each answered once, and one more that has asked and must wait."""
    make_process_directory(directory, route="127.0.0.1:9", http=f"connections_max = {CONNECTIONS_MAX}")
    with trio.fail_after(30):
        async with open_relay(directory) as relay, AsyncExitStack() as stack:

            async def connect() -> HttpConnection:
                return await stack.enter_async_context(open_http(relay.http_address))

            served = [await connect() for _ in range(CONNECTIONS_MAX)]
            for http in served:
                assert (await http.request("GET", "/healthz")).status == 200
            waiting = await connect()
            await waiting.send_head("GET", "/healthz", {"Host": "relay"})
            await waits(waiting)
            yield relay, served, waiting
            await relay.stop()


async def waits(http: HttpConnection) -> None:
    """Nobody has answered it, though the relay has done all that it had to do."""
    await wait_all_tasks_blocked(0.05)
    with pytest.raises(BlockingIOError):
        http.stream.socket._sock.recv(1)


def test_one_more_waits_until_another_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with full_relay(tmp_path / "data") as (_, served, waiting):
            # Those that have a place go on, however many wait.
            assert (await served[0].request("GET", "/healthz")).status == 200
            await waits(waiting)
            await served[1].stream.aclose()
            assert (await waiting.read_answer()).status == 200

    trio.run(main)


def test_the_open_ones_are_counted(tmp_path: Path) -> None:
    """Neither those that wait nor the place that the listener keeps for the next."""

    async def main() -> None:
        async with full_relay(tmp_path / "data") as (relay, served, waiting):
            assert gauge(relay) == CONNECTIONS_MAX
            await served[0].stream.aclose()
            assert (await waiting.read_answer()).status == 200
            assert gauge(relay) == CONNECTIONS_MAX
            await served[1].stream.aclose()
            await wait_all_tasks_blocked(0.05)
            assert gauge(relay) == CONNECTIONS_MAX - 1

    trio.run(main)


def gauge(relay: Relay) -> float:
    text = relay.core.metrics.text().decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(GAUGE))


def test_many_come_and_go_and_every_place_is_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with full_relay(tmp_path / "data") as (relay, served, waiting):
            for http in served:
                await http.stream.aclose()
            assert (await waiting.read_answer()).status == 200

            async def ask() -> None:
                async with open_http(relay.http_address) as http:
                    assert (await http.request("GET", "/healthz")).status == 200

            async with trio.open_nursery() as nursery:
                for _ in range(10 * CONNECTIONS_MAX):
                    nursery.start_soon(ask)

    trio.run(main)


def test_a_stream_holds_no_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with full_relay(tmp_path / "data") as (relay, served, waiting):
            answer = await order(relay.core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            assert isinstance(answer, dict)
            headers = [
                (b"X-Atmos-DID", DID.encode()),
                (b"Authorization", f"Bearer {answer['apiKey']}".encode()),
            ]
            for http in served:
                await http.stream.aclose()
            assert (await waiting.read_answer()).status == 200
            url = f"ws://{relay.http_address}/v1/stream?cursor=0"
            async with AsyncExitStack() as streams:
                for _ in range(CONNECTIONS_MAX + 1):
                    stream = await streams.enter_async_context(open_websocket(url, headers))
                    assert json.loads(await stream.get_message())["seq"] == 1
                async with open_http(relay.http_address) as http:
                    assert (await http.request("GET", "/healthz")).status == 200
                await wait_all_tasks_blocked(0.05)
                assert gauge(relay) == 1  # `waiting`; no stream is among them
            # A place that was given back at the upgrade is not given back again at the end.
            async with open_http(relay.http_address) as first, open_http(relay.http_address) as second:
                for http in (first, second):
                    await http.send_head("GET", "/healthz", {"Host": "relay"})
                assert (await first.read_answer()).status == 200
                await waits(second)
                await first.stream.aclose()
                assert (await second.read_answer()).status == 200

    trio.run(main)


def test_stopping_does_not_wait_for_those_who_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with full_relay(tmp_path / "data") as (relay, _, waiting):
            await relay.stop()
            with pytest.raises(NoAnswerError):
                await waiting.read_answer()

    trio.run(main)


def test_it_is_said_when_there_is_no_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute at most: a relay at its bound fills up again with every connection that comes."""

    async def main() -> None:
        async with full_relay(tmp_path / "data") as (_, served, waiting):
            await served[0].stream.aclose()
            assert (await waiting.read_answer()).status == 200

    trio.run(main)
    said = [record for record in caplog.records if record.message == "http.connections_full"]
    assert len(said) == 1
