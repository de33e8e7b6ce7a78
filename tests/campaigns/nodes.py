"""A campaign of real relays on one log: `python -m tests.campaigns.nodes --rounds 20 [--seed 1] [--only TROUBLE]`.

Three relays in processes of their own, and three servers of PostgreSQL, live through all rounds. In each, clients and
subscribers use any node (`tests.campaigns.nodes_life`) while one of the troubles below happens to some of the six, or
to the network between them (`tests.campaigns.network_troubles`). After each round all is mended, and somebody
must accept mail again. What must hold:

- what any node answered 200 is in the log, once, and ends sent or bounced; a replay at any node is the first answer;
- at no node what is final becomes anything else, and no node denies a message that was accepted;
- streams that are resumed at another node have neither gap nor repeat;
- a mail that was received twice has an interrupted attempt, or one without a reply to its dot, to show for it;
- all nodes' logs are the same, chain value by chain value, and `log verify` finds nothing on any.

Troubles are drawn like cards from a shuffled deck. A violation ends the campaign with exit status 1.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NoReturn

import trio

from tests.campaigns.network_troubles import LONG_SECONDS, NETWORK_TROUBLES, Trouble
from tests.campaigns.nodes_life import NodesLife, open_nodes_life
from tests.campaigns.tally import Violation
from tests.world.postgres import open_servers
from tests.world.process import RelayProcess

beside = trio.to_thread.run_sync
ANSWERS_MAX: Final = 30


async def kill_the_leader(life: NodesLife) -> None:
    life.kill(life.leader())


async def kill_a_follower(life: NodesLife) -> None:
    life.kill(life.follower())


async def stop_the_leader_for_a_while(life: NodesLife) -> None:
    """SIGSTOP until another leads, or not as long as that."""
    await _stand_still(life, life.leader())


async def stop_a_follower_for_a_while(life: NodesLife) -> None:
    await _stand_still(life, life.follower())


async def _stand_still(life: NodesLife, node: RelayProcess) -> None:
    life.signal(node, signal.SIGSTOP)
    await trio.sleep(life.dice.choice((0.5, LONG_SECONDS, 2 * LONG_SECONDS)))
    life.signal(node, signal.SIGCONT)


async def promote_a_standby(life: NodesLife) -> None:
    """kill -9 of the database's primary, and its most advanced standby takes its place."""
    await beside(life.servers.fail_over)


async def old_primary_comes_back(life: NodesLife) -> None:
    """It lets everybody write, and nobody follows it."""
    old = life.servers.primary
    await beside(life.servers.fail_over)
    await beside(old.start)
    await trio.sleep(2)


async def kill_a_standby(life: NodesLife) -> None:
    await beside(life.dice.choice(life.servers.standbys).kill)


async def standbys_stand_still(life: NodesLife) -> None:
    """Nothing can be acknowledged until they go on."""
    for standby in life.servers.standbys:
        standby.stop()
    await trio.sleep(life.dice.choice((1.0, LONG_SECONDS)))
    for standby in life.servers.standbys:
        standby.go_on()


async def primary_stands_still(life: NodesLife) -> None:
    life.servers.primary.stop()
    await trio.sleep(life.dice.choice((1.0, LONG_SECONDS, 2 * LONG_SECONDS)))
    life.servers.primary.go_on()


async def database_away(life: NodesLife) -> None:
    """kill -9 of all three servers, and all three come back as they were."""
    for server in life.servers.all:
        await beside(server.kill)
    await trio.sleep(life.dice.choice((1.0, LONG_SECONDS)))
    for server in (life.servers.primary, *life.servers.standbys):
        await beside(server.start)


async def all_six_at_once(life: NodesLife) -> None:
    for node in life.nodes.all:
        life.kill(node)
    await database_away(life)


async def settings_emptied(life: NodesLife) -> None:
    """Somebody empties synchronous_standby_names: nothing is acknowledged until it is mended."""
    await beside(life.servers.primary.set, "synchronous_standby_names", "")
    await trio.sleep(2)


async def children_come_or_go(life: NodesLife) -> None:
    """All relays get an edge and a courier, or do without them, as one after the other is killed and comes back."""
    life.give_children(0 if life.children else 1)
    for node in life.nodes.all:
        life.kill(node)
        await trio.sleep(life.dice.uniform(0, 2))


async def kill_children(life: NodesLife) -> None:
    """Edges and couriers, and no relay. Where there are none they come first."""
    if not life.children:
        await children_come_or_go(life)
        await life.wait_answers(life.dice.randint(1, ANSWERS_MAX))
    for node in life.nodes.all:
        for role in ("edge", "courier"):
            life.happened[f"{role}s killed"] += await beside(life.kill_children, node, role)


TROUBLES: Final[tuple[Trouble, ...]] = (
    kill_the_leader,
    stop_the_leader_for_a_while,
    promote_a_standby,
    kill_a_follower,
    stop_a_follower_for_a_while,
    old_primary_comes_back,
    kill_a_standby,
    standbys_stand_still,
    primary_stands_still,
    database_away,
    all_six_at_once,
    settings_emptied,
    children_come_or_go,
    kill_children,
    *NETWORK_TROUBLES,
)


async def live(
    directory: Path, *, rounds: int, seed: int, only: str | None, told: Counter[str], children: int = 0
) -> None:
    """`children`: so many edges and so many couriers each relay has, until a round changes it."""
    dice = random.Random(f"rounds {seed}")
    deck: list[Trouble] = []
    with open_servers() as servers:
        async with open_nodes_life(directory, servers, seed=seed, children=children) as life:
            try:
                for number in range(1, rounds + 1):
                    if not deck:
                        deck = [trouble for trouble in TROUBLES if only in (None, trouble.__name__)]
                        dice.shuffle(deck)
                    trouble = deck.pop()
                    began = time.monotonic()
                    async with life.load():
                        await life.wait_answers(dice.randint(1, ANSWERS_MAX))
                        await trouble(life)
                        await trio.sleep(dice.uniform(0, 1))
                    await life.recover()
                    told[trouble.__name__] += 1
                    print(f"round {number}: {trouble.__name__}, {time.monotonic() - began:.1f} s", flush=True)
                await life.settle()
            finally:
                told += life.happened


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.nodes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[trouble.__name__ for trouble in TROUBLES])
    parser.add_argument(
        "--children", type=int, default=0, help="edges of each relay at the beginning, and couriers"
    )
    options = parser.parse_args()

    async def run(directory: Path, told: Counter[str]) -> None:
        await live(
            directory,
            rounds=options.rounds,
            seed=options.seed,
            only=options.only,
            told=told,
            children=options.children,
        )

    run_and_exit(run, "nodes-")


def run_and_exit(run: Callable[[Path, Counter[str]], Awaitable[None]], prefix: str) -> NoReturn:
    """Run a campaign in a directory of its own, print what it has `told`, and exit: 1 where a promise is broken."""
    told: Counter[str] = Counter()
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    status = 0
    try:
        trio.run(run, directory, told)
    except* Violation as group:
        status = 1
        print(f"A promise is broken; everything is in {directory}")
        for error in _leaves(group):
            print(f"    {error}"[:6000])
    print("\n".join(f"{count:10,}  {what}" for what, count in sorted(told.items())))
    sys.exit(status)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    main()
