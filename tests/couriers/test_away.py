"""One courier in another process, as the core sees it, where the other side says and does what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.codec import Recorded
from relay.couriers.away import AwayCourier
from relay.couriers.words import (
    FROM_CORE,
    FROM_COURIER,
    Cancel,
    Carry,
    Done,
    DotDue,
    DotMayLeave,
    HangUp,
    NothingDone,
    Part,
    Parted,
    Start,
    Started,
)
from relay.delivery.carrier import CourierLost, Errand
from relay.delivery.outcomes import AttemptOutcome, Carried, NotTried
from relay.delivery.replies import Failure, FailureKind
from relay.delivery.reply_reader import Command, SmtpReply
from relay.events import MessageQueued
from relay.processes.channel import Channel
from relay.processes.frames import BrokenFrame
from relay.views.messages import MessageState
from tests.world.process import PATIENCE_SECONDS

SENT = Carried(
    usable=True,
    outcome=AttemptOutcome.of(SmtpReply(Command.END_OF_DATA, 250, None, ("queued",)), started=True),
)
BROKEN_OFF = Carried(
    usable=False, outcome=AttemptOutcome.of(Failure(FailureKind.ABANDONED, "the relay was stopped"))
)
QUEUED = MessageQueued(
    did="did:plc:a", domain="a.example", category="bulk", index=1, next_attempt_at=0, give_up_at=1
)
ERRAND = Errand(
    MessageState(7, "did:plc:a", "a.example", "bulk", 6, "queued", 0, 1, 0),
    "b.example",
    Recorded(7, 0, QUEUED),
)


async def at_once() -> None:
    """As where a relay runs on one machine."""


class Other:
    """The courier's side."""

    def __init__(self, channel: Channel, scope: trio.CancelScope) -> None:
        self.tell = channel.tell
        self.heard: list[Any] = []
        self._scope = scope
        self._news = trio.Event()

    def hear(self, word: Any) -> None:
        self.heard.append(word)
        self._news.set()

    async def hears(self, word: Any) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while word not in self.heard:
                self._news = trio.Event()
                await self._news.wait()

    def dies(self) -> None:
        """What it has told is on its way already."""
        self._scope.cancel()


@asynccontextmanager
async def a_courier(
    before_dot: Callable[[], Awaitable[None]] = at_once,
) -> AsyncIterator[tuple[AwayCourier, Other]]:
    ours, theirs = trio.socket.socketpair()
    here = Channel(trio.SocketStream(ours), questions=FROM_COURIER)
    there = Channel(trio.SocketStream(theirs), questions=FROM_CORE)
    courier, scope = AwayCourier(here, before_dot), trio.CancelScope()
    other = Other(there, scope)

    async def nothing(question: Any) -> None:
        raise AssertionError(question)

    async def serve() -> None:
        try:
            await here.run(nothing, courier.hear)
        finally:
            courier.lose()

    async def serve_there() -> None:
        with scope:
            await there.run(nothing, other.hear)

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(serve_there)
            await wait_all_tasks_blocked()
            yield courier, other
            nursery.cancel_scope.cancel()


