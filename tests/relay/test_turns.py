"""Turns: nobody waits behind another's crowd, whatever is cancelled."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.turns import Turns


def test_where_a_place_is_free_nobody_waits() -> None:
    async def main() -> None:
        turns = Turns(2)
        async with turns.turn("a"), turns.turn("a"):
            with trio.move_on_after(0) as late:
                async with turns.turn("b"):
                    pytest.fail("there were two places")
            assert late.cancelled_caught
        async with turns.turn("b"), turns.turn("c"):
            assert turns.waiting == 0

    trio.run(main)


def order_of(parties: list[str | None]) -> list[str | None]:
    """In which order those are served who come while somebody is at it, one at a time."""

    async def main() -> list[str | None]:
        turns = Turns(1)
        served: list[str | None] = []

        async def take(party: str | None) -> None:
            async with turns.turn(party):
                served.append(party)

        async with trio.open_nursery() as nursery, turns.turn("somebody"):
            for party in parties:
                nursery.start_soon(take, party)
                await wait_all_tasks_blocked()
        assert turns.waiting == 0
        return served

    return trio.run(main)


def test_the_first_class_goes_first_and_the_others_take_turns() -> None:
    crowd: list[str | None] = ["a"] * 5
    assert order_of([*crowd, "b", None, "b", "c"]) == [None, "a", "b", "c", "a", "b", "a", "a", "a"]


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=20))
def test_between_two_turns_of_one_party_every_other_that_waited_had_one(parties: list[str | None]) -> None:
    served = order_of(parties)
    assert sorted(map(str, served)) == sorted(map(str, parties))
    firsts = parties.count(None)
    assert served[:firsts] == [None] * firsts
    others = served[firsts:]
    for start, party in enumerate(others):
        rest = others[start + 1 :]
        if party in rest:
            between = rest[: rest.index(party)]
            assert set(rest) - {party} <= set(between) | {party}


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.booleans()), max_size=12))
def test_who_gives_up_waiting_takes_no_place(those: list[tuple[str | None, bool]]) -> None:
    async def main() -> None:
        turns = Turns(1)
        served = 0

        async def take(party: str | None, scope: trio.CancelScope) -> None:
            nonlocal served
            with scope:
                async with turns.turn(party):
                    served += 1
                    await trio.sleep(1)

        scopes = [trio.CancelScope() for _ in those]
        async with trio.open_nursery() as nursery, turns.turn("somebody"):
            for (party, _), scope in zip(those, scopes, strict=True):
                nursery.start_soon(take, party, scope)
            await wait_all_tasks_blocked()
            for (_, gives_up), scope in zip(those, scopes, strict=True):
                if gives_up:
                    scope.cancel()
        assert served >= sum(not gives_up for _, gives_up in those)
        with trio.fail_after(0.1):
            async with turns.turn("last"):
                pass
        assert turns.waiting == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_turn_that_was_given_to_one_who_is_cancelled_goes_on_to_the_next() -> None:
    async def main() -> None:
        turns = Turns(1)
        second_ran = trio.Event()
        scope = trio.CancelScope()

        async def first() -> None:
            with scope:
                async with turns.turn("a"):
                    pytest.fail("it was cancelled in the moment in which it was called")

        async def second() -> None:
            async with turns.turn("b"):
                second_ran.set()

        async with trio.open_nursery() as nursery:
            await turns.acquire("somebody")
            nursery.start_soon(first)
            await wait_all_tasks_blocked()
            nursery.start_soon(second)
            await wait_all_tasks_blocked()
            scope.cancel()
            turns.release()
            with trio.fail_after(1):
                await second_ran.wait()

    trio.run(main)
