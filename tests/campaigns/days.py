"""Days of a relay's life among receivers in trouble, in seconds: everything real but time, disk syncs and the internet.

    python -m tests.campaigns.days --messages 10000 --seed 7

Members send over the HTTP API for two days; receivers are in random trouble for as long, and some for longer; the run
ends when every message is final. Then `tests.world.checker` looks at all that happened. Everything random comes from
the seed: the same seed gives the same log, byte for byte, in any process.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from relay.codec import Recorded, decode
from relay.config import load_config
from spool.reader import LogReader
from tests.world.checker import breaches
from tests.world.deterministic import UnsyncedDisk, make_seeded_directory, run_seeded
from tests.world.internet import DAY, HOUR, MINUTE, Internet, Trouble
from tests.world.relay import World, open_world

MEMBERS = {
    f"did:plc:{letter * 24}": domain
    for letter, domain in zip("abcde", ("forum", "shop", "club", "pds", "news"), strict=True)
}
#: Few, so that there is a crowd.
DELIVERY = "connections_per_site_max = 5\n"
SENDING_DAYS = 2
RECIPIENTS_PER_SEND = 50
#: Bounces are what this is about, so nobody is paused for them.
SETTINGS = """
[reputation]
messages_min = 1000000
"""
CATEGORIES = ("bulk", "broadcast", "transactional", "login-link", "password-reset", "verification", "mfa-otp")
#: What an offer may meet beside the receiver's own troubles.
MOODS = (
    "tempfail", "full", "421", "garbage", "reset", "hang", "slow", "permfail", "disconnect-in-data",
    "disconnect-after-dot", "hang-after-dot", "refuse-early", "accept-early", "defer-message", "refuse-message",
    "close-after-message", "toomany",
)  # fmt: skip
HOST_TROUBLES = (
    "refuses", "silent", "mute", "busy", "broken-starttls", "throttles", "greylisting", "tempfail", "full", "421",
    "hang", "reset", "garbage", "permfail", "defer-message", "disconnect-after-dot",
)  # fmt: skip


@dataclass
class Simulation:
    """What is left of a run."""

    directory: Path
    internet: Internet
    ended_at: float = 0.0
    events: list[Recorded] = field(default_factory=list)
    #: What is wrong with the log and the receivers' records, and with the number of connections.
    breaches: list[str] = field(default_factory=list)
    crowds: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        return Counter(item.event.TYPE for item in self.events)


def simulate(directory: Path, *, messages: int, seed: int, domains: int = 40, sites: int = 12) -> Simulation:
    """Run, and check. `directory` must not exist yet."""
    dice = random.Random(f"days {seed}")
    internet = make_internet(dice, domains=domains, sites=sites)
    make_seeded_directory(
        directory, [f"{name}.example" for name in MEMBERS.values()], delivery=DELIVERY, settings=SETTINGS
    )
    simulation = Simulation(directory, internet)

    async def main() -> None:
        async with open_world(
            directory, internet=internet, disk=UnsyncedDisk(), enrol=False, seed=seed
        ) as world:
            await send_all(world, dice, messages)
            simulation.ended_at = trio.current_time()

    run_seeded(main, seed)
    config = load_config(directory)
    simulation.events = read_log(directory)
    simulation.breaches = breaches(simulation.events, config, receipts=internet.receipts)
    simulation.crowds = breaches([], config, connections_max=internet.connections_max.values())
    return simulation


def read_log(directory: Path) -> list[Recorded]:
    with LogReader(directory / "log") as reader:
        return [decode(record) for record in reader.read(1)]


def make_internet(dice: random.Random, *, domains: int, sites: int) -> Internet:
    internet = Internet()
    names = [
        [f"mx{number}.site{site}.example" for number in range(1, dice.randint(1, 3) + 1)]
        for site in range(sites)
    ]
    for site, hosts in enumerate(names):
        for number, name in enumerate(hosts, 1):
            host = internet.add_host(name, f"198.41.{site}.{number}")
            host.troubles = some_troubles(dice, HOST_TROUBLES, dice.randint(0, 6))
            share = dice.choice((0.0, 0.02, 0.1, 0.3))
            host.mood = lambda address, offer, share=share: mood(address, offer, share)
    for number in range(domains):
        domain = f"domain{number}.example"
        internet.add_domain(domain, *names[number % sites])
        if dice.random() < 0.2:
            internet.dns.troubles[domain] = some_troubles(dice, ("gone", "servfail"), dice.randint(1, 3))
    return internet


def some_troubles(dice: random.Random, kinds: Sequence[str], count: int) -> list[Trouble]:
    """From minutes to days each; those of full mailboxes and the like end before the receivers' patience does."""
    troubles = []
    for _ in range(count):
        kind = dice.choice(kinds)
        begin = dice.uniform(0, 4 * DAY)
        length = dice.choice(
            (dice.uniform(MINUTE, HOUR), dice.uniform(HOUR, 12 * HOUR), dice.uniform(1 * DAY, 6 * DAY))
        )
        length = min(length, 2 * HOUR) if kind in ("gone", "permfail") else length
        amount = dice.randint(1, 10) if kind == "throttles" else dice.uniform(MINUTE, HOUR)
        troubles.append(Trouble(kind, begin, begin + length, amount))
    return troubles


def mood(address: str, offer: int, share: float) -> str:
    """Mostly none. Of the offer alone, so that it does not matter in which order offers come."""
    dice = random.Random(f"{address} {offer}")
    return dice.choice(MOODS) if dice.random() < share else ""


async def send_all(world: World, dice: random.Random, count: int) -> None:
    """Enrol the members, send for two days, and wait until everything is final."""
    credentials = {did: await world.enrol(did, f"{name}.example") for did, name in MEMBERS.items()}
    sizes = [RECIPIENTS_PER_SEND] * (count // RECIPIENTS_PER_SEND)
    sizes += [count % RECIPIENTS_PER_SEND] if count % RECIPIENTS_PER_SEND else []
    moments = sorted(dice.uniform(0, SENDING_DAYS * DAY) for _ in sizes)
    sent = 0
    for size, moment in zip(sizes, moments, strict=True):
        await trio.sleep_until(moment)
        did, name = dice.choice(list(MEMBERS.items()))
        world.credentials = credentials[did]
        recipients = [f"person{sent + n}@domain{dice.randrange(40)}.example" for n in range(size)]
        status, answer = await world.post_send(
            **{"from": f"hello@{name}.example"}, to=recipients, category=dice.choice(CATEGORIES)
        )
        assert status == 200, answer
        sent += size
    await world.until_so_many_are_final(count)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.days", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="keep the data directory here; it must not exist yet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simulated-") as temporary:
        begun = time.perf_counter()
        run = simulate(
            options.directory or Path(temporary) / "data", messages=options.messages, seed=options.seed
        )
        seconds = time.perf_counter() - begun
    print(f"{options.messages:,} messages, {run.ended_at / DAY:.1f} days in {seconds:.1f} s")
    for name, count in sorted(run.counts.items()):
        print(f"  {count:>8,}  {name}")
    print(f"  {max(run.internet.connections_max.values()):>8,}  connections at most to one site")
    for breach in (*run.breaches, *run.crowds):
        print(breach)
    sys.exit(1 if run.breaches or run.crowds else 0)


if __name__ == "__main__":
    main()
