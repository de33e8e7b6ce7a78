"""Memory for what is large: bounded, and nobody waits for what another holds beyond its quarter."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.buffers import ALWAYS_OCTETS, Buffers, Held

UNIT = ALWAYS_OCTETS + 1


async def takes_at_once(held: Held, octets: int) -> bool:
    with trio.move_on_after(0):
        await held.take(octets)
        return True
    return False


def test_what_is_small_always_finds_room_and_is_not_counted() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 16 * UNIT)
        with buffers.held("a") as all_of_it, buffers.held("b") as small:
            await all_of_it.take(16 * UNIT)
            assert await takes_at_once(small, ALWAYS_OCTETS)
            assert buffers.octets == 16 * UNIT
        assert buffers.octets == 0

    trio.run(main)


def test_one_member_has_a_quarter_and_another_does_not_wait_for_it() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 16 * UNIT)
        with buffers.held("a") as first, buffers.held("a") as second, buffers.held("b") as other:
            await first.take(4 * UNIT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(second.take, UNIT)
                await wait_all_tasks_blocked()
                assert buffers.octets == 4 * UNIT
                assert await takes_at_once(other, 4 * UNIT)
                first.resize(3 * UNIT)
            assert buffers.octets == 8 * UNIT

    trio.run(main)


def test_what_is_larger_than_a_share_is_held_alone() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 16 * UNIT)
        with buffers.held("a") as large, buffers.held("a") as second:
            assert await takes_at_once(large, 100 * UNIT)
            assert not await takes_at_once(second, UNIT)

    trio.run(main)


def test_a_small_one_of_another_does_not_keep_a_large_one_waiting_for_ever() -> None:
    async def main() -> None:
        buffers = Buffers(lambda: 8 * UNIT)
        with ExitStack() as stack:
            a, b, c, d, large, small = (stack.enter_context(buffers.held(party)) for party in "abcdef")
            for held in (a, b, c, d):
                await held.take(2 * UNIT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(large.take, 2 * UNIT)
                await wait_all_tasks_blocked()
                a.resize(UNIT)
                assert not await takes_at_once(small, UNIT)
                b.resize(UNIT)
            assert buffers.octets == 8 * UNIT

    trio.run(main)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(0, 7 * UNIT), st.booleans(), st.integers(0, 3)),
        max_size=25,
    )
)
def test_bounds_hold_and_everybody_has_its_turn(those: list[tuple[str, int, bool, int]]) -> None:
    """Whoever comes, gives up or holds for however long: all that did not give up have held, and all is given back."""

    async def main() -> None:
        buffers = Buffers(lambda: 16 * UNIT)
        by_party: dict[str, list[int]] = {}
        served = 0

        async def one(party: str, octets: int, gives_up: bool, seconds: int) -> None:
            nonlocal served
            with trio.move_on_after(0.5 if gives_up else 1e6), buffers.held(party) as held:
                await held.take(octets)
                served += not gives_up
                mine = by_party.setdefault(party, [])
                mine.append(octets if octets > ALWAYS_OCTETS else 0)
                assert sum(mine) <= buffers.octets_of_one_max or len([size for size in mine if size]) == 1
                # Who has been called holds already, and has not said so here before it is awake.
                assert buffers.octets >= sum(map(sum, by_party.values()))
                assert buffers.octets <= buffers.octets_max
                try:
                    await trio.sleep(seconds)
                finally:
                    mine.remove(octets if octets > ALWAYS_OCTETS else 0)

        async with trio.open_nursery() as nursery:
            for each in those:
                nursery.start_soon(one, *each)
        assert served == sum(not gives_up for _, _, gives_up, _ in those)
        assert buffers.octets == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_who_holds_takes_no_more() -> None:
    async def main() -> None:
        with Buffers(lambda: 16 * UNIT).held("a") as held:
            await held.take(UNIT)
            with pytest.raises(AssertionError):
                await held.take(UNIT)

    trio.run(main)
