"""No more HTTP connections than allowed. When all places are taken, and another client comes, the connection that has
rested for longest gives way at once; where all are at work, who comes waits in the kernel's queue until one of them
ends or comes to rest. A stream gives its place back: it has a bound of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.api import exchange, places, request
from relay.service import Relay, open_relay
from tests.world.http import HttpConnection, NoAnswerError, open_http
from tests.world.orders import order
from tests.world.process import make_process_directory
from tests.world.relay import DID, DOMAIN
from tools.watch import open_websocket

CONNECTIONS_MAX = 2
#: Below what any of them may rest: what gives way at once is not ended for that.
SECONDS_MAX = 60.0
GAUGE = "atmos_http_connections_open "
GAVE_WAY = 'atmos_http_turned_away_total{why="gave_way"} '
MAIL = json.dumps({"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi"})


class Small:
    """A relay with room for two."""

    def __init__(self, relay: Relay, credentials: dict[str, str], stack: AsyncExitStack) -> None:
        self.relay = relay
        self.credentials = credentials
        self._stack = stack

    async def connect(self) -> HttpConnection:
        return await self._stack.enter_async_context(open_http(self.relay.http_address))

    async def served(self) -> HttpConnection:
        """One that was answered, and rests."""
        http = await self.connect()
        assert (await http.request("GET", "/healthz")).status == 200
        return http

    async def at_work(self) -> HttpConnection:
        """One that is sending a mail, and has not sent all of it yet."""
        http = await self.connect()
        head = {"Host": "relay", **self.credentials, "Content-Length": str(len(MAIL))}
        await http.send_head("POST", "/v1/send", head)
        await http.stream.send_all(MAIL[:20].encode())
        await wait_all_tasks_blocked(0.05)
        return http

    async def finish(self, http: HttpConnection) -> None:
        await http.stream.send_all(MAIL[20:].encode())
        assert (await http.read_answer()).status == 200

    async def asking(self) -> HttpConnection:
        """One that has asked, and may have to wait."""
        http = await self.connect()
        await http.send_head("GET", "/healthz", {"Host": "relay"})
        return http

    async def waiting(self) -> HttpConnection:
        """One that has asked, and waits."""
        http = await self.asking()
        await waits(http)
        return http

    def metric(self, name: str) -> float:
        lines = self.relay.core.metrics_page.own_text().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name))


@asynccontextmanager
async def small_relay(directory: Path) -> AsyncIterator[Small]:
    make_process_directory(directory, route="127.0.0.1:9", http=f"connections_max = {CONNECTIONS_MAX}")
    with trio.fail_after(SECONDS_MAX):
        async with open_relay(directory) as relay, AsyncExitStack() as stack:
            answer = await order(relay.core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            assert isinstance(answer, dict)
            credentials = {"X-Atmos-DID": DID, "Authorization": f"Bearer {answer['apiKey']}"}
            yield Small(relay, credentials, stack)
            await relay.stop()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is at work here, or has said nothing yet, is so for as long as the test wants."""
    monkeypatch.setattr(places, "HEAD_SECONDS_MAX", 2 * SECONDS_MAX)
    monkeypatch.setattr(request, "BODY_SECONDS_MAX", 2 * SECONDS_MAX)


async def waits(http: HttpConnection) -> None:
    """Nobody has answered it, though the relay has done all that it had to do."""
    await wait_all_tasks_blocked(0.05)
    with pytest.raises(BlockingIOError):
        http.stream.socket._sock.recv(1)


async def is_closed(http: HttpConnection) -> bool:
    return await http.read_to_end() == b""


# -------------------------------------------------------------------------------------------- one that rests gives way


def test_the_one_that_has_rested_longest_gives_way_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            first, second = await small.served(), await small.served()
            assert (await first.request("GET", "/healthz")).status == 200  # `second` has rested longer now
            third = await small.asking()
            assert (await third.read_answer()).status == 200
            assert await is_closed(second)
            assert (await first.request("GET", "/healthz")).status == 200
            assert small.metric(GAUGE) == CONNECTIONS_MAX
            assert small.metric(GAVE_WAY) == 1

    trio.run(main)


