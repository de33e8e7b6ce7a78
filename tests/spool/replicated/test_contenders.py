"""Three machines that follow, take over, lead and end again and again, while up to a third of all statements go wrong.

By chance, from a seed: a seed is the same life every time. `tests.world.lives` judges.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest
import trio

from spool import LogPoisonedError
from spool.errors import LogDeposedError
from tests.world.deterministic import run_seeded
from tests.world.lives import Life
from tests.world.outcomes import OUTCOMES_OF, Outcome
from tests.world.replicated import Node, open_node
from tests.world.servers import Plant
from tests.world.spool import group

SEEDS = 100
#: After that nothing goes wrong by itself any more.
TROUBLE_SECONDS = 400.0
#: A process that does not get on for so long is ended.
PATIENCE_SECONDS = 200.0


def live(seed: int, *plants: Plant) -> Life:
    dice = random.Random(seed)
    often = dice.choice([0.01, 0.03, 0.1, 0.3])

    def choose(name: str) -> Outcome:
        if trio.current_time() > TROUBLE_SECONDS or dice.random() > often:
            return Outcome.ANSWERED
        return dice.choice(OUTCOMES_OF[name])

    life = Life({}, frozenset(plants), choose=choose)
    numbers = count(1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.operate)
            async with trio.open_nursery() as contenders:
                for name in ("anna", "bert", "cleo"):
                    contenders.start_soon(contend, life, name, dice, numbers)
            await trio.sleep_until(TROUBLE_SECONDS + 1)
            async with (
                open_node(life.database, "dora", disk=life.disk("dora")) as dora,
                trio.open_nursery() as watching,
            ):
                # Who cannot take what is in the database waits for ever, and so does who is refused by all of it.
                with trio.fail_after(PATIENCE_SECONDS):
                    await dora.lead()
                watching.start_soon(give_up, dora)
                life.leaders.append(dora)
                await life.append(dora, next(numbers))
                watching.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    run_seeded(main, seed)
    last = max(life.told)
    assert life.judge()[-2:] == group(last, 2, 10)
    return life


async def contend(life: Life, name: str, dice: random.Random, numbers: Iterator[int]) -> None:
    for _ in range(3):
        try:
            async with (
                open_node(life.database, name, disk=life.disk(name)) as node,
                trio.open_nursery() as nursery,
            ):
                with trio.move_on_after(dice.uniform(0, 40)):
                    await node.following.run()
                with trio.move_on_after(PATIENCE_SECONDS) as scope:
                    await node.lead()
                if not scope.cancelled_caught:
                    life.leaders.append(node)
                    nursery.start_soon(node.renew_lease)
                    nursery.start_soon(give_up, node)
                    for _ in range(dice.randint(1, 4)):
                        await life.append(node, next(numbers))
                        await trio.sleep(dice.uniform(0, 5))
                nursery.cancel_scope.cancel()
        except* (LogDeposedError, LogPoisonedError):
            pass


async def give_up(node: Node) -> None:
    """Also where something else has failed: its writer would go on asking, and its log wait for that."""
    try:
        await trio.sleep(PATIENCE_SECONDS)
    finally:
        node.leading.give_up()


def test_nothing_acknowledged_is_lost_among_contenders() -> None:
    told: Counter[str] = Counter()
    for seed in range(1, SEEDS + 1):
        told.update(live(seed).told.values())
    assert told["durable"] > 5 * SEEDS
    assert min(told["deposed"], told["unknown"]) > 0


@pytest.mark.parametrize("plant", [Plant.ASKS_FOR_NO_WITNESS, Plant.FENCES_BY_SEQUENCE_ALONE])
def test_planted_bugs_are_found(plant: Plant) -> None:
    for seed in range(1, SEEDS + 1):
        try:
            live(seed, plant)
        except Exception:  # noqa: BLE001 (any failure is what we want)
            return
    pytest.fail("no seed has found it")
