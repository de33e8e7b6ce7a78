"""The acceptance seam's contract, by all of its carriers: a plain call, frames over sockets, a link to a node."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.acceptance import Idempotency, Send, Sent
from relay.api.answers import error_answer
from relay.authentication import authenticate
from relay.edge import DecisionFailedError
from relay.edges import words
from relay.edges.answering import OneEdge
from relay.edges.asking import LOOK_SECONDS
from relay.events import MessageQueued, SendAccepted
from relay.principals import Principal, Stranger
from relay.processes.channel import Channel
from relay.processes.frames import BrokenFrame
from relay.refusals import Refusal
from relay.requests import BySmtp, parse_send
from relay.self_service import Suppress
from relay.unsubscribing import Click
from relay.views import messages
from tests.world.carriers import CARRIERS, Carrier, Door, open_door
from tests.world.gate import Gate
from tests.world.relay import DID, World, open_world, run

by_all = pytest.mark.parametrize("carrier", CARRIERS)


def wanted(to: str | list[str] = "friend@example.com", *, key: str | None = None, text: str = "Hi") -> Send:
    fields = {"from": "you@yourdomain.com", "to": to, "subject": "Hello", "text": text}
    body = json.dumps(fields).encode()
    sha256 = hashlib.sha256(body).hexdigest()
    return Send(
        request=parse_send(body),
        client_address="192.0.2.1",
        idempotency=None if key is None else Idempotency(hashlib.sha256(key.encode()).hexdigest(), sha256),
        body_sha256=sha256,
        size=len(body),
    )


def member_of(world: World) -> Principal:
    key = world.credentials["Authorization"].removeprefix("Bearer ")
    with world.core.store.read() as view:
        return authenticate(view, world.core.pepper, DID, key)[0]


def sends(world: World) -> list[SendAccepted]:
    return [event for event in world.events() if isinstance(event, SendAccepted)]


def at_the_door(
    tmp_path: Path,
    carrier: Carrier,
    test: Callable[[World, Door, Principal], Awaitable[None]],
    **options: Any,
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", **options) as world, open_door(world, carrier) as door:
            await test(world, door, member_of(world))

    run(main)


def two_edges(
    tmp_path: Path,
    carrier: Carrier,
    test: Callable[[World, list[Door], Principal], Awaitable[None]],
    **options: Any,
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", **options) as world, AsyncExitStack() as stack:
            doors = [await stack.enter_async_context(open_door(world, carrier)) for _ in range(2)]
            await test(world, doors, member_of(world))

    run(main)


async def all_at_once(*questions: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What each gives, or the refusal."""
    answers: list[Any] = [None] * len(questions)

    async def ask(index: int) -> None:
        try:
            answers[index] = await questions[index]()
        except Refusal as refusal:
            answers[index] = refusal

    async with trio.open_nursery() as nursery:
        for index in range(len(questions)):
            nursery.start_soon(ask, index)
    return answers


# ------------------------------------------------------------------------------------------------ accepted


@by_all
def test_returned_is_durable_and_in_the_views(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, door: Door, member: Principal) -> None:
        sent = await door.decide("send", wanted(["a@example.com", "Bob <b@example.com>"]), member)
        assert sent == Sent(sent.seq, 2, ("a@example.com", "Bob <b@example.com>"))
        accepted, *queued = [world.core.store.get(seq).event for seq in (sent.seq, *sent.ids)]
        assert isinstance(accepted, SendAccepted)
        assert accepted.personal is not None
        assert (accepted.personal.text, accepted.personal.client_address) == ("Hi", "192.0.2.1")
        assert all(isinstance(event, MessageQueued) for event in queued)
        with world.core.store.read() as view:
            assert all(messages.message(view, message_id) for message_id in sent.ids)

    at_the_door(tmp_path, carrier, test)


