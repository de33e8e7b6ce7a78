"""A campaign of real relays on a database that Patroni looks after: `python -m tests.campaigns.patroni --rounds 20`.

As `tests.campaigns.nodes`, with three servers that nobody here promotes or mends: their Patronis do. In each round one
of the troubles below happens while clients and subscribers use any node; then all that was switched off is switched on,
and nothing else is done by hand. What must hold is what must hold there. For each round it says how long nobody could
be told 200.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, cast

import trio

from tests.campaigns.nodes import run_and_exit
from tests.campaigns.nodes_life import NodesLife, open_nodes_life
from tests.world.patroni import TTL_SECONDS, ManagedServers, open_managed_servers
from tests.world.postgres import Servers

beside = trio.to_thread.run_sync
#: Of all clients, before the trouble and when it is over.
ANSWERS: Final = 20


class Trial:
    def __init__(self, life: NodesLife, servers: ManagedServers) -> None:
        self.life = life
        self.servers = servers

    async def primary(self) -> str:
        return await beside(self.servers.wait_whole)


async def kill_the_server(trial: Trial) -> None:
    """kill -9 of all of the primary's processes; its Patroni sees it."""
    await beside(trial.servers.kill_server, await trial.primary())


async def kill_the_machine(trial: Trial) -> None:
    """kill -9 of the primary and of its Patroni: the others see that its key in etcd ends."""
    await beside(trial.servers.kill, await trial.primary())


async def kill_the_machine_and_the_leader(trial: Trial) -> None:
    trial.life.kill(trial.life.leader())
    await kill_the_machine(trial)


async def switch_over(trial: Trial) -> None:
    """As an operator orders it."""
    await beside(trial.servers.switch_over, await trial.primary())


async def kill_the_synchronous_standby(trial: Trial) -> None:
    primary = await trial.primary()
    ((name,),) = await beside(
        trial.servers.execute,
        primary,
        "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'",
    )
    await beside(trial.servers.kill, name)


async def etcd_away(trial: Trial) -> None:
    """No primary may be one for longer than its key would live."""
    await trial.primary()
    trial.servers.kill_etcd()
    await trio.sleep(TTL_SECONDS + 5)
    trial.servers.launch_etcd()


TROUBLES: Final[tuple[Callable[[Trial], Awaitable[None]], ...]] = (
    kill_the_server,
    kill_the_machine,
    kill_the_machine_and_the_leader,
    switch_over,
    kill_the_synchronous_standby,
    etcd_away,
)


async def _longest_pause(life: NodesLife, trouble: Callable[[], Awaitable[None]]) -> float:
    """Seconds between two 200s of all clients, from before the trouble to when it is over."""
    await life.wait_answers(ANSWERS)
    longest = over_at = 0.0
    last = trio.current_time()

    async def watch() -> None:
        nonlocal longest, last
        while not over_at or last < over_at:
            await life.wait_answers(1)
            now = trio.current_time()
            longest, last = max(longest, now - last), now

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trouble()
        # What was under way when it began does not say that it is over.
        await trio.sleep(1)
        over_at = trio.current_time()
    await life.wait_answers(ANSWERS)
    return longest


async def live(directory: Path, *, rounds: int, seed: int, only: str | None, told: Counter[str]) -> None:
    dice = random.Random(f"rounds {seed}")
    deck: list[Callable[[Trial], Awaitable[None]]] = []
    with open_managed_servers() as servers:
        # Of its servers a life asks a database, and that they be mended; these can do both.
        async with open_nodes_life(directory, cast("Servers", servers), seed=seed) as life:
            trial = Trial(life, servers)
            try:
                for number in range(1, rounds + 1):
                    if not deck:
                        deck = [trouble for trouble in TROUBLES if only in (None, trouble.__name__)]
                        dice.shuffle(deck)
                    trouble = deck.pop()
                    async with life.load():
                        seconds = await _longest_pause(life, partial(trouble, trial))
                    began = trio.current_time()
                    await life.recover()
                    told[trouble.__name__] += 1
                    print(
                        f"round {number}: {trouble.__name__}: {seconds:.1f} s without a 200, and "
                        f"{trio.current_time() - began:.1f} s later all was whole again",
                        flush=True,
                    )
                await life.settle()
            finally:
                told += life.happened


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.patroni", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[trouble.__name__ for trouble in TROUBLES])
    options = parser.parse_args()

    async def run(directory: Path, told: Counter[str]) -> None:
        await live(directory, rounds=options.rounds, seed=options.seed, only=options.only, told=told)

    run_and_exit(run, "patroni-nodes-")


if __name__ == "__main__":
    main()
