"""The door for other nodes, asked octet by octet by somebody with a good certificate and no manners, and by others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.nodes import door as doors
from relay.nodes import wire, words
from relay.nodes.certificates import NodeCertificates, found, host_of
from relay.nodes.door import open_door
from relay.nodes.handshakes import HANDSHAKE_SECONDS_MAX, HANDSHAKES_MAX
from relay.nodes.links import NotAskedError, open_links
from relay.nodes.words import Node
from relay.principals import Principal
from relay.self_service import Suppress
from tests.edges.test_acceptance_seam import member_of, sends, wanted
from tests.nodes.beside_a_leader import with_follower
from tests.world.gate import Gate
from tests.world.nodes import LEADER, NOW, Follower
from tests.world.relay import World, open_world

HEAD = b"POST /ask HTTP/1.1\r\nHost: a.node.invalid\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(octets), octets)


def asked(question: msgspec.Struct) -> bytes:
    octets = msgspec.msgpack.encode(question)
    return chunk(wire.LENGTH.pack(len(octets)) + octets)


HOW_FAR = HEAD + asked(words.HowFar())


class Raw:
    """A connection to the leader's door, as a node."""

    def __init__(self, stream: trio.SSLStream[trio.abc.Stream]) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._http.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
        self._http.send(h11.EndOfMessage())

    async def say(self, octets: bytes) -> None:
        await self.stream.send_all(octets)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next. Raises EOFError where the connection ends."""
        status, body = 0, b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                octets = bytes(await self.stream.receive_some(65536))
                if not octets:
                    raise EOFError
                self._http.receive_data(octets)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                    self._http.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
                    self._http.send(h11.EndOfMessage())
                return status, body

    async def is_ended(self) -> bool:
        """Until the door has closed it."""
        try:
            return not await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return True


@asynccontextmanager
async def raw(follower: Follower) -> AsyncIterator[Raw]:
    transport = await follower.network.open_stream(LEADER.host, LEADER.port)
    context = NodeCertificates(follower.core.directory, "b", NOW).for_client()
    stream = trio.SSLStream(transport, context, server_hostname=host_of(LEADER.name), https_compatible=True)
    await stream.do_handshake()
    try:
        yield Raw(stream)
    finally:
        await trio.aclose_forcefully(stream)


def by_hand(tmp_path: Path, test: Callable[[World, Follower, Raw], Awaitable[None]]) -> None:
    async def with_raw(world: World, follower: Follower, _: Principal) -> None:
        async with raw(follower) as one:
            await test(world, follower, one)

    with_follower(tmp_path, with_raw)


def is_answered(answer: tuple[int, bytes], world: World) -> bool:
    status, body = answer
    return (
        status == 200 and msgspec.msgpack.decode(body, type=words.Answered).seq == world.core.store.last_seq
    )


# ------------------------------------------------------------------------------------------- octets


def test_octet_by_octet_is_as_in_one_piece(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        for _ in range(2):
            for index in range(len(HOW_FAR)):
                await one.say(HOW_FAR[index : index + 1])
                await trio.lowlevel.checkpoint()
            assert is_answered(await one.answer(), world)
            await one.say(END)

    by_hand(tmp_path, test)


def test_the_question_may_come_in_many_chunks_and_end_before_its_answer(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        octets = msgspec.msgpack.encode(words.HowFar())
        whole = wire.LENGTH.pack(len(octets)) + octets
        for _ in range(3):
            await one.say(HEAD + b"".join(chunk(bytes([octet])) for octet in whole) + END)
            assert is_answered(await one.answer(), world)

    by_hand(tmp_path, test)


def test_two_questions_at_once_are_answered_one_after_the_other(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        await one.say((HOW_FAR + END) * 5)
        for _ in range(5):
            assert is_answered(await one.answer(), world)

    by_hand(tmp_path, test)


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /ask HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /else HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400),
        (HEAD + chunk(wire.LENGTH.pack(wire.BODY_BYTES_MAX + 1)), 503),
    ],
)
def test_what_is_no_question_is_refused_and_the_connection_ended(
    tmp_path: Path, octets: bytes, status: int
) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        await one.say(octets)
        assert await one.answer() == (status, b"")
        assert await one.is_ended()

    by_hand(tmp_path, test)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01 no HTTP\r\n\r\n",
        b"POST /ask HTTP/1.1\r\nX: " + b"x" * (2 * wire.HEAD_BYTES_MAX),
        HEAD + b"zz\r\n",
        HEAD + END,
        HEAD + chunk(wire.LENGTH.pack(1) + b"\xc0 and more"),
        b"POST /ask HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["no HTTP", "a long head", "no chunk", "no body", "more than it says", "too short"],
)
def test_what_cannot_be_read_ends_the_connection_and_nothing_else(tmp_path: Path, octets: bytes) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        await one.say(octets)
        assert await one.is_ended()
        assert await follower.core.why_not_accepting() is None

    by_hand(tmp_path, test)


def test_a_question_that_is_none_is_400_and_the_connection_stays(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        for octets in (b"\xc1", msgspec.msgpack.encode({"type": "order"}), b"\x91" * 5000):
            await one.say(HEAD + chunk(wire.LENGTH.pack(len(octets)) + octets) + END)
            assert await one.answer() == (400, b"")
        await one.say(HOW_FAR)
        assert is_answered(await one.answer(), world)

    by_hand(tmp_path, test)


def test_there_is_no_such_decision_for_who_asks(tmp_path: Path) -> None:
    """An order, by nobody."""

    async def test(world: World, follower: Follower, one: Raw) -> None:
        order = msgspec.msgpack.encode({"did": "did:web:a.example"})
        await one.say(HEAD + asked(words.Decide("member_suspend", msgspec.Raw(order))))
        status, body = await one.answer()
        answered = msgspec.msgpack.decode(body, type=words.Answered)
        assert status == 200
        assert answered.raised is not None
        assert answered.raised.name == "LookupError"

    by_hand(tmp_path, test)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("no_such_thing", {}), ("suppress", {"address": "a@b.example", "what_is_new": True}), ("suppress", 5)],
    ids=["a decision", "an argument", "arguments of another kind"],
)
def test_what_only_a_newer_version_knows_is_not_done_in_part(
    tmp_path: Path, name: str, arguments: object
) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        octets = msgspec.Raw(msgspec.msgpack.encode(arguments))
        await one.say(HEAD + asked(words.Decide(name, octets, Principal("did:web:a.example", "k"))))
        _, body = await one.answer()
        answered = msgspec.msgpack.decode(body, type=words.Answered)
        assert answered.raised is not None
        code, sentence, _ = answered.raised.values
        assert code == "TEMPORARILY_UNAVAILABLE"
        assert f"another version of the relay, and does not understand {name}" in sentence

    by_hand(tmp_path, test)


# ------------------------------------------------------------------------------------------- cancelled


def test_a_cancelled_question_is_not_carried_out(tmp_path: Path) -> None:
    gate = Gate()

    async def test(world: World, follower: Follower, member: Principal) -> None:
        decide = words.Decide("send", msgspec.Raw(msgspec.msgpack.encode(wanted())), member)
        async with raw(follower) as one, trio.open_nursery() as nursery:
            gate.shut()
            nursery.start_soon(world.core.decide, "send", wanted("first@example.com"), member)
            await wait_all_tasks_blocked()
            await one.say(HEAD + asked(decide))
            await wait_all_tasks_blocked()
            await one.say(chunk(wire.CANCEL))
            assert await one.answer() == (204, b"")
            gate.open()
            # And the connection is as good as before.
            await one.say(END + HOW_FAR)
            assert (await one.answer())[0] == 200
        assert len(sends(world)) == 1

    with_follower(tmp_path, test, offload=gate.offload)


def test_who_cancels_what_is_answered_already_has_the_answer(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        await one.say(HOW_FAR)
        assert is_answered(await one.answer(), world)
        await one.say(chunk(wire.CANCEL) + END + HOW_FAR)
        assert is_answered(await one.answer(), world)

    by_hand(tmp_path, test)


def test_who_goes_wants_no_answer(tmp_path: Path) -> None:
    """What is not with the writer yet is not written for nobody."""
    gate = Gate()

    async def test(world: World, follower: Follower, member: Principal) -> None:
        decide = words.Decide("send", msgspec.Raw(msgspec.msgpack.encode(wanted())), member)
        async with trio.open_nursery() as nursery:
            gate.shut()
            nursery.start_soon(world.core.decide, "send", wanted("first@example.com"), member)
            await wait_all_tasks_blocked()
            async with raw(follower) as one:
                await one.say(HEAD + asked(decide))
                await wait_all_tasks_blocked()
            follower.network.end_connections()
            await wait_all_tasks_blocked()
            gate.open()
        await wait_all_tasks_blocked()
        assert len(sends(world)) == 1

    with_follower(tmp_path, test, offload=gate.offload)


# ------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    "octets", [HEAD[:20], HEAD, HEAD + chunk(wire.LENGTH.pack(100) + b"half")], ids=["head", "length", "body"]
)
def test_half_a_question_is_not_waited_for(tmp_path: Path, octets: bytes) -> None:
    async def test(world: World, follower: Follower, one: Raw) -> None:
        begun = trio.current_time()
        await one.say(octets)
        if octets == HEAD[:20]:
            # No question has begun: it rests, like any that is kept.
            with trio.move_on_after(3600) as patience:
                await one.is_ended()
            assert patience.cancelled_caught
            return
        assert await one.is_ended()
        assert trio.current_time() - begun == doors.QUESTION_SECONDS_MAX

    by_hand(tmp_path, test)


def test_who_shows_nothing_is_sent_away(tmp_path: Path) -> None:
    async def test(world: World, follower: Follower, _: Principal) -> None:
        begun = trio.current_time()
        silent = [await follower.network.open_stream(LEADER.host, LEADER.port) for _ in range(HANDSHAKES_MAX)]
        await wait_all_tasks_blocked()
        one_more = await follower.network.open_stream(LEADER.host, LEADER.port)
        assert await one_more.receive_some(1) == b""
        assert trio.current_time() == begun
        for stream in silent:
            assert await stream.receive_some(1) == b""
        assert trio.current_time() - begun == HANDSHAKE_SECONDS_MAX
        assert await follower.core.why_not_accepting() is None

    with_follower(tmp_path, test)


def test_one_node_has_so_many_connections_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "CONNECTIONS_OF_ONE_MAX", 2)

    async def test(world: World, follower: Follower, _: Principal) -> None:
        async with raw(follower) as first, raw(follower) as second:
            for one in (first, second):
                await one.say(HOW_FAR)
                assert is_answered(await one.answer(), world)
            async with raw(follower) as third:
                assert await third.is_ended()
        await wait_all_tasks_blocked()
        follower.network.end_connections()
        await wait_all_tasks_blocked()
        async with raw(follower) as again:
            await again.say(HOW_FAR)
            assert is_answered(await again.answer(), world)

    with_follower(tmp_path, test)


def test_who_has_only_the_name_of_a_node_takes_none_of_its_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by what comes when the name is another machine's, nor by what is there from before."""
    monkeypatch.setattr(doors, "CONNECTIONS_OF_ONE_MAX", 2)

    async def test(world: World, follower: Follower, _: Principal) -> None:
        right = follower.identity
        follower.identity = "another machine's"
        async with raw(follower) as first, raw(follower) as second:
            await wait_all_tasks_blocked()  # the leader has looked at what was shown
            follower.identity = right
            async with raw(follower) as one:
                await one.say(HOW_FAR)
                assert is_answered(await one.answer(), world)
            follower.identity = "another machine's"
            async with raw(follower) as third:
                assert await third.is_ended()
            for ended in (first, second):
                assert await ended.is_ended()
            await wait_all_tasks_blocked()
            async with raw(follower) as again:
                await again.say(HOW_FAR)
                assert (await again.answer())[0] == wire.NO_NODE

    with_follower(tmp_path, test)