@by_all
def test_what_is_large_passes_whole(tmp_path: Path, carrier: Carrier) -> None:
    """As large as a mail over SMTP may be; and the answer holds nothing of it."""
    lines = b"".join(b"%07d\r\n" % line for line in range(12 * 1024 * 1024 // 9))
    raw = b"From: you@yourdomain.com\r\n\r\n" + lines

    async def test(world: World, door: Door, member: Principal) -> None:
        small = wanted()
        request = small.request._replace(
            content=type(small.request.content)(from_address="you@yourdomain.com", raw=raw),
            by_smtp=BySmtp("yourdomain.com", None, False, "ESMTPSA"),
        )
        large = Send(request=request, body_sha256=small.body_sha256, size=len(raw))
        sent = await door.decide("send", large, member)
        accepted = world.core.store.get(sent.seq).event
        assert accepted.personal.raw == raw

    at_the_door(tmp_path, carrier, test)


@by_all
def test_a_stranger_and_other_answers(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, door: Door, member: Principal) -> None:
        full = member._replace(scope="full")
        assert (await door.decide("suppress", Suppress(address="a@example.com"), full)).is_new is True
        assert (await door.decide("suppress", Suppress(address="a@example.com"), full)).is_new is False
        with pytest.raises(Refusal) as refused:
            await door.decide("unsubscribe", Click(token="none of ours"), Stranger())
        assert refused.value.code == "NOT_FOUND"
        sent = await door.decide("send", wanted(["a@example.com", "b@example.com"]), member)
        assert (sent.accepted, sent.rejected) == (("b@example.com",), (("a@example.com", "manual"),))
        assert await door.why_not_accepting() is None

    at_the_door(tmp_path, carrier, test)


# ------------------------------------------------------------------------------------------------ refused


@by_all
def test_a_refusal_is_raised_as_it_was(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, door: Door, member: Principal) -> None:
        await door.decide("send", wanted(), member)
        await trio.sleep(600)
        for name, arguments, asker, code, seconds in (
            ("send", wanted(), member, "RATE_LIMITED", 3000),
            (
                "suppress",
                Suppress(address="a@b.example"),
                member._replace(scope="send"),
                "SCOPE_INSUFFICIENT",
                None,
            ),
            ("send", wanted(), member._replace(key_id="another"), "AUTH_FAILED", None),
        ):
            with pytest.raises(Refusal) as refused:
                await door.decide(name, arguments, asker)
            assert (refused.value.code, refused.value.retry_after_seconds) == (code, seconds)
            assert refused.value.message
        assert len(sends(world)) == 1

    at_the_door(tmp_path, carrier, test, settings="\n[warming]\ntiers = [ { hour = 1, day = 10 } ]\n")


@by_all
@pytest.mark.parametrize("what", ["key_revoke", "member_suspend"])
def test_a_key_and_a_membership_are_looked_at_when_it_is_decided(
    tmp_path: Path, carrier: Carrier, what: str
) -> None:
    async def test(world: World, door: Door, member: Principal) -> None:
        if what == "key_revoke":
            await world.command(what, did=DID, key_id=member.key_id)
        else:
            await world.command(what, did=DID)
        with pytest.raises(Refusal) as refused:
            await door.decide("send", wanted(), member)
        assert refused.value.code == {"key_revoke": "AUTH_FAILED", "member_suspend": "MEMBER_SUSPENDED"}[what]
        assert sends(world) == []

    at_the_door(tmp_path, carrier, test)


@by_all
def test_no_edge_makes_more_of_a_key_than_it_is_good_for(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, door: Door, member: Principal) -> None:
        issued = await world.command("key_issue", did=DID, scope="send")
        named = Principal(DID, issued["keyId"], "full")
        suppress = Suppress(address="friend@example.com")
        with pytest.raises(Refusal) as refused:
            await door.decide("suppress", suppress, named)
        assert refused.value.code == "AUTH_FAILED"
        with pytest.raises(Refusal) as refused:
            await door.decide("suppress", suppress, named._replace(scope="send"))
        assert refused.value.code == "SCOPE_INSUFFICIENT"
        assert (await door.decide("send", wanted(), named._replace(scope="send"))).messages == 1

    at_the_door(tmp_path, carrier, test)


@pytest.mark.parametrize("writes", [{DID: -1000}, {DID: 0}, {"did:web:" + "x" * 600: 1}])
def test_an_edge_that_tells_what_cannot_be_is_broken(tmp_path: Path, writes: dict[str, int]) -> None:
    """It gets no member more writes, and does not end the core by a name that is no key of LMDB's."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ours, theirs = trio.socket.socketpair()
            with theirs:
                one = OneEdge(world.core, "edge", Channel(trio.SocketStream(ours), questions=words.TO_CORE))
                with pytest.raises(BrokenFrame):
                    one.hear(words.Refused(writes))
                one.lose()
            ours.close()

    run(main)


def test_a_defect_is_an_answer_and_the_core_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Over a channel, where it would end both processes; without one it is the door's to answer."""

    def defect(*_: Any, **__: Any) -> Any:
        raise KeyError("a defect")  # derived from what is carried, and none of it

    async def test(world: World, door: Door, member: Principal) -> None:
        with monkeypatch.context() as planted:
            planted.setattr("relay.acceptance.accept_send", defect)
            with pytest.raises(DecisionFailedError) as failed:
                await door.decide("send", wanted(), member)
            (line,) = [record for record in caplog.records if record.message == "edge.defect"]
            assert vars(line)["request_id"] == failed.value.request_id
            answer, code = error_answer(failed.value, method="POST", route="/v1/send")
            assert (answer.request_id, code) == (failed.value.request_id, "INTERNAL_ERROR")
        assert (await door.decide("send", wanted(), member)).messages == 1

    at_the_door(tmp_path, "channel", test)


# ------------------------------------------------------------------------------------------------ cancelled


@by_all
def test_cancelled_is_not_written_and_returned_is_whenever_it_comes(tmp_path: Path, carrier: Carrier) -> None:
    """At each step of the way, enumerated, until it is too late to cancel."""

    async def test(world: World, door: Door, member: Principal) -> None:
        returned: list[int] = []
        cancelled = 0

        async def send(scope: trio.CancelScope) -> None:
            nonlocal cancelled
            with scope:
                returned.append((await door.decide("send", wanted(), member)).seq)
            cancelled += scope.cancelled_caught

        for steps in range(200):
            scope = trio.CancelScope()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, scope)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
            if len(returned) >= 10:
                break
        assert cancelled >= 2
        assert len(returned) == 10
        assert len(sends(world)) == 10

    at_the_door(tmp_path, carrier, test)


@by_all
def test_cancelled_when_the_writer_has_it_is_returned(tmp_path: Path, carrier: Carrier) -> None:
    gate = Gate()

    async def test(world: World, door: Door, member: Principal) -> None:
        returned: list[Sent] = []
        scope = trio.CancelScope()

        async def send() -> None:
            with scope:
                returned.append(await door.decide("send", wanted(), member))

        async with trio.open_nursery() as nursery:
            gate.shut()
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert not returned
            gate.open()
        (sent,) = returned
        assert isinstance(world.core.store.get(sent.seq).event, SendAccepted)

    at_the_door(tmp_path, carrier, test, offload=gate.offload)


@by_all
def test_cancelled_before_the_writer_has_it_is_not_written(tmp_path: Path, carrier: Carrier) -> None:
    """The writer is at another one, which does not know of it."""
    gate = Gate()

    async def test(world: World, door: Door, member: Principal) -> None:
        async with trio.open_nursery() as nursery:
            gate.shut()
            nursery.start_soon(world.core.decide, "send", wanted("first@example.com"), member)
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as waiting:
                waiting.start_soon(door.decide, "send", wanted("second@example.com"), member)
                await wait_all_tasks_blocked()
                waiting.cancel_scope.cancel()
            gate.open()
        assert len(sends(world)) == 1

    at_the_door(tmp_path, carrier, test, offload=gate.offload)


# ------------------------------------------------------------------------------------------------ several edges


@by_all
def test_one_key_at_two_edges_is_one_send(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, doors: list[Door], member: Principal) -> None:
        same = wanted(key="key")
        answers = await all_at_once(
            *[lambda door=door: door.decide("send", same, member) for door in doors * 5]  # type: ignore[misc]
        )
        assert len({answer.seq for answer in answers}) == 1
        assert sorted(answer.is_replay for answer in answers) == [False] + [True] * 9
        (conflict,) = await all_at_once(
            lambda: doors[1].decide("send", wanted("b@example.com", key="key"), member)
        )
        assert conflict.code == "IDEMPOTENCY_CONFLICT"
        assert len(sends(world)) == 1

    two_edges(tmp_path, carrier, test)


@by_all
def test_limits_are_exact(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, doors: list[Door], member: Principal) -> None:
        answers = await all_at_once(
            *[lambda door=door: door.decide("send", wanted(), member) for door in doors * 5]  # type: ignore[misc]
        )
        codes = [answer.code for answer in answers if isinstance(answer, Refusal)]
        assert codes == ["RATE_LIMITED"] * 7
        assert len(sends(world)) == 3

    two_edges(tmp_path, carrier, test, settings="\n[warming]\ntiers = [ { hour = 3, day = 10 } ]\n")


def of_five(world: World) -> None:
    """Five writes a minute, from now on."""
    config = world.core.config
    members = msgspec.structs.replace(config.members, writes_per_minute=5)
    world.core.settings.take(msgspec.structs.replace(config, members=members))


def test_writes_a_minute_are_exact_for_what_is_written(tmp_path: Path) -> None:
    async def write(door: Door, member: Principal) -> Any:
        door.quota.take_write(member.did)  # as every door does first
        return await door.decide("send", wanted(), member)

    async def test(world: World, doors: list[Door], member: Principal) -> None:
        of_five(world)
        answers = await all_at_once(
            *[lambda door=door: write(door, member) for door in doors * 4]  # type: ignore[misc]
        )
        assert [answer.code for answer in answers if isinstance(answer, Refusal)] == ["RATE_LIMITED"] * 3
        assert len(sends(world)) == 5

    two_edges(tmp_path, "channel", test)


def test_what_came_to_nothing_at_one_edge_counts_at_the_other(tmp_path: Path) -> None:
    async def test(world: World, doors: list[Door], member: Principal) -> None:
        of_five(world)
        one, other = doors
        assert one.tell_refused is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.tell_refused)
            for _ in range(4):
                one.quota.take_write(DID)
            one.quota.take_write(DID)
            await one.decide("send", wanted(), member)
            with pytest.raises(Refusal):
                one.quota.take_write(DID)
            # Two looks, and the core has it. In 20 s it has one more, and two thirds of another.
            await trio.sleep(2 * LOOK_SECONDS + 0.1)
            nursery.cancel_scope.cancel()
        await other.decide("send", wanted(), member)
        with pytest.raises(Refusal) as refused:
            await other.decide("send", wanted(), member)
        assert refused.value.code == "RATE_LIMITED"
        assert len(sends(world)) == 2

    two_edges(tmp_path, "channel", test)


@by_all
def test_messages_of_strangers_are_counted_for_all_edges(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, doors: list[Door], member: Principal) -> None:
        most = world.core.config.inbound.messages_per_minute_per_address
        answers = await all_at_once(
            *[lambda door=door: door.take_message("192.0.2.1") for door in doors * most]  # type: ignore[misc]
        )
        assert sum(isinstance(answer, Refusal) for answer in answers) == most
        await doors[0].take_message("192.0.2.2")

    two_edges(tmp_path, carrier, test)