@pytest.mark.parametrize("said", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nHost: re"])
def test_so_does_one_that_has_said_nothing_or_half_a_head(tmp_path: Path, said: bytes) -> None:
    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            silent = await small.connect()
            await silent.stream.send_all(said)
            await wait_all_tasks_blocked(0.05)
            await small.served()
            assert (await (await small.asking()).read_answer()).status == 200
            assert await is_closed(silent)

    trio.run(main)


def test_one_at_work_never_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            busy, resting = await small.at_work(), await small.served()
            for _ in range(5):
                assert (await (await small.asking()).read_answer()).status == 200
            assert await is_closed(resting)
            await small.finish(busy)

    trio.run(main)


@pytest.mark.parametrize("path", ["/v1/send", "/healthz", "/nowhere", "/u/TOKEN"])
def test_so_does_one_that_is_answered_and_does_not_send_the_rest(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers could hold all places by heads that promise a body, time and again."""
    monkeypatch.setattr(request, "REST_OF_REQUEST_SECONDS_MAX", 2 * SECONDS_MAX)
    monkeypatch.setattr(exchange, "REST_OF_REQUEST_SECONDS_MAX", 2 * SECONDS_MAX)

    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            strangers = [await small.connect() for _ in range(CONNECTIONS_MAX)]
            for stranger in strangers:
                await stranger.send_head("POST", path, {"Host": "relay", "Content-Length": "1000"})
                assert (await stranger.stream.receive_some(100)).startswith(b"HTTP/1.1 4")
            await wait_all_tasks_blocked(0.05)
            assert (await (await small.asking()).read_answer()).status == 200

    trio.run(main)


# ------------------------------------------------------------------------------------------------ where all are at work


def test_where_all_are_at_work_one_more_waits_until_another_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            busy, other = await small.at_work(), await small.at_work()
            waiting = await small.waiting()
            await other.stream.aclose()
            assert (await waiting.read_answer()).status == 200
            await small.finish(busy)

    trio.run(main)


def test_or_until_another_comes_to_rest(tmp_path: Path) -> None:
    """It has its answer, and gives way."""

    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            busy, other = await small.at_work(), await small.at_work()
            waiting = await small.waiting()
            await small.finish(busy)
            assert (await waiting.read_answer()).status == 200
            assert await is_closed(busy)
            await small.finish(other)

    trio.run(main)


def test_the_open_ones_are_counted(tmp_path: Path) -> None:
    """None of those that wait."""

    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            busy, other = await small.at_work(), await small.at_work()
            waiting = await small.waiting()
            assert small.metric(GAUGE) == CONNECTIONS_MAX
            await busy.stream.aclose()
            assert (await waiting.read_answer()).status == 200
            assert small.metric(GAUGE) == CONNECTIONS_MAX
            await other.stream.aclose()
            await wait_all_tasks_blocked(0.05)
            assert small.metric(GAUGE) == CONNECTIONS_MAX - 1

    trio.run(main)


def test_many_come_and_go_and_every_place_is_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:

            async def ask() -> None:
                async with open_http(small.relay.http_address) as http:
                    assert (await http.request("GET", "/healthz")).status == 200

            async with trio.open_nursery() as nursery:
                for _ in range(10 * CONNECTIONS_MAX):
                    nursery.start_soon(ask)
            busy, other = await small.at_work(), await small.at_work()
            waiting = await small.waiting()
            for http in (busy, other):
                await small.finish(http)
            assert (await waiting.read_answer()).status == 200

    trio.run(main)


def test_a_stream_holds_no_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            headers = [(name.encode(), value.encode()) for name, value in small.credentials.items()]
            url = f"ws://{small.relay.http_address}/v1/stream?cursor=0"
            async with AsyncExitStack() as streams:
                for _ in range(CONNECTIONS_MAX + 1):
                    stream = await streams.enter_async_context(open_websocket(url, headers))
                    assert json.loads(await stream.get_message())["seq"] == 1
                await wait_all_tasks_blocked(0.05)
                assert small.metric(GAUGE) == 0
                busy, other = await small.at_work(), await small.at_work()
                waiting = await small.waiting()
            # A place that was given back at the upgrade is not given back again at the end.
            await waits(waiting)
            for http in (busy, other):
                await small.finish(http)
            assert (await waiting.read_answer()).status == 200

    trio.run(main)


def test_stopping_does_not_wait_for_those_who_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            busy, other = await small.at_work(), await small.at_work()
            waiting = await small.waiting()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(small.relay.stop)
                while not small.relay.core.stopping:
                    await trio.lowlevel.checkpoint()
                for http in (busy, other):
                    await http.stream.aclose()
            with pytest.raises(NoAnswerError):
                await waiting.read_answer()

    trio.run(main)


def test_it_is_said_when_there_is_no_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute at most: a relay at its bound fills up again with every connection that comes."""

    async def main() -> None:
        async with small_relay(tmp_path / "data") as small:
            for _ in range(5 * CONNECTIONS_MAX):
                await small.served()

    trio.run(main)
    said = [record for record in caplog.records if record.message == "http.connections_full"]
    assert len(said) == 1
