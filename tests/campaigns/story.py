"""One seed: the short life of one relay in a world where everything fails, and the judgement of what is left.

A random subset of `FAULTS` is switched on (swarm testing: most defects need few kinds of trouble, and hide when there
are all). The whole relay runs: HTTP application, decisions, log, views, deliverer, SMTP. Its log is on a disk that
forgets what was not synced; it is killed, loses power, is stopped and started again (`tests.world.machine`), while
people send and give orders (`tests.campaigns.people`) and listen on websockets (`tests.campaigns.listeners`). With
`verification` domains must be verified, and days of trouble with the members' DNS follow (`tests.campaigns.zones`).
Members' own unsubscribe URLs are called at their sites (`tests.campaigns.sites`), and their webhooks are told of events
(`tests.campaigns.hooks`).

When the trouble is over the world heals, and the relay lives until every message is final. Then these look at what is
left: `tests.world.checker` (delivery), `tests.world.promises` (everything else that was promised),
`tests.world.payloads` (whose personal data are gone), `spool.verify` (the log's bytes), and a fold of the log (the
views). While it lives, `Watch` looks at what only the moment shows.

Everything random comes from the seed: **the same seed gives the same log, byte for byte**, crashes and all.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from relay.codec import Recorded
from relay.config import load_config
from relay.events import MessageBounced, MessageSent, TornTailCut
from relay.operator.retention import strip
from relay.views import due, messages
from spool.reader import LogReader
from spool.verify.verify import verify_log
from tests.campaigns.backups import Backups
from tests.campaigns.faults import (
    FREE_BYTES_MIN,
    HOST_TROUBLES,
    MOODS,
    SITES,
    _configure,
    _template,
    _trouble,
    draw_faults,
)
from tests.campaigns.hooks import Hooks
from tests.campaigns.left import in_batches, views_that_differ
from tests.campaigns.listeners import Listeners
from tests.campaigns.people import DAYS_SECONDS, MEMBERS, TROUBLE_SECONDS, People, pace
from tests.campaigns.sites import Sites
from tests.campaigns.watch import Watch, WatchedInternet
from tests.campaigns.zones import Zones
from tests.world.checker import SLACK_US, breaches
from tests.world.deterministic import run_seeded
from tests.world.internet import DAY, HOUR, MINUTE
from tests.world.machine import Death, Machine, at_call
from tests.world.payloads import Payloads
from tests.world.promises import broken_promises
from tests.world.relay import World

#: Long after the last give-up time, whatever the clock did.
PATIENCE_SECONDS = 10 * DAY
#: Where nothing has to be kept.
MEMORY = "/dev/shm" if Path("/dev/shm").exists() else None


@dataclass
class Run:
    """What is left of one seed."""

    seed: int
    faults: tuple[str, ...] = ()
    breaches: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    #: Every segment of the log, by name, and what is in them.
    log: dict[str, bytes] = field(default_factory=dict)
    recorded: list[Recorded] = field(default_factory=list)
    #: What the relay, or who judges it, ended with, where that was no end for it.
    error: Exception | None = None
    #: What of the faults was more than drawn.
    happened: Counter[str] = field(default_factory=Counter)
    #: Answers to posts: status and code.
    answers: Counter[str] = field(default_factory=Counter)


def simulate(seed: int, *, directory: Path | None = None, faults: Sequence[str] | None = None) -> Run:
    """One seed. `directory`: keep everything there; it must not exist yet. `faults`: these, and not a random subset."""
    dice = random.Random(f"world {seed}")
    run = Run(seed, draw_faults(seed) if faults is None else tuple(faults))
    with _directory(directory) as data:
        shutil.copytree(_template(), data)
        _configure(data, run.faults, dice)
        story = _Story(data, run, dice)
        try:
            run_seeded(story.run, seed)
        except Exception as error:  # noqa: BLE001  whatever it was, it was no end that a relay may have
            run.error = error
            run.breaches.append(f"the relay ended with {_tell(error)}")
        try:
            story.judge()
        except Exception as error:  # noqa: BLE001  a log that cannot be judged is no good log
            run.error = run.error or error
            run.breaches.append(f"the judgement ended with {_tell(error)}")
    return run


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="relay-", dir=MEMORY) as name:
        yield Path(name) / "data"


def _tell(error: BaseException) -> str:
    """The first of those that it is made of, and the function that raised it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return f"{error!r} in {Path(frames[-1].co_filename).stem}.{frames[-1].co_name}"