class Errands:
    """Carried in tasks, and how each ended."""

    def __init__(self, nursery: trio.Nursery, courier: AwayCourier) -> None:
        self.ended: dict[int, Carried | str] = {}
        self.started: list[int] = []
        self.scopes: dict[int, trio.CancelScope] = {}
        self._nursery = nursery
        self._courier = courier

    def begin(self, connection: int, start: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        self.scopes[connection] = trio.CancelScope()
        self._nursery.start_soon(self._carry, connection, start)

    async def _carry(self, connection: int, start: Callable[[], Awaitable[None]]) -> None:
        async def counted() -> None:
            await start()
            self.started.append(connection)

        with self.scopes[connection]:
            try:
                self.ended[connection] = await self._courier.carry(connection, ERRAND, counted)
            except CourierLost:
                self.ended[connection] = "lost"
            except trio.Cancelled:
                self.ended[connection] = "cancelled"
                raise


def scenario(test: Callable[[Other, Errands, AwayCourier], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        async with a_courier() as (courier, other), trio.open_nursery() as nursery:
            await test(other, Errands(nursery, courier), courier)
            nursery.cancel_scope.cancel()

    return partial(trio.run, main)


def test_an_outcome_that_was_sent_a_moment_before_the_death_counts() -> None:
    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        for connection in (1, 2, 3, 4):
            errands.begin(connection)
        await other.hears(Carry(4, ERRAND.state, "b.example"))
        for connection in (1, 2, 4):
            other.tell(Start(connection))
        await other.hears(Started(4))
        other.tell(Done(1, SENT))
        other.tell(Done(3, Carried(usable=False, not_tried=NotTried.KEY_MISSING)))
        # The fourth asks, tells and dies in one breath, and would not be heard for its answer.
        other.dies()
        await wait_all_tasks_blocked()
        assert errands.ended == {
            1: SENT,
            2: "lost",
            3: Carried(usable=False, not_tried=NotTried.KEY_MISSING),
            4: "lost",
        }
        assert sorted(errands.started) == [1, 2, 4]
        with pytest.raises(CourierLost):
            await courier.carry(5, ERRAND, trio.sleep_forever)

    play()


def test_a_start_that_is_asked_for_in_the_last_breath_is_not_recorded() -> None:
    """There is nobody any more who could send the dot."""

    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        errands.begin(1)
        await other.hears(Carry(1, ERRAND.state, "b.example"))
        # Both in one turn of the loop.
        courier.hear(Start(1))
        courier.lose()
        await wait_all_tasks_blocked()
        assert errands.ended == {1: "lost"}
        assert errands.started == []

    play()


def test_a_dot_that_is_asked_for_waits_until_it_may_leave() -> None:
    async def main() -> None:
        may_leave = trio.Event()
        async with a_courier(may_leave.wait) as (courier, other), trio.open_nursery() as nursery:
            errands = Errands(nursery, courier)
            errands.begin(1)
            await other.hears(Carry(1, ERRAND.state, "b.example"))
            other.tell(Start(1))
            await other.hears(Started(1))
            other.tell(DotDue(1))
            await wait_all_tasks_blocked()
            assert DotMayLeave(1) not in other.heard
            may_leave.set()
            await other.hears(DotMayLeave(1))
            other.tell(Done(1, SENT))
            await wait_all_tasks_blocked()
            assert errands.ended == {1: SENT}
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_an_errand_that_is_given_up_while_its_dot_waits_ends_as_the_courier_says() -> None:
    async def main() -> None:
        async with a_courier(trio.sleep_forever) as (courier, other), trio.open_nursery() as nursery:
            errands = Errands(nursery, courier)
            errands.begin(1)
            await other.hears(Carry(1, ERRAND.state, "b.example"))
            other.tell(Start(1))
            await other.hears(Started(1))
            other.tell(DotDue(1))
            await wait_all_tasks_blocked()
            errands.scopes[1].cancel()
            await other.hears(Cancel(1))
            other.tell(Done(1, BROKEN_OFF))
            await wait_all_tasks_blocked()
            assert errands.ended == {1: BROKEN_OFF}
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("words", [[DotDue(1)], [Start(1), DotDue(1), DotDue(1)]])
def test_a_dot_that_is_asked_for_out_of_its_turn_is_no_word_of_a_courier(words: list[Any]) -> None:
    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        errands.begin(1, trio.sleep_forever)
        await other.hears(Carry(1, ERRAND.state, "b.example"))
        *before, last = words
        for word in before:
            courier.hear(word)
        with pytest.raises(BrokenFrame):
            courier.hear(last)
        courier.lose()

    play()


def test_what_is_over_before_its_start_is_durable_waits_for_that() -> None:
    """Nobody was at home, say: the attempt is recorded with a start, as in one process."""

    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        durable = trio.Event()
        errands.begin(1, durable.wait)
        await other.hears(Carry(1, ERRAND.state, "b.example"))
        other.tell(Start(1))
        other.tell(Done(1, BROKEN_OFF))
        await wait_all_tasks_blocked()
        assert errands.ended == {}
        durable.set()
        await wait_all_tasks_blocked()
        assert (errands.ended, errands.started) == ({1: BROKEN_OFF}, [1])

    play()


def test_who_gives_up_waits_for_the_couriers_word() -> None:
    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        errands.begin(1)
        errands.begin(2)
        await other.hears(Carry(2, ERRAND.state, "b.example"))
        other.tell(Start(2))
        await other.hears(Started(2))
        for connection in (1, 2):
            errands.scopes[connection].cancel()
            await other.hears(Cancel(connection))
        await wait_all_tasks_blocked()
        assert errands.ended == {}
        other.tell(NothingDone(1))
        other.tell(Done(2, SENT))
        await wait_all_tasks_blocked()
        assert errands.ended == {1: "cancelled", 2: SENT}

    play()


def test_who_gives_up_a_courier_that_dies_of_it_learns_that() -> None:
    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        errands.begin(1)
        errands.begin(2)
        await other.hears(Carry(2, ERRAND.state, "b.example"))
        other.tell(Start(2))
        await other.hears(Started(2))
        errands.scopes[1].cancel()
        errands.scopes[2].cancel()
        await other.hears(Cancel(2))
        other.dies()
        await wait_all_tasks_blocked()
        # The second was started, and nobody knows more. Of the first it is known that it was not.
        assert errands.ended == {1: "cancelled", 2: "lost"}

    play()


def test_parting_and_hanging_up_end_with_the_courier() -> None:
    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(courier.part, 1)
            nursery.start_soon(courier.part, 2)
            errands.begin(3)
            await other.hears(Carry(3, ERRAND.state, "b.example"))
            nursery.start_soon(courier.hang_up)
            await other.hears(Part(2))
            await other.hears(HangUp())
            other.tell(Parted(1))
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 2
            other.dies()

    play()


@pytest.mark.parametrize(
    "words",
    [
        [Start(2)],
        [Done(2, SENT)],
        [NothingDone(2)],
        [Start(1), Start(1)],
        [Done(1, SENT)],
        [Start(1), Done(1, Carried(usable=True, not_tried=NotTried.NO_ROOM))],
        [Start(1), Done(1, SENT), Done(1, SENT)],
    ],
    ids=[
        "start-of-none",
        "done-of-none",
        "nothing-of-none",
        "twice",
        "not-begun",
        "begun-not-tried",
        "done-twice",
    ],
)
def test_what_makes_no_sense_ends_it(words: list[Any]) -> None:
    """An attempt is never recorded on the word of a broken courier twice, or without its start."""

    @scenario
    async def play(other: Other, errands: Errands, courier: AwayCourier) -> None:
        errands.begin(1)
        await wait_all_tasks_blocked()
        for word in words[:-1]:
            courier.hear(word)
        with pytest.raises(BrokenFrame):
            courier.hear(words[-1])
        other.dies()

    play()
