"""One machine leads, another takes its place at any moment, and a third follows both: all have the same log in the end.

The second comes when a certain statement of the first begins, whatever becomes of that one. Both append as long as they
may, one after the other. The third must never have anything that is not what everybody has at last.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from spool import LogPoisonedError
from spool.errors import LogDeposedError
from tests.world.lives import Fate, Life, Place, fates_after
from tests.world.outcomes import Outcome
from tests.world.replicated import Node, open_node
from tests.world.servers import Plant
from tests.world.spool import run

#: So long, at most, it takes until all is mended and all have everything.
PATIENCE_SECONDS = 600
#: The first statement of the first machine that is no part of taking the head.
FIRST_APPEND = 5


def live(fate: Fate, coming: Place, *plants: Plant) -> Life:
    life = Life(fate, frozenset(plants))
    life.awaited[coming] = trio.Event()

    async def main() -> None:
        has_done, is_over = trio.Event(), trio.Event()
        async with (
            open_node(life.database, "cleo", disk=life.disk("cleo")) as cleo,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(life.operate)
            nursery.start_soon(cleo.following.run)
            async with trio.open_nursery() as leaders:
                leaders.start_soon(lead, life, "anna", (1, 2, 3), trio.Event(), is_over)
                leaders.start_soon(take_its_place, life, coming, has_done, is_over)
                await has_done.wait()
                await catch_up(life, cleo)
                is_over.set()
            nursery.cancel_scope.cancel()

    run(main)
    there = life.judge()
    # The second has nobody who deposes it.
    assert (life.told[8], life.told[9]) == ("durable", "durable")
    assert len(there) >= 4
    return life


async def lead(
    life: Life, name: str, numbers: tuple[int, ...], has_done: trio.Event, is_over: trio.Event
) -> None:
    async def follow(node: Node, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await node.following.run()

    try:
        async with (
            open_node(life.database, name, disk=life.disk(name)) as node,
            trio.open_nursery() as nursery,
        ):
            following = await nursery.start(follow, node)
            following.cancel()
            await node.lead()
            life.leaders.append(node)
            nursery.start_soon(node.renew_lease)
            for number in numbers:
                await life.append(node, number)
            has_done.set()
            await is_over.wait()
            nursery.cancel_scope.cancel()
    except* (LogDeposedError, LogPoisonedError):
        pass


async def take_its_place(life: Life, coming: Place, has_done: trio.Event, is_over: trio.Event) -> None:
    await life.awaited[coming].wait()
    await lead(life, "bert", (8, 9), has_done, is_over)


async def catch_up(life: Life, cleo: Node) -> None:
    """Until it has all, which it is told by the lease."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            await trio.sleep(10)
            head = life.database.shown.head
            assert head is not None
            if (cleo.log.last_seq, cleo.log.last_chain) == (head.last_seq, head.chain):
                return


def places_of(life: Life, name: str) -> Iterator[Place]:
    for place, _ in life.places:
        if place[0] == name and place[1] >= FIRST_APPEND:
            yield place


def test_the_second_comes_at_each_statement_of_the_first() -> None:
    told: set[str] = set()
    for number in range(FIRST_APPEND, FIRST_APPEND + 3):
        told |= set(live({}, ("anna", number)).told.values())
    assert told == {"durable", "deposed"}


@pytest.mark.parametrize("number", range(FIRST_APPEND, FIRST_APPEND + 3))
def test_the_second_comes_while_something_goes_wrong_for_the_first(number: int) -> None:
    coming = "anna", number
    told: set[str] = set()
    for fate in fates_after(live({}, coming), without={"head"}):
        told |= set(live(fate, coming).told.values())
    assert {"durable", "deposed"} <= told


def test_something_goes_wrong_for_the_second() -> None:
    coming = "anna", FIRST_APPEND + 1
    for fate in fates_after(live({}, coming), names={"bert"}, without={"head"}):
        live(fate, coming)


def test_a_table_that_looks_at_sequence_numbers_alone_is_not_enough() -> None:
    """What the first still has on its way when the second takes the head arrives then."""
    coming = "anna", FIRST_APPEND + 1
    live({coming: Outcome.LATE}, coming)
    with pytest.raises((AssertionError, ExceptionGroup)):
        live({coming: Outcome.LATE}, coming, Plant.FENCES_BY_SEQUENCE_ALONE)