def test_large_questions_of_one_node_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "QUESTIONS_OCTETS_MAX", 400_000)

    async def test(world: World, follower: Follower, _: Principal) -> None:
        large = msgspec.msgpack.encode(words.HowFar()) + b"\xc0" * 90_000  # no question, and it takes room
        async with raw(follower) as first, raw(follower) as second:
            await first.say(HEAD + chunk(wire.LENGTH.pack(len(large)) + large[:10]))
            await wait_all_tasks_blocked()
            await second.say(HEAD + chunk(wire.LENGTH.pack(len(large)) + large))
            await wait_all_tasks_blocked()
            assert follower.door.buffers.octets == len(large)
            await first.say(chunk(large[10:]))
            assert await first.answer() == (400, b"")
            assert await second.answer() == (400, b"")
        await wait_all_tasks_blocked()
        assert follower.door.buffers.octets == 0

    with_follower(tmp_path, test)


# ------------------------------------------------------------------------------------------- over the network


def test_over_tcp_and_closed_in_order(tmp_path: Path) -> None:
    """Real sockets and a real clock: kept connections, and what is under way when the door is closed."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "a", offload=gate.offload) as world:
            found(world.core.directory, NOW)
            own = NodeCertificates(world.core.directory, "a", NOW)
            question = msgspec.msgpack.encode(words.HowFar())
            suppress = words.Decide(
                "suppress",
                msgspec.Raw(msgspec.msgpack.encode(Suppress(address="a@example.com"))),
                member_of(world)._replace(scope="full"),
            )
            answers: list[bytes] = []
            async with open_links(own) as links, trio.open_nursery() as nursery:
                async with open_door(
                    world.core,
                    "127.0.0.1:0",
                    own,
                    is_node=lambda name, identity: (name, identity) == ("a", own.identity),
                    leads=lambda: True,
                ) as door:
                    host, _, port = door.address.rpartition(":")
                    node = Node("a", host, int(port))
                    for _ in range(10):
                        await links.ask(node, question, None)
                    assert links.made == 1

                    async def ask() -> None:
                        answers.append(await links.ask(node, msgspec.msgpack.encode(suppress), None))

                    gate.shut()
                    nursery.start_soon(ask)
                    while not door.is_busy:
                        await trio.lowlevel.checkpoint()
                    gate.open()
                assert msgspec.msgpack.decode(answers[0], type=words.Answered).raised is None
                with pytest.raises(NotAskedError):
                    await links.ask(node, question, None)
                assert links.open == 0

    trio.run(main)
