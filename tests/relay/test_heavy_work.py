"""What is large is done beside the loop, one at a time and by turns; what is small never keeps the loop for long."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.heavy_work import ON_LOOP_OCTETS_MAX, THREADS_MAX, WORK_SECONDS_MAX, HeavyWork


class Threads:
    """Counts what is done beside the loop; each takes a second."""

    def __init__(self) -> None:
        self.working = self.most_working = 0
        self.done: list[Any] = []

    async def offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        await trio.sleep(1)
        self.working -= 1
        self.done.append(arguments)
        return function(*arguments)


def test_only_what_is_large_is_done_beside_the_loop() -> None:
    async def main() -> None:
        threads = Threads()
        work = HeavyWork(threads.offload)
        async with work.turn("a", ON_LOOP_OCTETS_MAX) as do:
            assert await do(len, "here") == 4
        assert threads.done == []
        async with work.turn("a", ON_LOOP_OCTETS_MAX + 1) as do:
            assert await do(len, "there") == 5
        assert threads.done == [("there",)]

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_members_take_turns_at_the_thread_and_small_work_waits_for_none() -> None:
    async def main() -> None:
        threads = Threads()
        work = HeavyWork(threads.offload)

        async def large(party: str) -> None:
            async with work.turn(party, ON_LOOP_OCTETS_MAX + 1) as do:
                await do(str, party)

        async with trio.open_nursery() as nursery:
            for party in "aaaaaaaab":
                nursery.start_soon(large, party)
                await wait_all_tasks_blocked()
            before = trio.current_time()
            async with work.turn("c", 1) as do:
                assert await do(len, "small") == 5
            assert trio.current_time() == before
        assert threads.most_working == THREADS_MAX
        order = [party for (party,) in threads.done]
        assert order.index("b") <= 2, order

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_crowd_of_small_work_lets_others_in_between() -> None:
    """All begin at once, as the recipients of one send do."""
    seconds_each = 0.001

    clock = MockClock()

    async def main() -> None:
        work = HeavyWork(Threads().offload)
        steps: list[float] = []
        done = 0

        def at_work() -> None:
            clock.jump(seconds_each)

        async def one(party: str) -> None:
            nonlocal done
            async with work.turn(party, 1000) as do:
                await do(at_work)
            done += 1

        async def others() -> None:
            while done < 100:
                steps.append(clock.current_time())
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            for number in range(100):
                nursery.start_soon(one, f"member {number % 3}")
        late = max(after - before for before, after in pairwise(steps))
        assert late <= WORK_SECONDS_MAX + seconds_each

    trio.run(main, clock=clock)


def test_who_is_cancelled_while_waiting_does_nothing_and_takes_no_place() -> None:
    async def main() -> None:
        threads = Threads()
        work = HeavyWork(threads.offload)

        async def large(scope: trio.CancelScope, name: str) -> None:
            with scope:
                async with work.turn("a", ON_LOOP_OCTETS_MAX + 1) as do:
                    await do(str, name)

        scopes = [trio.CancelScope() for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for number, scope in enumerate(scopes):
                nursery.start_soon(large, scope, str(number))
                await wait_all_tasks_blocked()
            scopes[1].cancel()
        assert threads.done == [("0",), ("2",)]

    trio.run(main, clock=MockClock(autojump_threshold=0))
