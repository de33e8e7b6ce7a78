"""Whatever becomes of a leader's statements: nothing acknowledged is lost, nothing given up comes, nothing comes twice.

Each life is the same story with another fate. A leader appends twice, one after the other; an operator comes each half
minute and mends what is broken; then another machine takes over, and appends once. What the first leader was told is
then judged by what the table has.
"""

from __future__ import annotations

import pytest
import trio

from spool import LogPoisonedError
from spool.durability import Verdict
from spool.errors import LogDeposedError
from spool.replicated.table import Row
from tests.world.lives import Fate, Life, fates_after
from tests.world.outcomes import Outcome
from tests.world.replicated import Node, Noting, open_node
from tests.world.servers import Plant
from tests.world.spool import group, run

#: So long nobody waits but where a database has forgotten who leads.
PATIENCE_SECONDS = 3600


def live(fate: Fate, *plants: Plant, form: type[Noting] = Noting) -> Life:
    life = Life(fate, frozenset(plants))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.operate)
            await lead_first(life, form)
            async with open_node(life.database, "bert", disk=life.disk("bert")) as bert:
                await bert.lead()
                life.leaders.append(bert)
                await life.append(bert, 9)
            nursery.cancel_scope.cancel()

    run(main)
    assert life.judge()[-2:] == group(9, 2, 10)
    return life


async def lead_first(life: Life, form: type[Noting]) -> None:
    try:
        async with open_node(life.database, "anna", disk=life.disk("anna")) as anna:
            anna.form = form
            await anna.lead()
            life.leaders.append(anna)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(give_up, anna)
                for number in (1, 2):
                    await life.append(anna, number)
                nursery.cancel_scope.cancel()
    except* (LogDeposedError, LogPoisonedError):
        pass


async def give_up(anna: Node) -> None:
    await trio.sleep(PATIENCE_SECONDS)
    anna.leading.give_up()


def test_all_is_well() -> None:
    life = live({})
    assert life.told == {1: "durable", 2: "durable", 9: "durable"}
    of_anna = [name for (who, _), name in life.places if who == "anna"]
    assert of_anna == ["connect", "head", "connect", "take_head", "append", "append"]


def test_one_thing_goes_wrong() -> None:
    lives = [live(fate) for fate in fates_after(live({}))]
    assert len(lives) > 40
    # Nobody deposes it, so all is done in the end.
    assert all(life.told == {1: "durable", 2: "durable", 9: "durable"} for life in lives)
    verdicts = [verdict for life in lives for verdict in life.leaders[0].leading.verdicts.values()]
    assert set(verdicts) == set(Verdict)


def test_two_things_go_wrong() -> None:
    lives = 0
    for fate in fates_after(live({}), without={"head", "connect"}):
        for both in fates_after(live(fate), without={"head"}):
            life = live(both)
            assert life.told == {1: "durable", 2: "durable", 9: "durable"}
            lives += 1
    assert lives > 2500


@pytest.mark.parametrize(
    ("plants", "outcome"),
    [
        ([Plant.ASKS_FOR_NO_WITNESS], Outcome.VANISHED),
        ([Plant.ASKS_FOR_NO_WITNESS, Plant.IGNORES_WARNINGS], Outcome.WARNED_AND_LOST),
    ],
)
def test_an_answer_is_not_enough(plants: list[Plant], outcome: Outcome) -> None:
    for place in 5, 6:
        live({("anna", place): outcome})
        with pytest.raises((AssertionError, ExceptionGroup)):
            live({("anna", place): outcome}, *plants)


def test_a_failover_to_any_standby_is_not_enough() -> None:
    failures = 0
    for fate in fates_after(live({("anna", 5): Outcome.ONE_BEHIND})):
        live(fate)
        try:
            live(fate, Plant.PROMOTES_THE_LEAST_ADVANCED)
        except (AssertionError, ExceptionGroup):
            failures += 1
    assert failures > 0


class LooksBeforeItTakesTheHead(Noting):
    """It believes what a server shows."""

    async def _try_to_hold(self, in_doubt: Row | None) -> bool:
        connection = await self._table.connect()
        known = await connection.head()
        await connection.close()
        if in_doubt is not None and known.chain == in_doubt.chain:
            self._head = known
            return True
        return await super()._try_to_hold(in_doubt)


class KeepsItsEpoch(Noting):
    """It does not take the head on a new connection."""

    async def _try_to_hold(self, in_doubt: Row | None) -> bool:
        self._connection = await self._table.connect()
        known = await self._connection.head()
        is_there = in_doubt is not None and known.chain == in_doubt.chain
        self._head = known
        return is_there


@pytest.mark.parametrize("form", [LooksBeforeItTakesTheHead, KeepsItsEpoch])
def test_a_leader_that_believes_what_it_sees_is_found(form: type[Noting]) -> None:
    failures = 0
    for fate in fates_after(live({})):
        try:
            live(fate, form=form)
        except (AssertionError, ExceptionGroup):
            failures += 1
    assert failures > 0
