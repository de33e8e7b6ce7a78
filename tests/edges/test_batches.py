"""Many sends in one decision, by both carriers: exact for limits and writes, and no more than a door may hand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from relay.batches import SENDS_MAX, AllSent, Outcome, SendAll, SendBatch
from relay.principals import Principal
from relay.refusals import Refusal
from tests.edges.test_acceptance_seam import at_the_door, by_all, of_five, sends, two_edges, wanted
from tests.world.carriers import Carrier
from tests.world.relay import World


def codes(outcomes: list[Outcome]) -> list[str | None]:
    return [None if outcome.refused is None else outcome.refused.code for outcome in outcomes]


@by_all
def test_outcomes_come_back_as_they_are(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, door: Any, member: Principal) -> None:
        entries = [
            wanted("a@example.com", key="a"),
            None,
            wanted(["b@example.com", "c@example.com"], key="b"),
        ]
        first = await door.decide("send_batch", SendBatch(sends=entries), member)
        assert first[1] == Outcome()
        assert [first[0].sent.accepted, first[2].sent.accepted] == [
            ("a@example.com",),
            ("b@example.com", "c@example.com"),
        ]
        again = await door.decide("send_batch", SendBatch(sends=entries), member)
        assert [again[place].sent for place in (0, 2)] == [
            first[place].sent._replace(is_replay=True) for place in (0, 2)
        ]
        together = await door.decide("send_all", SendAll(sends=[wanted(), wanted()]), member)
        (one, other), is_replay = together
        assert (type(together), other - one, is_replay) == (AllSent, 2, False)
        for name, many in (("send_batch", SendBatch), ("send_all", SendAll)):
            with pytest.raises(Refusal) as refused:
                await door.decide(name, many(sends=[wanted()] * (SENDS_MAX + 1)), member)
            assert refused.value.code == "INVALID_REQUEST"
        assert len(sends(world)) == 4

    at_the_door(tmp_path, carrier, test)


@by_all
def test_limits_are_exact_for_batches_at_two_edges(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, doors: list[Any], member: Principal) -> None:
        outcomes: list[Outcome] = []

        async def ask(door: Any) -> None:
            outcomes.extend(await door.decide("send_batch", SendBatch(sends=[wanted()] * 10), member))

        async with trio.open_nursery() as nursery:
            for door in doors * 2:
                nursery.start_soon(ask, door)
        assert sorted(map(str, codes(outcomes))) == ["None"] * 7 + ["RATE_LIMITED"] * 33
        assert len(sends(world)) == 7

    two_edges(tmp_path, carrier, test, settings="\n[warming]\ntiers = [ { hour = 7, day = 10 } ]\n")


@by_all
def test_each_is_one_write_whoever_counts_the_first(tmp_path: Path, carrier: Carrier) -> None:
    async def test(world: World, door: Any, member: Principal) -> None:
        of_five(world)
        door.quota.take_write(member.did)  # as every door does first
        outcomes = await door.decide("send_batch", SendBatch(sends=[wanted(), None, *[wanted()] * 5]), member)
        assert codes(outcomes) == [None, None, None, None, None, "RATE_LIMITED", "RATE_LIMITED"]
        assert len(sends(world)) == 4

    at_the_door(tmp_path, carrier, test)
