"""Who has room for unfinished messages: the shares, the order, and what is given back."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.reception.buffers import SMALL_BYTES_MAX, Buffers, Lease

SMALL = SMALL_BYTES_MAX


def run(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=MockClock(autojump_threshold=0))


class Waiter:
    """Somebody who wants room."""

    def __init__(self, nursery: trio.Nursery, lease: Lease, message_bytes: int) -> None:
        self.lease = lease
        self.has_it = False
        self.scope = trio.CancelScope()
        nursery.start_soon(self._wait, message_bytes)

    async def _wait(self, message_bytes: int) -> None:
        with self.scope:
            await self.lease.cover(message_bytes)
            self.has_it = True


def test_small_messages_are_not_counted() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 4 * SMALL)
        for _ in range(100):
            await buffers.lease("a").cover(SMALL)
        assert buffers.held_bytes == 0

    run(main)


def test_a_party_has_a_quarter_and_the_others_pass_it() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 16 * SMALL)
        async with trio.open_nursery() as nursery:
            first = Waiter(nursery, buffers.lease("a"), 3 * SMALL)
            await wait_all_tasks_blocked()
            second = Waiter(nursery, buffers.lease("a"), 2 * SMALL)
            await wait_all_tasks_blocked()
            other = Waiter(nursery, buffers.lease("b"), 4 * SMALL)
            await wait_all_tasks_blocked()
            assert (first.has_it, second.has_it, other.has_it) == (True, False, True)
            first.lease.release()
            await wait_all_tasks_blocked()
            assert second.has_it
            assert buffers.held_bytes == 6 * SMALL

    run(main)


def test_a_large_message_does_not_wait_for_ever_behind_small_ones() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 16 * SMALL)
        leases = [buffers.lease(party) for party in "abcd"]
        for lease in leases:
            await lease.cover(4 * SMALL)
        async with trio.open_nursery() as nursery:
            large = Waiter(nursery, buffers.lease("e"), 4 * SMALL)
            await wait_all_tasks_blocked()
            later = Waiter(nursery, buffers.lease("f"), 2 * SMALL)
            leases[0].release()
            await leases[0].cover(SMALL)
            await wait_all_tasks_blocked()
            assert (large.has_it, later.has_it) == (True, False)
            leases[1].release()
            await wait_all_tasks_blocked()
            assert later.has_it

    run(main)


def test_who_gives_up_stands_in_nobodys_way() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 16 * SMALL)
        for party in "abc":
            await buffers.lease(party).cover(4 * SMALL)
        await buffers.lease("d").cover(2 * SMALL)
        async with trio.open_nursery() as nursery:
            large = Waiter(nursery, buffers.lease("e"), 4 * SMALL)
            await wait_all_tasks_blocked()
            later = Waiter(nursery, buffers.lease("f"), 2 * SMALL)
            await wait_all_tasks_blocked()
            assert (large.has_it, later.has_it) == (False, False)
            large.scope.cancel()
            await wait_all_tasks_blocked()
            assert (large.has_it, later.has_it) == (False, True)
            assert buffers.held_bytes == 16 * SMALL

    run(main)


def test_any_course_of_events() -> None:
    """The bounds hold at every moment, nobody waits who need not, and in the end nothing is held."""

    async def main() -> None:
        dice = random.Random(1)
        buffers = Buffers(lambda: 16 * SMALL)
        waiters: list[Waiter] = []
        async with trio.open_nursery() as nursery:
            for _ in range(1_000):
                if waiters and dice.random() < 0.5:
                    waiter = waiters.pop(dice.randrange(len(waiters)))
                    waiter.scope.cancel()
                    await wait_all_tasks_blocked()
                    waiter.lease.release()
                else:
                    wanted = dice.randrange(1, 4 * SMALL)
                    waiters.append(Waiter(nursery, buffers.lease(dice.choice("abcdefgh")), wanted))
                await wait_all_tasks_blocked()
                held = dict.fromkeys("abcdefgh", 0)
                for waiter in waiters:
                    held[waiter.lease.party] += waiter.lease.held_bytes
                assert sum(held.values()) == buffers.held_bytes <= 16 * SMALL
                assert max(held.values()) <= 4 * SMALL
                if buffers.held_bytes == 0:
                    assert all(waiter.has_it for waiter in waiters)
            for waiter in waiters:
                waiter.scope.cancel()
                await wait_all_tasks_blocked()
                waiter.lease.release()
        assert buffers.held_bytes == 0

    run(main)


@pytest.mark.parametrize("parties", ["aaaaa", "abcdefghijklmnop", "aaabbbcccdddeeefff"])
def test_messages_of_unknown_size_do_not_wait_for_each_other(parties: str) -> None:
    """Three of ten mebibytes at once held a third of the quarter each, until one of them was refused."""

    async def main() -> None:
        buffers, dice = Buffers(lambda: 64 * SMALL), random.Random(1)
        most = 10 * SMALL
        ended: list[int] = []

        async def hand_in(lease: Lease, size: int) -> None:
            for message_bytes in range(0, size + 1, SMALL // 2):
                await lease.cover(message_bytes, most)
                assert buffers.held_bytes <= 64 * SMALL
                await trio.sleep(dice.random())
            lease.release()
            ended.append(size)

        with trio.fail_after(24 * 3600):
            async with trio.open_nursery() as nursery:
                for party in parties:
                    nursery.start_soon(hand_in, buffers.lease(party), dice.choice([most, most, 3 * SMALL]))
        assert len(ended) == len(parties)
        assert buffers.held_bytes == 0
        assert not buffers._holding

    run(main)
