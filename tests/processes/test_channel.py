"""Two sides that ask and tell each other: who calls learns what has become of it, whatever the other side does."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from relay.mail_reading import NotReadNow
from relay.message.key_files import KeyFileError
from relay.processes import channel as channel_module
from relay.processes.carried import CARRIED
from relay.processes.channel import Channel, ChannelClosed
from relay.refusals import Refusal
from spool.errors import (
    CorruptionError,
    LogClosedError,
    LogDeposedError,
    LogFollowsError,
    LogPoisonedError,
    LogStalledError,
    ReadersFullError,
    SequenceNotFoundError,
)
from tests.processes.channels import (
    QUESTIONS,
    Echo,
    Echoed,
    News,
    Wait,
    beside_a_socket,
    deaf,
    echo,
    frame,
    in_trio,
    leaves,
    pair,
)
from tests.world.process import PATIENCE_SECONDS


@in_trio
async def test_calls_are_answered_in_any_order_and_both_ways() -> None:
    let_go = {"a": trio.Event(), "b": trio.Event()}

    async def answer(question: Any) -> Any:
        await let_go[question.name].wait()
        return Echoed(question.name)

    order: list[str] = []
    async with pair(answer) as (here, there, _):

        async def ask(name: str) -> None:
            order.append((await here.call(Wait(name), Echoed)).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "a")
            nursery.start_soon(ask, "b")
            await trio.testing.wait_all_tasks_blocked(0.01)
            # The other side asks while it is being asked.
            assert await there.call(Echo("ä", b"\0\xff"), Echoed) == Echoed("ä", b"\0\xff")
            let_go["b"].set()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert order == ["b"]
            let_go["a"].set()
    assert order == ["b", "a"]


@in_trio
async def test_an_answer_may_ask_back() -> None:
    async def answer(question: Any) -> Any:
        if question.text == "":
            return Echoed("end")
        inner = await there.call(Echo(question.text[1:]), Echoed)
        return Echoed(question.text[0] + inner.text)

    async def answer_here(question: Any) -> Any:
        return await here.call(Echo(question.text), Echoed)

    async with pair(answer, answer_here=answer_here) as (here, there, _):
        assert (await here.call(Echo("abcdefgh"), Echoed)).text == "abcdefghend"


@in_trio
async def test_many_at_a_time_large_and_small() -> None:
    """More than a socket holds, in both directions, so that both sides wait for room while they read."""
    async with pair() as (here, there, _):

        async def ask(channel: Channel, number: int) -> None:
            octets = bytes([number % 251]) * ((number * 7919) % 300_000 if number % 10 == 0 else number)
            answered = await channel.call(Echo(str(number), octets), Echoed)
            assert answered == Echoed(str(number), octets)

        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(ask, here, number)
                nursery.start_soon(ask, there, number)
        assert here._waiting == there._waiting == here._answering == there._answering == {}
        assert here._unsent_bytes == there._unsent_bytes == 0


@in_trio
async def test_what_is_told_is_heard_in_order() -> None:
    heard: list[int] = []
    async with pair(hear=lambda news: heard.append(news.number)) as (here, _, _):
        for number in range(20_000):
            here.tell(News(number))
        await here.call(Echo(), Echoed)
        assert heard == list(range(20_000))


@pytest.mark.parametrize(
    "error",
    [
        Refusal("RATE_LIMITED", "läter", retry_after_seconds=7),
        Refusal("NOT_FOUND", "no"),
        CorruptionError(file="a.seg", offset=2**40, seq=3, part="payload", problem="flipped"),
        ReadersFullError(),
        LookupError("member_add"),
        SequenceNotFoundError("9"),
        LogStalledError("slow"),
        LogDeposedError("another leads"),
        LogFollowsError("another leads"),
        LogPoisonedError(),
        LogClosedError(),
        LogDeposedError("another appends"),
        LogFollowsError("follows"),
        NotReadNow(),
        KeyFileError("keys/a: others can read it"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error}"[:30],
)
@in_trio
async def test_what_is_carried_is_raised_as_what_it_was(error: Exception) -> None:
    async def answer(_: Any) -> Any:
        raise error

    async with pair(answer) as (here, _, _):
        with pytest.raises(type(error)) as raised:
            await here.call(Echo(), Echoed)
    assert type(raised.value) is type(error)
    assert str(raised.value) == str(error)
    carried = {**vars(raised.value)}
    carried.pop("__notes__", None)
    assert carried == vars(error)


def test_each_of_what_is_carried_is_tried() -> None:
    (mark,) = [m for m in test_what_is_carried_is_raised_as_what_it_was.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]
    assert {type(error) for error in mark.args[1]} == set(CARRIED)


class _Derived(Refusal):
    pass


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), _Derived("NOT_FOUND", "x")], ids=repr)
@in_trio
async def test_a_defect_goes_up_where_it_is_and_the_caller_learns_of_an_end(error: Exception) -> None:
    async def answer(_: Any) -> Any:
        raise error

    with pytest.raises(ExceptionGroup) as raised:
        async with pair(answer) as (here, _, _):
            with trio.CancelScope(shield=True), pytest.raises(ChannelClosed):
                await here.call(Echo(), Echoed)
    assert leaves(raised.value) == [error]


# ---------------------------------------------------------------------------------------------------- to be cancelled


@in_trio
async def test_cancelled_before_it_is_asked_nobody_is_asked() -> None:
    async with pair(answer=deaf) as (here, _, _):  # type: ignore[arg-type]
        with trio.CancelScope() as scope:
            scope.cancel()
            await here.call(Echo(), Echoed)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.mark.parametrize("what", ["nothing was done", "it was done", "it was refused"])
@in_trio
async def test_cancelled_the_other_side_says_what_has_become_of_it(what: str) -> None:
    asked, may_end = trio.Event(), trio.Event()

    async def answer(question: Any) -> Any:
        asked.set()
        if what == "nothing was done":
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await may_end.wait()
        with trio.CancelScope(shield=True):
            await may_end.wait()
        if what == "it was refused":
            raise Refusal("CONFLICT", "")
        return Echoed("done")

    ended: list[Any] = []
    async with pair(answer) as (here, there, _), trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def ask() -> None:
            with scope:
                try:
                    ended.append(await here.call(Wait(""), Echoed))
                except Refusal as refusal:
                    ended.append(refusal.code)
                except trio.Cancelled:
                    ended.append("cancelled")
                    raise

        nursery.start_soon(ask)
        await asked.wait()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert ended == []  # not before the other side has said it
        may_end.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        expected = {
            "nothing was done": "cancelled",
            "it was done": Echoed("done"),
            "it was refused": "CONFLICT",
        }
        assert ended == [expected[what]]
        assert scope.cancelled_caught == (what == "nothing was done")
        assert there._answering == {}


@in_trio
async def test_cancelled_in_the_turn_in_which_it_is_asked_nothing_is_begun() -> None:
    async def answer(question: Any) -> Any:
        raise AssertionError

    async with beside_a_socket(answer) as (_, raw, _):
        asked = frame(channel_module._CALL, 1, msgspec.msgpack.encode(Wait("")))
        await raw.send_all(asked + frame(channel_module._CANCEL, 1))
        assert await raw.receive_some(1000) == frame(channel_module._NOTHING_DONE, 1)


@in_trio
async def test_an_answer_that_crosses_the_cancel_is_the_answer() -> None:
    async with beside_a_socket() as (here, raw, _), trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        ended: list[Any] = []

        async def ask() -> None:
            with scope:
                ended.append(await here.call(Echo("a"), Echoed))

        nursery.start_soon(ask)
        head = await raw.receive_some(channel_module._HEAD.size)
        _, kind, number = channel_module._HEAD.unpack(head)
        assert kind == channel_module._CALL
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await raw.send_all(frame(channel_module._ANSWER, number, msgspec.msgpack.encode(Echoed("a"))))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert ended == [Echoed("a")]
        # The other side, for its part, is told to cancel what it has answered.
        await raw.send_all(frame(channel_module._CANCEL, 77))
        assert await here_still_answers(raw)


async def here_still_answers(raw: trio.SocketStream) -> bool:
    await raw.send_all(frame(channel_module._CALL, 5, msgspec.msgpack.encode(Echo("x"))))
    octets = b""
    while not octets.endswith(msgspec.msgpack.encode(Echoed("x"))):
        octets += await raw.receive_some(1000)
    return True


@in_trio
async def test_settled_is_when_all_is_answered_and_with_the_kernel() -> None:
    may_end = trio.Event()

    async def answer(question: Any) -> Any:
        await may_end.wait()
        return Echoed("", b"x" * 1_000_000)

    async with beside_a_socket(answer) as (here, raw, _), trio.open_nursery() as nursery:
        await here.settled()
        is_settled = trio.Event()

        async def settle() -> None:
            await here.settled()
            is_settled.set()

        await raw.send_all(frame(channel_module._CALL, 1, msgspec.msgpack.encode(Wait(""))))
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(settle)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not is_settled.is_set()
        may_end.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not is_settled.is_set()
        received = 0
        while received < 1_000_000:
            received += len(await raw.receive_some(1_000_000))
        await is_settled.wait()


# --------------------------------------------------------------------------------------------------------- it may end


@in_trio
async def test_what_ends_says_what_it_has_done() -> None:
    asked, may_end = trio.Event(), trio.Event()

    async def answer(question: Any) -> Any:
        asked.set()
        with trio.CancelScope(shield=True):
            await may_end.wait()
        return Echoed("done")

    async with pair(answer) as (here, _, scope), trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await here.call(Wait(""), Echoed) == Echoed("done")

        nursery.start_soon(ask)
        await asked.wait()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        may_end.set()


@in_trio
async def test_the_other_side_ends_in_the_middle() -> None:
    asked = trio.Event()
    given_up: list[str] = []

    async def answer(question: Any) -> Any:
        asked.set()
        await trio.sleep_forever()

    async def answer_here(question: Any) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            given_up.append(question.name)

    async with pair(answer, answer_here=answer_here) as (here, there, scope):
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ChannelClosed):
                    await here.call(Wait("b"), Echoed)

            async def asked_back() -> None:
                with pytest.raises(ChannelClosed):
                    await there.call(Wait("c"), Echoed)

            nursery.start_soon(ask)
            nursery.start_soon(asked_back)
            await asked.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        # What it had asked for is not gone on with.
        assert given_up == ["c"]
        with pytest.raises(ChannelClosed):
            await here.call(Wait("d"), Echoed)
        here.tell(News(1))


@in_trio
async def test_cancelled_and_then_the_other_side_ends_nobody_knows() -> None:
    async with beside_a_socket() as (here, raw, _), trio.open_nursery() as nursery:

        async def ask() -> None:
            with trio.CancelScope() as scope:
                scope.deadline = trio.current_time() + 0.02
                with pytest.raises(ChannelClosed):
                    await here.call(Echo("a"), Echoed)

        nursery.start_soon(ask)
        await trio.sleep(0.05)
        raw.socket.close()


@in_trio
async def test_an_answer_that_waits_for_the_dead_side_does_not_keep_the_end() -> None:
    async def answer(question: Any) -> Any:
        with trio.CancelScope(shield=True), pytest.raises(ChannelClosed):
            await here.call(Echo("back"), Echoed)

    async with beside_a_socket(answer) as (here, raw, ended):
        await raw.send_all(frame(channel_module._CALL, 1, msgspec.msgpack.encode(Echo())))
        await raw.receive_some(1000)
        raw.socket.close()
        await ended()


@in_trio
async def test_all_that_came_before_the_end_is_handed_out() -> None:
    """Also where the other side left unread what was sent to it: the kernel then reports an error at the end."""
    heard: list[int] = []
    stream, other = socket.socketpair()
    here = Channel(trio.SocketStream(trio.socket.from_stdlib_socket(stream)), questions=QUESTIONS)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            answered: list[Any] = []

            async def ask() -> None:
                answered.append(await here.call(Echo("last"), Echoed))

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            # All this is there, and the other side is dead, before this side reads for the first time.
            news = b"".join(
                frame(channel_module._TELL, 0, msgspec.msgpack.encode(News(n))) for n in range(3000)
            )
            answer = frame(channel_module._ANSWER, 1, msgspec.msgpack.encode(Echoed("it was done")))
            other.sendall(b"".join([news, answer, frame(channel_module._TELL, 0, b"\x93")[:-1]]))
            os.write(here._fd, b"unread")
            other.close()
            here.tell(News(0))
            await here.run(echo, lambda news: heard.append(news.number))
    assert heard == list(range(3000))
    assert answered == [Echoed("it was done")]
