"""One seed: three machines that have a log together, over a database that fails, and the judgement of what is left.

The log alone, without a relay: `spool.replicated` over the database in memory (`tests.world.table`), each machine
(`tests.campaigns.log_machine`) with a disk that forgets what was not synced. A random subset of `LOG_FAULTS` is
switched on. Clients append wherever they find somebody who takes it, and remember what they were told; a subscriber
reads the log at one machine after the other. When the trouble is over the world heals, and the machines must agree.

What is judged:

- What was acknowledged is there, once, where it was said to be, whole. What was refused for certain is not there.
  What nobody could know is there whole, once, or not at all.
- All machines have the same records with the same chain values, as far as the table has them. No machine has ever had
  another record at the same place, and none a record that the table has not.
- Once another process has appended, the one before it appends nothing any more.
- The subscriber gets every record once and in order, wherever it reads.
- Somebody leads and takes an append within two minutes of a world that is whole, and all have it then.

Everything random comes from the seed: the same seed gives the same log, byte for byte.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import trio

from spool.errors import (
    LogClosedError,
    LogDeposedError,
    LogFollowsError,
    LogPoisonedError,
    LogStalledError,
    SpoolError,
)
from spool.reader import LogReader
from spool.record import Entry, Record, chain_of
from tests.campaigns.log_machine import DeadError, LogMachine, found_nodes, log_of
from tests.campaigns.story import Run
from tests.world.deterministic import run_seeded
from tests.world.outcomes import OUTCOMES_OF, Outcome
from tests.world.servers import Plant
from tests.world.spool import DIRECTORY
from tests.world.table import FakeDatabase, FakeTable

LOG_FAULTS: Final = (
    # of the machines
    "kill", "power", "stop", "freeze", "clock",
    # between them and the database
    "partition", "cuts", "late", "slow",
    # of the database
    "failover", "old-primary", "lagging", "hung", "settings", "refusals",
    # of those who use it
    "usurpers", "impatient", "tail",
)  # fmt: skip
NAMES: Final = ("anna", "berta", "carla")
TROUBLE_SECONDS: Final = 180.0
#: Of a world that is whole again. Whoever was cut off notices within seconds.
PATIENCE_SECONDS: Final = 120.0
CLIENTS: Final = 3

#: Fault -> what may become of a statement.
_OUTCOMES: Final = {
    "cuts": (Outcome.CUT_BEFORE, Outcome.CUT_AFTER),
    "late": (Outcome.LATE,),
    "failover": (Outcome.LOST, Outcome.FAILED_OVER, Outcome.WARNED_AND_LOST, Outcome.VANISHED),
    "old-primary": (Outcome.LOST_BUT_SHOWN,),
    "hung": (Outcome.HUNG, Outcome.WARNED),
    "settings": (Outcome.EMPTIED_BEFORE, Outcome.EMPTIED_MEANWHILE),
    "refusals": (Outcome.REFUSED,),
}
#: What breaks the database until the operator comes is rarer than what does not.
_LIGHT: Final = {Outcome.CUT_BEFORE, Outcome.CUT_AFTER, Outcome.REFUSED, Outcome.LATE}
_CHANGES: Final = ("append", "take_head")


def draw_log_faults(seed: int) -> tuple[str, ...]:
    dice = random.Random(f"faults of logs {seed}")
    return tuple(fault for fault in LOG_FAULTS if dice.random() < 0.5)


class _Told(NamedTuple):
    """What a client was told of one append."""

    number: int
    size: int
    by: str
    """The machine and its life."""
    seqs: Sequence[int] | None
    """Acknowledged there."""
    is_absent: bool
    """Refused for certain."""


def simulate_logs(
    seed: int,
    *,
    directory: Path | None = None,
    faults: Sequence[str] | None = None,
    plants: frozenset[Plant] = frozenset(),
) -> Run:
    """One seed. `directory`: the segments of all machines are kept there. `faults`: these, and not a random subset.
    `plants`: bugs of whoever asks the database."""
    run = Run(seed, draw_log_faults(seed) if faults is None else tuple(faults))
    story = _LogStory(run, plants)
    try:
        run_seeded(story.run, seed)
        story.judge()
    except Exception as error:  # noqa: BLE001  whatever it was, the world may not end so
        run.error = error
        run.breaches.append(f"the world ended with {error!r}")
    for machine in story.machines:
        run.log |= {f"{machine.name}/{name}": content for name, content in log_of(machine).items()}
    if directory is not None:
        for name, content in run.log.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
    return run


class _LogStory:
    def __init__(self, run: Run, plants: frozenset[Plant]) -> None:
        self.result = run
        self.faults = frozenset(run.faults)
        self.dice = random.Random(f"logs {run.seed}")
        self.database = FakeDatabase(plants=plants)
        self.machines = [LogMachine(name, self.database, seed=run.seed, found=run.breaches) for name in NAMES]
        self.is_healed = False
        self.told: list[_Told] = []
        self.heard: list[Record] = []
        self._number = 0
        #: A machine has ended as none may: there is nothing to wait for.
        self._broken = trio.Event()
        self._outcomes_dice = random.Random(f"outcomes {run.seed}")
        self._answers: Counter[str] = run.answers

    async def run(self) -> None:
        found_nodes(self.database, NAMES)
        self.database.choose = self._choose
        if "slow" in self.faults:
            self.database.latency_seconds = self.dice.choice((0.001, 0.02, 0.2))
        async with trio.open_nursery() as nursery:
            for machine in self.machines:
                nursery.start_soon(self._supervise, machine)
            for number in range(CLIENTS):
                nursery.start_soon(self._send, random.Random(f"client {number} {self.result.seed}"))
            nursery.start_soon(self._listen)
            nursery.start_soon(self._operate)
            for fault in (
                "kill",
                "power",
                "stop",
                "freeze",
                "partition",
                "usurpers",
                "failover",
                "lagging",
                "clock",
            ):
                if fault in self.faults:
                    nursery.start_soon(self._trouble, fault)
            with trio.move_on_after(TROUBLE_SECONDS):
                await self._broken.wait()
            if not self._broken.is_set():
                self._heal()
                await self._agree_in_time()
            nursery.cancel_scope.cancel()
        for machine in self.machines:
            self.result.happened += machine.troubles

    async def _supervise(self, machine: LogMachine) -> None:
        """What starts a process again."""
        dice = random.Random(f"supervisor {machine.name} {self.result.seed}")
        while True:
            end = await machine.live()
            self.result.ends[end] += 1
            if end == "failed":
                self._broken.set()
            long_away = end == "power" and dice.random() < 0.3
            await trio.sleep(
                dice.uniform(10, 60) if long_away and not self.is_healed else dice.uniform(0.1, 2)
            )

    # ---------------------------------------------------------------- trouble

    def _choose(self, number: int, name: str, table: FakeTable) -> Outcome:
        dice, kinds = self._outcomes_dice, [fault for fault in _OUTCOMES if fault in self.faults]
        if self.is_healed or not kinds or dice.random() >= (0.04 if name in _CHANGES else 0.002):
            return Outcome.ANSWERED
        outcome = dice.choice(_OUTCOMES[dice.choice(kinds)])
        if outcome not in OUTCOMES_OF[name] or (outcome not in _LIGHT and dice.random() < 0.5):
            return Outcome.ANSWERED
        self.result.happened[f"{name}: {outcome.name}"] += 1
        return outcome

    async def _trouble(self, fault: str) -> None:
        dice = random.Random(f"{fault} {self.result.seed}")
        while True:
            await trio.sleep(dice.expovariate(1 / 40))
            if self.is_healed:
                return
            # Whoever leads is the one who matters.
            leading = [machine for machine in self.machines if machine.leads]
            machine = dice.choice(leading if leading and dice.random() < 0.6 else self.machines)
            self.result.happened[fault] += 1
            match fault:
                case "kill" | "power":
                    for victim in self.machines if dice.random() < 0.15 else [machine]:
                        victim.die("kill" if fault == "kill" else "power")
                case "stop":
                    machine.stop()
                case "freeze":
                    machine.freeze()
                    await trio.sleep(dice.choice((1.0, 5.0, 30.0, 120.0)) * dice.random())
                    machine.thaw()
                case "partition":
                    machine.wire.cut_off()
                    await trio.sleep(dice.choice((1.0, 5.0, 60.0)) * dice.random())
                    machine.wire.rejoin()
                case "usurpers":
                    machine.usurps.set()
                case "failover":
                    self.database.servers.fail_over(
                        old_comes_back="old-primary" in self.faults and dice.random() < 0.5
                    )
                case "lagging":
                    standby = dice.choice(self.database.servers.all)
                    standby.stall()
                    await trio.sleep(dice.uniform(0, 60))
                    if standby.up:
                        standby.go_on()
                case "clock":
                    machine.clock_offset_us = dice.choice(
                        (0, -900_000, 900_000, -3_600_000_000, 3_600_000_000)
                    )

    async def _operate(self) -> None:
        """The database's operator, who comes some time."""
        dice = random.Random(f"operator {self.result.seed}")
        while True:
            await trio.sleep(dice.expovariate(1 / 12))
            self.database.mend()

    def _heal(self) -> None:
        self.is_healed = True
        self.database.mend()
        self.database.latency_seconds = 0.0
        for machine in self.machines:
            machine.thaw()
            machine.wire.rejoin()
            machine.clock_offset_us = 0

    # ---------------------------------------------------------------- who uses it

    async def _send(self, dice: random.Random) -> None:
        while not self.is_healed:
            await trio.sleep(dice.expovariate(1 / 1.5))
            await self._append(dice)

    async def _append(self, dice: random.Random) -> bool:
        leading = [machine for machine in self.machines if machine.leads]
        machine = dice.choice(leading if leading and dice.random() < 0.9 else self.machines)
        log, life = machine.log, machine.lives
        if log is None or machine.is_dead:
            return False
        self._number += 1
        number, size, by = self._number, dice.choice((1, 1, 2, 5)), f"{machine.name} {life}"
        entries = [
            Entry(f"{number} {part} {size} {by}".encode(), dice.randbytes(dice.choice((0, 30, 700))))
            for part in range(1, size + 1)
        ]
        is_impatient = "impatient" in self.faults and dice.random() < 0.5
        seqs: list[int] | None = None
        is_absent = False
        with trio.move_on_after(dice.uniform(0.1, 5) if is_impatient else 60) as patience:
            try:
                seqs = [record.seq for record in await log.append(entries, patient=not is_impatient)]
                answer = "acknowledged"
            except (LogFollowsError, LogDeposedError, LogClosedError) as error:
                answer, is_absent = type(error).__name__, True
            except (LogStalledError, LogPoisonedError) as error:
                answer = type(error).__name__
        if patience.cancelled_caught:
            answer, is_absent = "cancelled", True
        if machine.is_dead or machine.lives != life:
            answer, seqs, is_absent = "said by a dead process", None, False
        self._answers[answer] += 1
        self.told.append(_Told(number, size, by, seqs, is_absent))
        return seqs is not None

    async def _listen(self) -> None:
        """A subscriber who is at one machine for a while, and then at another."""
        dice = random.Random(f"subscriber {self.result.seed}")
        while True:
            machine = dice.choice(self.machines)
            log, life = machine.log, machine.lives
            if log is None or machine.is_dead:
                await trio.sleep(1)
                continue
            with trio.move_on_after(dice.uniform(1, 30)):
                try:
                    async for record in log.follow(len(self.heard) + 1):
                        if machine.is_dead or machine.lives != life:
                            break
                        self.heard.append(record)
                except (LogPoisonedError, LogDeposedError, DeadError):
                    pass
                except (SpoolError, FileNotFoundError, KeyError):
                    # Another process has its disk by now.
                    if machine.log is log and not machine.is_dead:
                        raise
            await trio.sleep(0.1)

    # ---------------------------------------------------------------- the judgement

    async def _agree_in_time(self) -> None:
        with trio.move_on_after(PATIENCE_SECONDS) as patience:
            await self._agree()
        if patience.cancelled_caught:
            self.result.breaches.append(
                f"{PATIENCE_SECONDS:.0f} s after all was whole again nobody leads, or not all have the same"
            )

    async def _agree(self) -> None:
        dice = random.Random(f"last {self.result.seed}")
        while not await self._append(dice):  # noqa: ASYNC110  somebody will lead, some time
            await trio.sleep(1)
        while True:
            head = self.database.shown.head
            assert head is not None
            logs = [machine.log for machine in self.machines]
            have_all = all(log is not None and log.last_seq == head.last_seq for log in logs)
            if have_all and len(self.heard) == head.last_seq:
                return
            await trio.sleep(0.5)

    def judge(self) -> None:
        found = self.result.breaches
        head = self.database.shown.head
        assert head is not None
        truth: list[Record] = []
        for machine in self.machines:
            with LogReader(DIRECTORY, disk=machine.disk) as reader:
                records = list(reader.read(1))
            found += _what_is_wrong_with(machine.name, records)
            if records and (records[-1].seq, records[-1].chain) != (head.last_seq, head.chain):
                found.append(
                    f"{machine.name} ends with {records[-1].seq}, and the table with {head.last_seq}"
                )
            if len(records) > len(truth):
                truth = records
        chains = {record.seq: record.chain for record in truth}
        for machine in self.machines:
            strange = [seq for seq, chain in machine.applied.items() if chains.get(seq) != chain]
            if strange:
                found.append(
                    f"{machine.name} has had records that are not what became of them: {strange[:5]}"
                )
        if [(record.seq, record.chain) for record in self.heard] != list(chains.items())[: len(self.heard)]:
            found.append("the subscriber did not hear exactly the log")
        self._judge_appends(truth)

    def _judge_appends(self, truth: Sequence[Record]) -> None:
        found = self.result.breaches
        places: dict[int, list[tuple[int, int]]] = {}
        turns: list[str] = []
        for record in truth:
            number, part, _, *by = record.skeleton.decode().split()
            places.setdefault(int(number), []).append((int(part), record.seq))
            if not turns or turns[-1] != " ".join(by):
                turns.append(" ".join(by))
        for process, count in Counter(turns).items():
            if count > 1:
                found.append(f"{process} appended again after another process had")
        for number, size, by, seqs, is_absent in self.told:
            there = places.pop(number, [])
            if not there:
                if seqs is not None:
                    found.append(f"append {number} was acknowledged by {by}, and is lost")
                continue
            if [part for part, _ in there] != list(range(1, size + 1)):
                found.append(f"append {number} is there as parts {[part for part, _ in there]} of {size}")
            if seqs is not None and [seq for _, seq in there] != seqs:
                found.append(
                    f"append {number} was acknowledged at {seqs}, and is at {[seq for _, seq in there]}"
                )
            if is_absent:
                found.append(f"append {number} was refused by {by}, and is there")
        for number, there in places.items():
            # Of one that never got an answer, all the same.
            if [seq - there[0][1] for _, seq in there] != list(range(len(there))):
                found.append(f"append {number} is there twice, or in pieces")


def _what_is_wrong_with(name: str, records: Sequence[Record]) -> list[str]:
    if not records:
        return [f"{name} has nothing"]
    problems = []
    if [record.seq for record in records] != list(range(1, len(records) + 1)):
        problems.append(f"the sequence has a gap at {name}")
    for before, record in pairwise(records):
        if record.chain != chain_of(record, before.chain):
            problems.append(f"record {record.seq} does not follow from the one before it at {name}")
        if record.time_us < before.time_us:
            problems.append(f"time goes back with record {record.seq} at {name}")
    return problems