class _Story:
    """One seed, from enrolment until all is final."""

    def __init__(self, directory: Path, run: Run, dice: random.Random) -> None:
        self.directory = directory
        self.result = run
        self.faults = frozenset(run.faults)
        self.dice = dice
        self.internet = self._make_internet()
        self.machine: Machine
        self.people: People
        self.listeners: Listeners
        self.backups: Backups
        self.zones: Zones
        self.hooks: Hooks
        self.payloads = Payloads()
        self.is_healed = False
        self.sites = (
            Sites(self.internet, run.breaches, lambda: self.is_healed, seed=run.seed)
            if "calls" in self.faults
            else None
        )
        self.clock_jumps_us = 0
        self.trouble_seconds = DAYS_SECONDS if "verification" in self.faults else TROUBLE_SECONDS

    # ---------------------------------------------------------------- the story

    async def run(self) -> None:
        async with trio.open_nursery() as receivers:
            self.machine = Machine(self.directory, self.internet, receivers, seed=self.result.seed)
            self.people = People(
                self.machine, self.faults, self.dice, seed=self.result.seed, breaches=self.result.breaches
            )
            self.backups = Backups(
                self.machine,
                self.result.breaches,
                [partial(self._die, death, "backup") for death in self._deaths],
                seed=self.result.seed,
            )
            self.listeners = Listeners(self.machine, self.people, self.result.breaches, seed=self.result.seed)
            self.zones = Zones(
                self.machine,
                self.people,
                self.internet.dns,
                self.result.breaches,
                keeps_time="clock" not in self.faults,
                seed=self.result.seed,
            )
            self.hooks = Hooks(
                self.machine,
                self.people,
                self.internet,
                seed=self.result.seed,
                breaches=self.result.breaches,
                keeps_time="clock" not in self.faults,
            )
            watch = Watch(self.result.breaches, lambda: self.machine.is_starting)
            self.machine.journal.observers += [watch.see, self.payloads.see, self.zones.see]
            self.internet.on_receipt.append(watch.receive)
            async with trio.open_nursery() as clients:
                await self._live(self._first_life, clients)
                while trio.current_time() < self.trouble_seconds:
                    await self._between_lives()
                    await self._live(self._troubled_life)
                self._heal()
                for _ in range(3):  # what was planned before the world was healed may end one life yet
                    if await self._live(self._last_life) == "stopped":
                        break
                else:
                    self.result.breaches.append("no last life came to its end")
                clients.cancel_scope.cancel()
            receivers.cancel_scope.cancel()

    async def _live(self, story: Callable[..., Any], *arguments: Any) -> str:
        end = await self.machine.live(partial(story, *arguments))
        self.result.ends[end] += 1
        if end == "stopped":
            self._look_at_views()  # while there is mail in them: in the end there is none
        return end

    def _look_at_views(self) -> None:
        for table in views_that_differ(self.directory, self.machine.write_out()):
            self.result.breaches.append(f"the view {table} is no fold of the log")

    async def _first_life(self, clients: trio.Nursery, world: World) -> None:
        for did, domain in MEMBERS.items():
            self.people.credentials[did] = await world.enrol(did, domain)
            clients.start_soon(self.people.follow, did)
        if "verification" in self.faults:
            await self.zones.publish(world)
            clients.start_soon(self.zones.live)
        if "notifications" in self.faults:
            for domain in MEMBERS.values():
                await world.command("domain_set_forward", domain=domain, to="person0@three.example")
        clients.start_soon(self.people.live)
        if "backups" in self.faults:
            clients.start_soon(self.backups.live, lambda: self.people.is_over)
        if "streams" in self.faults:
            clients.start_soon(self.listeners.live)
        if "webhooks" in self.faults:
            clients.start_soon(self.hooks.live)
        if "clock" in self.faults:
            clients.start_soon(self._set_clocks)
        await self._troubled_life(world)

    async def _troubled_life(self, world: World) -> None:
        self._look_at_payloads(world)
        self._arm()
        left = max(0.0, self.trouble_seconds - trio.current_time())
        if "stop" in self.faults:
            left = min(left, self.dice.expovariate(1 / (HOUR * pace())))
        with trio.move_on_after(left):
            await trio.sleep_forever()

    def _look_at_payloads(self, world: World) -> None:
        """After each restart: in the end the log may have another reason for what is gone."""
        if "erasures" in self.faults:
            store = world.core.store
            self.payloads.compare([store.get(seq) for seq in range(1, store.last_seq + 1)])

    async def _last_life(self, world: World) -> None:
        self._look_at_payloads(world)
        with trio.move_on_after(PATIENCE_SECONDS) as patience:
            await self.people.done.wait()
            while True:
                with world.core.store.read() as view:
                    waiting, calls, earliest = view.count("waiting"), view.count("calls"), due.earliest(view)
                if not waiting and not calls:
                    break
                await self._let_everything_go(world)
                # What is scheduled for later needs nobody to wait beside it.
                is_soon = waiting and (earliest is None or earliest < world.core.store.now_us() + HOUR * 1e6)
                await trio.sleep(10 * MINUTE if is_soon else HOUR)
            if "verification" in self.faults:
                await self.zones.settle()
            # A domain may be checked once more before the relay ends: of that nobody need have heard.
            seq = world.core.store.last_seq
            for did in MEMBERS:
                while await self.people.read_page(did, 1000):
                    pass
            self.people.ledger.followed_until = seq
            await self.listeners.hear_until(seq)
            if "webhooks" in self.faults:
                await self.hooks.hear_until(world, seq)
            if "erasures" in self.faults and self.dice.random() < 0.5:
                await strip(world.core, 0)
            self.backups.restore()
            self._compare_statuses(world)
        if patience.cancelled_caught:
            self.result.breaches.append("there is mail that never ends")

    def _compare_statuses(self, world: World) -> None:
        """What the views say of each message, and what its last event says."""
        outcomes = {
            item.event.message_id: "sent" if isinstance(item.event, MessageSent) else "bounced"
            for item in self.machine.journal.events
            if isinstance(item.event, MessageSent | MessageBounced)
        }
        with world.core.store.read() as view:
            for number, outcome in outcomes.items():
                state = messages.message(view, number)
                if state is None or state.status != outcome:
                    self.result.breaches.append(f"message {number} is {outcome}, and the views say {state}")

    async def _let_everything_go(self, world: World) -> None:
        for domain in await world.command("domain_list"):
            if domain["status"] != "active":
                await world.command("domain_resume", did=domain["did"], domain=domain["domain"])
        for member in await world.command("member_list"):
            if member["status"] != "active":
                await world.command("member_resume", did=member["did"])
        await world.command("queue_release", everything=True, reason="the end")

    # ---------------------------------------------------------------- faults

    @property
    def _deaths(self) -> list[Death]:
        return [death for death in ("kill", "power") if death in self.faults]  # type: ignore[misc]

    def _make_internet(self) -> WatchedInternet:
        internet, dice = WatchedInternet(), self.dice
        for number, (domain, names) in enumerate(SITES.items()):
            for name in names:
                host = internet.add_host(name, f"198.41.{number}.{names.index(name) + 1}")
                if "receivers" in self.faults:
                    host.troubles = [_trouble(dice, HOST_TROUBLES) for _ in range(dice.randint(0, 3))]
                if "moods" in self.faults:
                    share = dice.choice((0.1, 0.3, 0.6))
                    host.mood = lambda address, offer, share=share: self._mood(address, offer, share)
            internet.add_domain(domain, *names)
            if "dns" in self.faults:
                internet.dns.troubles[domain] = [
                    _trouble(dice, ("gone", "servfail")) for _ in range(dice.randint(0, 2))
                ]
        return internet

    def _mood(self, address: str, offer: int, share: float) -> str:
        dice = random.Random(f"{self.result.seed} {address} {offer}")
        if self.is_healed or dice.random() > share:
            return ""
        self.result.happened["mood of a receiver"] += 1
        return dice.choice(MOODS)

    def _arm(self) -> None:
        """Plan how this life ends, if it is to end badly."""
        machine, dice = self.machine, self.dice
        machine.disk_seconds = self._slow_disk if "slow-disk" in self.faults else lambda: 0.0
        if "failing-disk" in self.faults and dice.random() < 0.5:
            machine.disk.fail_at = machine.disk.operations + int(2 ** dice.uniform(0, 7))
        if "full-disk" in self.faults and dice.random() < 0.5:
            room = FREE_BYTES_MIN + dice.randint(-8192, 16_384)
            machine.disk.capacity_bytes = machine.disk.used_bytes() + room
            machine.after(dice.expovariate(1 / (20 * MINUTE)), machine.disk.make_room)
        deaths = self._deaths
        if not deaths or dice.random() < 0.2:
            return
        death = dice.choice(deaths)
        moment = dice.choice(("operation", "operation", "batch", "receipt", "time"))
        die = partial(self._die, death, moment)
        match moment:
            case "operation":
                machine.disk.after_operation = at_call(int(2 ** dice.uniform(0, 7)), die)
            case "batch":
                observer = at_call(int(2 ** dice.uniform(0, 5)), die)
                machine.world.core.store.observers.append(lambda recorded: observer())
            case "receipt":
                on_receipt = at_call(dice.randint(1, 5), die)
                life = machine.lives
                self.internet.on_receipt.append(
                    lambda receipt: on_receipt() if machine.lives == life else None
                )
            case "time":
                machine.after(2 ** dice.uniform(-10, 12), die)

    def _die(self, death: Death, moment: str) -> None:
        if self.machine.death is None:
            self.result.happened[f"{death}: {moment}"] += 1
        self.machine.die(death)

    def _slow_disk(self) -> float:
        return self.dice.choice((0.0, 0.001, 0.05, 0.5, 3.0, 6.0))

    async def _between_lives(self) -> None:
        machine, dice = self.machine, self.dice
        machine.disk.capacity_bytes = None  # the operator has made room
        machine.disk.fail_at = 0
        if "old-views" in self.faults:
            if dice.random() < 0.5:
                self.result.happened["older views brought back"] += machine.bring_back_views()
            elif dice.random() < 0.5:
                machine.keep_views()
        if "lost-views" in self.faults and dice.random() < 0.5:
            self.result.happened["views lost"] += machine.lose_views()
        await trio.sleep(dice.choice((0.0, 1.0, 30.0, 600.0)))
        # A death in the middle of the next start, that is in recovery.
        deaths = self._deaths
        if deaths and dice.random() < 0.3:
            machine.disk.after_operation = at_call(
                dice.randint(1, 12), partial(self._die, dice.choice(deaths), "start")
            )
        if "failing-disk" in self.faults and dice.random() < 0.2:
            machine.disk.fail_at = machine.disk.operations + dice.randint(1, 12)

    async def _set_clocks(self) -> None:
        dice = random.Random(f"clock {self.result.seed}")
        while not self.is_healed:
            await trio.sleep(dice.expovariate(1 / HOUR))
            if trio.current_time() >= TROUBLE_SECONDS:
                return  # over days the jumps would add up to anything
            hours = dice.choice((-2.0, -0.1, -0.001, 0.001, 0.1, 2.0, 25.0))
            if not self.is_healed:
                self.machine.clock_offset_us += round(hours * HOUR * 1e6)
                self.clock_jumps_us += abs(round(hours * HOUR * 1e6))
                self.result.happened["clock set"] += 1

    def _heal(self) -> None:
        self.is_healed = self.people.is_over = True
        self.internet.dns.troubles.clear()
        for host in self.internet.hosts.values():
            host.troubles.clear()
        self.machine.disk_seconds = lambda: 0.0
        self.machine.disk.capacity_bytes = None
        self.machine.disk.fail_at = 0
        self.machine.disk.after_operation = None

    # ---------------------------------------------------------------- the judgement

    def judge(self) -> None:
        run, found = self.result, self.result.breaches
        log = self.machine.write_out()
        run.log = {path.name: path.read_bytes() for path in sorted(log.glob("*.seg"))}
        self._count()
        found += self.machine.journal.breaches
        if run.error is not None:
            found += self.payloads.found
            return  # it never came to its end, so that the rest would say so again in many words
        found += self.internet.violations()
        problems = verify_log(log).problems
        found += [f"log verify: {problem}" for problem in problems]
        if problems:
            return  # those below believe what they read
        found += [f"the view {name} is no fold of the log" for name in views_that_differ(self.directory, log)]
        with LogReader(log) as reader:
            entries = in_batches(reader)
        self.payloads.compare([entry.recorded for entry in entries])
        for restored in self.backups.restored:
            self.payloads.compare_beginning(restored, name="a backup")
        self.payloads.hear(self.people.ledger.erased)
        found += self.payloads.found
        found += self.backups.judge(self.machine.journal.events)
        # What was true of a message stays true when its personal data are gone: judge it by what it was.
        entries = [
            entry._replace(recorded=seen)
            for entry, seen in zip(entries, self.machine.journal.events, strict=False)
        ]
        recorded = run.recorded = [entry.recorded for entry in entries]
        run.events = Counter(item.event.TYPE for item in recorded)
        if self.sites is not None:
            found += self.sites.judge(recorded)
        config = load_config(self.directory)
        slack_us = SLACK_US + self.clock_jumps_us + (60_000_000 if "slow-disk" in self.faults else 0)
        found += breaches(
            recorded,
            config,
            receipts=self.internet.receipts,
            connections_max=self.internet.connections_max.values(),
            slack_us=slack_us,
            back_us=self.clock_jumps_us,
        )
        found += broken_promises(
            entries, config, self.people.ledger, self.internet.receipts, back_us=self.clock_jumps_us
        )
        if "streams" in self.faults:
            found += self.listeners.judge()
        if "webhooks" in self.faults:
            found += self.hooks.judge(recorded, clock_us=self.clock_jumps_us)

    def _count(self) -> None:
        """What the trouble came to."""
        run, machine = self.result, self.machine
        run.happened += Counter({f"disk: {name}": count for name, count in machine.disk_failures().items()})
        run.happened["torn tail cut"] += sum(
            isinstance(item.event, TornTailCut) for item in machine.journal.events
        )
        for request in self.people.ledger.requests:
            run.answers["none, or try again"] += request.unknown
            run.answers.update(f"{answer.status} {answer.code}".strip() for answer in request.answers)
