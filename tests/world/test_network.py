"""A path of the network between nodes and servers does to connections what it is told to, and nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.world.network import APPEND_OCTETS_MIN, Cut, Path, Way, is_port_of
from tests.world.process import PATIENCE_SECONDS

APPEND = b"x" * APPEND_OCTETS_MIN


class Heard:
    """Who is at the other end: it says all that it hears again."""

    def __init__(self) -> None:
        self.octets = b""
        self.ends = 0
        self._news = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async for piece in stream:
                self.octets += piece
                self._tell()
                await stream.send_all(piece)
        except trio.BrokenResourceError:
            pass
        self.ends += 1
        self._tell()

    async def until(self, octets: int, ends: int = 0) -> None:
        while len(self.octets) < octets or self.ends < ends:
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def open_path() -> AsyncIterator[tuple[Path, Heard]]:
    async with trio.open_nursery() as nursery:
        heard = Heard()
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, heard.serve, listeners)
        path = Path(listeners[0].socket.getsockname()[1])
        await nursery.start(path.serve)
        with trio.fail_after(PATIENCE_SECONDS):
            yield path, heard
        nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream, octets: bytes) -> bytes:
    await stream.send_all(octets)
    answer = b""
    while len(answer) < len(octets):
        piece = await stream.receive_some()
        if not piece:
            return answer
        answer += bytes(piece)
    return answer


def test_what_is_cut_ends_and_others_come_about() -> None:
    async def main() -> None:
        async with open_path() as (path, heard):
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as first:
                assert await ask(first, b"one") == b"one"
                path.cut()
                with pytest.raises(trio.BrokenResourceError):
                    await ask(first, b"two")
            assert path.cuts == 1
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as second:
                assert await ask(second, b"three") == b"three"
            await heard.until(8, ends=2)
            assert heard.octets == b"onethree"

    trio.run(main)


def test_through_one_that_is_closed_nobody_comes_until_it_is_mended() -> None:
    async def main() -> None:
        async with open_path() as (path, heard):
            path.close()
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as first:
                with pytest.raises(trio.BrokenResourceError):
                    await ask(first, b"one")
            path.mend()
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as second:
                assert await ask(second, b"two") == b"two"
            assert heard.octets == b"two"

    trio.run(main)


def test_one_that_is_closed_to_some_is_open_to_others() -> None:
    async def main() -> None:
        async with open_path() as (path, _):
            async with (
                await trio.open_tcp_stream("127.0.0.1", path.port) as first,
                await trio.open_tcp_stream("127.0.0.1", path.port) as second,
            ):
                assert await ask(first, b"one") == b"one"
                assert await ask(second, b"two") == b"two"
                shut_out = first.socket.getsockname()[1]
                path.close_to(lambda port: port == shut_out)
                with pytest.raises(trio.BrokenResourceError):
                    await ask(first, b"three")
                assert await ask(second, b"four") == b"four"
            path.close_to(lambda port: True)
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as third:
                with pytest.raises(trio.BrokenResourceError):
                    await ask(third, b"five")
            path.mend()
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as fourth:
                assert await ask(fourth, b"six") == b"six"

    trio.run(main)


def test_whose_a_port_is() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
    ):
        port = near.getsockname()[1]
        assert is_port_of(os.getpid(), port)
        assert not is_port_of(os.getppid(), port)
    assert not is_port_of(os.getpid(), port)


@pytest.mark.parametrize(("way", "arrives"), [(Way.FORTH, 0), (Way.BACK, 3)])
def test_what_is_held_arrives_late_even_from_who_has_hung_up(way: Way, arrives: int) -> None:
    async def main() -> None:
        async with open_path() as (path, heard):
            path.hold(way)
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as stream:
                await stream.send_all(b"one")
                await heard.until(arrives)
            await wait_all_tasks_blocked()
            assert len(heard.octets) == arrives
            path.mend()
            await heard.until(3, ends=1)

    trio.run(main)


@pytest.mark.parametrize(
    ("where", "arrive"), [(Cut.BEFORE, 0), (Cut.WITHIN, len(APPEND) // 2), (Cut.BEHIND, len(APPEND))]
)
def test_an_append_is_cut_where_it_should_be(where: Cut, arrive: int) -> None:
    async def main() -> None:
        async with open_path() as (path, heard), trio.open_nursery() as nursery:
            async with await trio.open_tcp_stream("127.0.0.1", path.port) as stream:
                assert await ask(stream, b"one") == b"one"
                nursery.start_soon(path.cut_an_append, where)
                await wait_all_tasks_blocked()
                assert await ask(stream, b"small") == b"small"
                with pytest.raises(trio.BrokenResourceError):
                    await ask(stream, APPEND)
                    await ask(stream, b"more")
            await heard.until(8 + arrive, ends=1)
            assert len(heard.octets) == 8 + arrive

    trio.run(main)
