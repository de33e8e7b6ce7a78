"""Waiting for a time of day or for news: no ring is lost, and a clock that was set is noticed within a minute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from relay.alarm import ASLEEP_SECONDS_MAX, Alarm
from relay.times import DAY_US, HOUR_US, MINUTE_US, SECOND_US

NOON_US = 1_790_000_000_000_000


class WallClock:
    """Goes with trio's clock, until somebody sets it."""

    def __init__(self) -> None:
        self.set_ahead_us = 0
        #: It never goes back, as the relay's own time: it stands still until it has caught up.
        self._latest = 0
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        now = NOON_US + round(trio.current_time() * SECOND_US) + self.set_ahead_us
        self._latest = max(self._latest, now)
        return self._latest


def run(test: Callable[[Alarm, WallClock], Awaitable[Any]]) -> None:
    async def main() -> None:
        clock = WallClock()
        with trio.fail_after(30 * 24 * 3600):
            await test(Alarm(clock), clock)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def seconds(wait: Awaitable[Any]) -> float:
    before = trio.current_time()
    await wait
    return trio.current_time() - before


# ------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize("far_us", [1, SECOND_US, MINUTE_US, MINUTE_US + 1, 3 * DAY_US])
def test_it_waits_exactly_until_the_time(far_us: int) -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        await trio.sleep(7.7)
        at_us = clock() + far_us
        await alarm.wait(at_us)
        assert at_us <= clock() <= at_us + 1_000

    run(test)


def test_a_time_that_is_over_is_not_waited_for_and_yet_others_have_their_turn() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        for at_us in (clock(), clock() - HOUR_US, 0):
            with assert_checkpoints():
                assert await seconds(alarm.wait(at_us)) == 0
        alarm.ring()
        with assert_checkpoints():
            await alarm.wait()

    run(test)


def test_whichever_clock_comes_first() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        now = trio.current_time()
        assert await seconds(alarm.wait(clock() + HOUR_US, deadline=now + 5)) == 5
        now = trio.current_time()
        assert await seconds(alarm.wait(clock() + 2 * SECOND_US, deadline=now + 5)) == pytest.approx(2)
        assert await seconds(alarm.wait(deadline=trio.current_time() + 600)) == 600

    run(test)


def test_a_clock_that_was_set_ahead_is_noticed_within_a_minute() -> None:
    """So is a machine that was suspended: trio's clock stood still, the wall clock went on."""

    async def test(alarm: Alarm, clock: WallClock) -> None:
        async def set_clock() -> None:
            await trio.sleep(100)
            clock.set_ahead_us = DAY_US

        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_clock)
            waited = await seconds(alarm.wait(clock() + 20 * HOUR_US))
            assert 100 <= waited <= 100 + ASLEEP_SECONDS_MAX

    run(test)


def test_a_clock_that_was_set_back_is_waited_for_without_looking_all_the_time() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        at_us = clock() + 10 * SECOND_US

        async def set_clock() -> None:
            await trio.sleep(9.999)
            clock()
            clock.set_ahead_us = -2 * HOUR_US

        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_clock)
            assert 7200 <= await seconds(alarm.wait(at_us)) - 10 <= 7200 + ASLEEP_SECONDS_MAX
        assert clock() >= at_us
        assert clock.looks < 1000

    run(test)


def test_waiting_for_news_alone_never_looks_at_the_clock() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        with trio.move_on_after(24 * 3600):
            await alarm.wait()
        assert clock.looks == 0

    run(test)


def test_all_alarms_look_at_the_clock_at_the_same_moments() -> None:
    async def test(_alarm: Alarm, clock: WallClock) -> None:
        looked_at: set[float] = set()

        def look() -> int:
            looked_at.add(trio.current_time())
            return clock()

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(Alarm(look).wait, NOON_US + HOUR_US)
                await trio.sleep(number)
        begun_at = {0, 1, 3, 6, 10, 15, 21, 28, 36}
        assert looked_at - begun_at == {60.0 * minute for minute in range(1, 61)}

    run(test)


# ------------------------------------------------------------------------------------------------ news


def test_a_ring_ends_the_wait() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ring_after, alarm, 90)
            assert await seconds(alarm.wait(clock() + DAY_US)) == 90

    run(test)


async def _ring_after(alarm: Alarm, delay: float) -> None:
    await trio.sleep(delay)
    alarm.ring()


def test_a_ring_while_the_task_is_at_work_ends_the_next_wait_and_no_other() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        alarm.ring()
        alarm.ring()
        assert await seconds(alarm.wait(clock() + DAY_US)) == 0
        assert await seconds(alarm.wait(clock() + MINUTE_US)) == 60

    run(test)


def test_a_wait_that_is_cancelled_keeps_the_ring() -> None:
    async def test(alarm: Alarm, _clock: WallClock) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            alarm.ring()
            await alarm.wait()
        assert scope.cancelled_caught
        assert await seconds(alarm.wait()) == 0

    run(test)


def test_something_new_wakes_only_who_would_sleep_longer() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        async with trio.open_nursery() as nursery:
            woken: list[float] = []

            async def sleep() -> None:
                await alarm.wait(clock() + HOUR_US)
                woken.append(trio.current_time())

            nursery.start_soon(sleep)
            await wait_all_tasks_blocked()
            alarm.ring_by(clock() + 2 * HOUR_US)
            alarm.ring_by(deadline=trio.current_time() + 3601)
            alarm.ring_by()
            await trio.sleep(100)
            assert woken == []
            alarm.ring_by(clock() + 30 * MINUTE_US)
            await wait_all_tasks_blocked()
            assert woken == [trio.current_time()]

    run(test)


def test_something_new_for_the_other_clock() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.wait, clock() + HOUR_US)
            await wait_all_tasks_blocked()
            alarm.ring_by(deadline=trio.current_time() + 1)
            assert await seconds(_all_over(nursery)) == 0

    async def _all_over(nursery: trio.Nursery) -> None:
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks

    run(test)


def test_who_is_at_work_is_not_rung_for_what_it_will_find_by_itself() -> None:
    async def test(alarm: Alarm, clock: WallClock) -> None:
        alarm.ring_by(clock())
        assert await seconds(alarm.wait(clock() + MINUTE_US)) == 60
        alarm.ring_by(clock())
        assert await seconds(alarm.wait(clock() + MINUTE_US)) == 60

    run(test)
