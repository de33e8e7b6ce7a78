"""Links to a node that leads, or says that it does: each thing that it can say, or not say, and what whoever asks is
told then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from relay.nodes import links as links_module
from relay.nodes import wire
from relay.nodes.certificates import NodeCertificates, authority, found, install
from relay.nodes.links import (
    ANSWER_SECONDS_MAX,
    CANCELLED_SECONDS_MAX,
    CONNECT_SECONDS_MAX,
    TURN_SECONDS_MAX,
    Links,
    LostError,
    NotAskedError,
    NotLeadingError,
    open_links,
)
from relay.nodes.words import Node
from tests.world.nodes import NOW
from tests.world.relay import run

A = Node("a", "a.example", 8125)
ANSWER = b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"

#: What the other side does with one connection.
Script = Callable[["Server"], Awaitable[None]]


class Server:
    """One connection, as the other side has it."""

    def __init__(self, stream: trio.SSLStream[trio.abc.Stream]) -> None:
        self.stream = stream
        self.heard = b""

    async def hear(self, until: bytes) -> None:
        while until not in self.heard:
            octets = bytes(await self.stream.receive_some(65536))
            if not octets:
                raise trio.BrokenResourceError("it has hung up")
            self.heard += octets

    async def question(self, question: bytes = b"?") -> None:
        """Until there is one more."""
        await self.hear(wire.LENGTH.pack(len(question)) + question)
        self.heard = self.heard.partition(wire.LENGTH.pack(len(question)) + question)[2]

    async def say(self, octets: bytes) -> None:
        await self.stream.send_all(octets)


@asynccontextmanager
async def linked(directory: Path, *scripts: Script) -> AsyncIterator[Links]:
    """Links to a server that has one connection after the other by these scripts; none more can be made."""
    for name in ("a", "b"):
        (directory / name).mkdir()
    found(directory / "a", NOW)
    install(directory / "b", authority(directory / "a"))
    theirs = NodeCertificates(directory / "a", "a", NOW)
    left = list(scripts)
    async with trio.open_nursery() as nursery:

        async def serve(transport: trio.abc.Stream, script: Script) -> None:
            stream = trio.SSLStream(transport, theirs.for_server(), server_side=True, https_compatible=True)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await script(Server(stream))

        async def open_stream(host: str, port: int) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            if not left:
                raise OSError(111, "Connection refused")
            here, there = memory_stream_pair()
            nursery.start_soon(serve, there, left.pop(0))
            return here

        async with open_links(NodeCertificates(directory / "b", "b", NOW), open_stream) as links:
            yield links
        nursery.cancel_scope.cancel()


def by_script(tmp_path: Path, test: Callable[[Links], Awaitable[None]], *scripts: Script) -> None:
    async def main() -> None:
        async with linked(tmp_path, *scripts) as links:
            await test(links)

    run(main)


def saying(octets: bytes, times: int = 1) -> Script:
    async def script(server: Server) -> None:
        for _ in range(times):
            await server.question()
            await server.say(octets)
        await trio.sleep_forever()

    return script


# ------------------------------------------------------------------------------------------- answered


def test_a_connection_is_kept(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        for _ in range(20):
            assert await links.ask(A, b"?", None) == b"hello"
        assert (links.made, links.open) == (1, 1)

    by_script(tmp_path, test, saying(ANSWER, 20))


def test_an_answer_octet_by_octet(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        for _ in range(2):
            await server.question()
            for octet in ANSWER:
                await server.say(bytes([octet]))
                await trio.lowlevel.checkpoint()
        await trio.sleep_forever()

    async def test(links: Links) -> None:
        assert await links.ask(A, b"?", None) == b"hello"
        assert await links.ask(A, b"?", None) == b"hello"
        assert links.made == 1

    by_script(tmp_path, test, script)


def test_so_many_at_a_time_and_the_others_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "LINKS_MAX", 2)
    answered: list[str] = []

    async def test(links: Links) -> None:
        async def ask(party: str) -> None:
            assert await links.ask(A, b"?", party) == b"hello"
            answered.append(party)

        async with trio.open_nursery() as nursery:
            for party in ("one", "one", "one", "one", "two"):
                nursery.start_soon(ask, party)
                await wait_all_tasks_blocked()
        assert links.made == 2

    async def script(server: Server) -> None:
        for _ in range(3):
            await server.question()
            await trio.sleep(1)
            await server.say(ANSWER)
        await trio.sleep_forever()

    by_script(tmp_path, test, script, script)
    # Nobody waits behind the crowd of another.
    assert answered.index("two") < 4


def test_whose_turn_does_not_come_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "LINKS_MAX", 1)

    async def test(links: Links) -> None:
        async def ask() -> None:
            with pytest.raises(LostError):
                await links.ask(A, b"?", None, seconds_max=10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            begun = trio.current_time()
            with pytest.raises(NotAskedError, match="too much"):
                await links.ask(A, b"?", None)
            assert trio.current_time() - begun == TURN_SECONDS_MAX

    by_script(tmp_path, test, saying(b""))


def test_a_link_that_was_closed_while_it_rested_is_not_used(tmp_path: Path) -> None:
    """Real sockets: only there it can be seen."""

    async def main() -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        found(tmp_path / "a", NOW)
        install(tmp_path / "b", authority(tmp_path / "a"))
        theirs = NodeCertificates(tmp_path / "a", "a", NOW)
        closed = trio.Event()

        async def serve(transport: trio.SocketStream) -> None:
            stream = trio.SSLStream(transport, theirs.for_server(), server_side=True, https_compatible=True)
            server = Server(stream)
            await server.question()
            await server.say(ANSWER)
            await transport.aclose()
            closed.set()

        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, serve, 0)
            port = listeners[0].socket.getsockname()[1]
            node = Node("a", "127.0.0.1", port)
            async with open_links(NodeCertificates(tmp_path / "b", "b", NOW)) as links:
                for made in (1, 2, 3):
                    closed = trio.Event()
                    assert await links.ask(node, b"?", None) == b"hello"
                    await closed.wait()
                    (kept,) = links._kept
                    await trio.lowlevel.wait_readable(kept._transport.socket)  # the kernel has said so
                    assert links.made == made
            nursery.cancel_scope.cancel()

    trio.run(main)


# ------------------------------------------------------------------------------------------- not asked


@pytest.mark.parametrize("status", [400, 403, 421, 503])
def test_what_is_refused_was_not_carried_out(tmp_path: Path, status: int) -> None:
    async def test(links: Links) -> None:
        with pytest.raises(NotAskedError) as refused:
            await links.ask(A, b"?", None)
        assert isinstance(refused.value, NotLeadingError) == (status == 421)

    by_script(tmp_path, test, saying(b"HTTP/1.1 %d \r\nContent-Length: 0\r\n\r\n" % status))


def test_nobody_is_there(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        with pytest.raises(NotAskedError, match="refused"):
            await links.ask(A, b"?", None)

    by_script(tmp_path, test)


def test_another_node_is_there(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        with pytest.raises(NotAskedError, match="Hostname mismatch"):
            await links.ask(A._replace(name="c"), b"?", None)

    async def script(server: Server) -> None:
        await server.stream.do_handshake()

    by_script(tmp_path, test, script)


def test_somebody_is_there_who_says_nothing(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        begun = trio.current_time()
        with pytest.raises(NotAskedError, match="in time"):
            await links.ask(A, b"?", None)
        assert trio.current_time() - begun == CONNECT_SECONDS_MAX

    async def script(server: Server) -> None:
        await trio.sleep_forever()

    by_script(tmp_path, test, script)


def test_a_question_that_nobody_would_take_is_not_sent(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        with pytest.raises(NotAskedError, match="too large"):
            await links.ask(A, bytes(wire.BODY_BYTES_MAX + 1), None)
        assert links.made == 0

    by_script(tmp_path, test)


# ------------------------------------------------------------------------------------------- lost


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel",
        b"",
    ],
)
def test_it_ends_within_its_answer(tmp_path: Path, octets: bytes) -> None:
    async def script(server: Server) -> None:
        await server.question()
        await server.say(octets)
        await trio.aclose_forcefully(server.stream)

    async def test(links: Links) -> None:
        with pytest.raises(LostError, match="node a: it hung up"):
            await links.ask(A, b"?", None)
        assert links.open == 0

    by_script(tmp_path, test, script)


@pytest.mark.parametrize(
    "octets",
    [
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 \r\nX: " + b"x" * (2 * wire.HEAD_BYTES_MAX),
        b"HTTP/1.1 204 \r\n\r\n",
        b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 \r\nLocation: https://b.node.invalid/\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["no HTTP", "a long head", "nothing done, and nobody had cancelled", "500", "elsewhere"],
)
def test_an_answer_that_is_none(tmp_path: Path, octets: bytes) -> None:
    async def test(links: Links) -> None:
        with pytest.raises(LostError):
            await links.ask(A, b"?", None)

    by_script(tmp_path, test, saying(octets))


def test_an_answer_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_BYTES_MAX", 100_000)

    async def script(server: Server) -> None:
        await server.question()
        await server.say(b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await server.say(b"1000\r\n" + bytes(0x1000) + b"\r\n")

    async def test(links: Links) -> None:
        with pytest.raises(LostError, match="too large"):
            await links.ask(A, b"?", None)

    by_script(tmp_path, test, script)


def test_more_than_the_answer_ends_the_link(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        assert await links.ask(A, b"?", None) == b"hello"
        assert links.open == 0

    by_script(tmp_path, test, saying(ANSWER + b"HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\nfake"))


def test_no_answer_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        begun = trio.current_time()
        with pytest.raises(LostError, match="does not answer"):
            await links.ask(A, b"?", None)
        assert trio.current_time() - begun == ANSWER_SECONDS_MAX

    by_script(tmp_path, test, saying(b""))


def test_one_that_does_not_read_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        async with linked(tmp_path) as links:
            certificates = links._certificates
            theirs = NodeCertificates(tmp_path / "a", "a", NOW)
            async with trio.open_nursery() as nursery:

                async def serve(transport: trio.SocketStream) -> None:
                    stream = trio.SSLStream(transport, theirs.for_server(), server_side=True)
                    await stream.do_handshake()
                    await trio.sleep_forever()

                listeners = await nursery.start(trio.serve_tcp, serve, 0)
                port = listeners[0].socket.getsockname()[1]
                async with open_links(certificates) as by_tcp:
                    with pytest.raises(LostError, match="does not read"):
                        await by_tcp.ask(Node("a", "127.0.0.1", port), bytes(48 << 20), None)
                nursery.cancel_scope.cancel()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(links_module, "SEND_SECONDS_MAX", 1.0)
        trio.run(main)


def test_what_another_node_is_asked_is_lost_when_it_leads_no_more(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        async def ask() -> None:
            with pytest.raises(LostError, match="another node leads"):
                await links.ask(A, b"?", None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            links.drop_all_but(A)
            await wait_all_tasks_blocked()
            assert links.open == 1
            links.drop_all_but(A._replace(name="b"))
        assert links.open == 0

    by_script(tmp_path, test, saying(b""))


# ------------------------------------------------------------------------------------------- cancelled


async def cancelled(links: Links, *, writes: bool = True) -> bytes | None:
    """What came of one that is cancelled while the other side has it; None: Cancelled."""
    answer: bytes | None = None
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await wait_all_tasks_blocked()
                scope.cancel()

            nursery.start_soon(cancel)
            answer = await links.ask(A, b"?", None, writes=writes)
    return answer


NOTHING = b"HTTP/1.1 204 \r\n\r\n"


@pytest.mark.parametrize("answer", [NOTHING, ANSWER, b"HTTP/1.1 421 \r\nContent-Length: 0\r\n\r\n"])
def test_it_is_told_and_its_word_is_awaited(tmp_path: Path, answer: bytes) -> None:
    async def script(server: Server) -> None:
        await server.question()
        await server.hear(b"1\r\n" + wire.CANCEL + b"\r\n")
        await trio.sleep(1)
        await server.say(answer)
        await server.question()
        await server.say(ANSWER)
        await trio.sleep_forever()

    async def test(links: Links) -> None:
        assert await cancelled(links) == (b"hello" if answer == ANSWER else None)
        # The link is as good as before.
        assert await links.ask(A, b"?", None) == b"hello"
        assert links.made == 1

    by_script(tmp_path, test, script)


@pytest.mark.parametrize("cut", range(len(ANSWER)))
def test_cancelled_in_the_middle_of_the_answer_it_is_the_answer(tmp_path: Path, cut: int) -> None:
    async def script(server: Server) -> None:
        await server.question()
        await server.say(ANSWER[:cut])
        await server.hear(wire.CANCEL)
        await server.say(ANSWER[cut:])
        await trio.sleep_forever()

    async def test(links: Links) -> None:
        assert await cancelled(links) == b"hello"

    by_script(tmp_path, test, script)


def test_one_that_says_nothing_more_is_not_waited_for_for_long(tmp_path: Path) -> None:
    """And whoever asked is not told that it was not done."""

    async def test(links: Links) -> None:
        begun = trio.current_time()
        with pytest.raises(BaseExceptionGroup) as lost:
            await cancelled(links)
        assert lost.group_contains(LostError)
        assert trio.current_time() - begun == CANCELLED_SECONDS_MAX

    by_script(tmp_path, test, saying(b""))


def test_what_changes_nothing_is_cancelled_at_once(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        begun = trio.current_time()
        assert await cancelled(links, writes=False) is None
        assert trio.current_time() == begun
        assert links.open == 0

    by_script(tmp_path, test, saying(b""))


def test_cancelled_before_it_is_sent_nothing_is_sent(tmp_path: Path) -> None:
    async def test(links: Links) -> None:
        for steps in range(30):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def ask() -> None:
                        await links.ask(A, b"?", None)

                    nursery.start_soon(ask)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            assert links.open <= 1

    async def script(server: Server) -> None:
        await server.stream.do_handshake()
        while True:
            heard = bytes(await server.stream.receive_some(65536))
            if not heard:
                return
            # Whole, or not at all.
            assert heard.startswith(b"POST") or b"POST" in heard or wire.CANCEL in heard
            await server.say(NOTHING if wire.CANCEL in heard else b"")

    by_script(tmp_path, test, *[script] * 30)
