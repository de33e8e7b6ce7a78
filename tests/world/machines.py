"""Relays on several machines in the test's process: one database in memory, one receiver, and a clock that jumps.

    async with open_machines(tmp_path, "anna", "bert") as machines:
        anna = await machines.until_led()
        message_id = await anna.world.send(to="friend@example.com")
        anna.kill()
        bert = await machines.until_led()

Each machine has a data directory of its own, with the same keys, and is reached by the others at NAME.machines.example.
With `disks_forget` a machine may lose its power, too: `bert.lose_power()`. Then its log is on a disk of
`tests.world.mortal_disk`, and what dies reaches that no more.

When the block ends those that are left are stopped in order, and **all logs must be the same, record by record, as far
as each goes, and each machine's views a fresh fold of its own log**.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from unittest import mock

import trio
from trio.testing import memory_stream_pair

from relay.codec import Recorded, versions_read_here
from relay.config import CONFIG_FILE
from relay.config_nodes import NODE_FILE
from relay.file_names import LOG_DIRECTORY
from relay.nodes import versions
from relay.nodes.certificates import found
from relay.nodes.node import Node
from relay.processes.mail_reader import in_process
from relay.refusals import Refusal
from relay.service import Relay, open_relay
from relay.surroundings import Surroundings, Timeouts
from spool.disk import RealDisk
from spool.errors import LogDeposedError, LogPoisonedError, SpoolError
from spool.reader import LogReader
from spool.record import Record
from tests.world.deterministic import log_bytes
from tests.world.dns import FakeDns
from tests.world.internet import connected_to
from tests.world.mortal_disk import Death, MortalDisk, bury, disk_with, let_die, log_of
from tests.world.mx import Mx
from tests.world.mx_options import MxOptions, ReceivedMessage
from tests.world.process import configure
from tests.world.relay import (
    EPOCH_US,
    World,
    assert_views_are_the_log,
    call_here,
    make_directory,
    virtual_clock,
)
from tests.world.table import FakeDatabase, FakeTable

#: Of the clock that jumps. Machines ask the database all the time, so it must not be days.
LONG_SECONDS = 3 * 3600.0
#: What another machine needs of the first one's directory.
#: What the machine whose task asks reads otherwise than this version of the relay.
_OLDER: ContextVar[Mapping[str, int]] = ContextVar("_OLDER")
_NOT_COPIED = shutil.ignore_patterns("views", "log", "*.sock", "*.address", "own.pem", NODE_FILE)


class Machine:
    """One of them. It may be begun again when it has ended."""

    def __init__(
        self, machines: Machines, name: str, directory: Path, number: int, *, disk_forgets: bool = False
    ) -> None:
        self.name = name
        self.directory = directory
        #: None: the real one, as the machine running this test has it.
        self.disk: MortalDisk | None = disk_with(directory) if disk_forgets else None
        self.table: FakeTable = machines.database.table(name)
        #: How far its clock is off.
        self.clock_off_us = 0
        #: An older version of the relay runs there, from its next start on: type of an event -> the highest version of
        #: it that is read there, and 0 for a type that is not known. What is not named is as here.
        self.older: Mapping[str, int] = {}
        self.world: World
        #: What has ended it; None: it runs, or was stopped in order.
        self.ended_by: SpoolError | Refusal | None = None
        self.is_up = False
        #: It has no network any more.
        self.is_cut_off = False
        self._machines = machines
        self._number = number
        self._lives = 0
        self._death: Death | None = None
        self._fate = random.Random(f"fate {number}")
        self._scope = trio.CancelScope()
        self._stop = trio.Event()
        self._ended = trio.Event()

    @property
    def relay(self) -> Relay:
        return self.world.relay

    @property
    def node(self) -> Node:
        assert self.relay.node is not None
        return self.relay.node

    @property
    def leads(self) -> bool:
        return self.is_up and self.node.leads

    @property
    def acts(self) -> bool:
        return self.is_up and self.relay.acting is not None

    @property
    def seq(self) -> int:
        return int(self.world.core.store.last_seq)

    async def begin(self) -> None:
        self._scope, self._stop, self._ended = trio.CancelScope(), trio.Event(), trio.Event()
        self.ended_by = None
        self._lives += 1
        await self._machines.nursery.start(self._live)

    def kill(self) -> None:
        """Nothing that it does from now on reaches anybody."""
        self._die("kill")

    def lose_power(self) -> None:
        """`kill`, and its disk forgets some of what was not synced."""
        assert self.disk is not None
        self._die("power")

    def _die(self, death: Death) -> None:
        self.cut_off()
        if self.disk is not None and self._death is None:
            self._death = death
            let_die(self.disk, self.directory)
        self._scope.cancel()

    def cut_off(self) -> None:
        """It reaches neither the database nor anybody else any more, until `rejoin`."""
        self.is_cut_off = True
        self.table.cut_off()

    def rejoin(self) -> None:
        self.is_cut_off = False
        self.table.rejoin()

    async def stop(self) -> None:
        self._stop.set()
        await self._ended.wait()

    async def until_ended(self) -> None:
        with trio.fail_after(LONG_SECONDS):
            await self._ended.wait()

    def records(self) -> list[Record]:
        with LogReader(self.directory / LOG_DIRECTORY, disk=self.disk) as reader:
            return list(reader.read(1))

    def log_bytes(self) -> dict[str, bytes]:
        """The log's segments, by name."""
        return log_bytes(self.directory) if self.disk is None else log_of(self.disk, self.directory)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        _OLDER.set(self.older)
        machines, seed = self._machines, self._number * 100 + self._lives
        surroundings = Surroundings(
            clock=lambda: virtual_clock() + self.clock_off_us,
            offload=call_here,
            open_stream=self._open_stream,
            resolver=machines.dns,
            disk=self.disk or RealDisk(),
            dice=random.Random(seed),
            chance=random.Random(f"chance {seed}").randbytes,
            table=self.table,
            timeouts=machines.timeouts,
        )
        try:
            with self._scope:
                async with open_relay(
                    self.directory, surroundings, mail_reader=in_process(machines.dns, virtual_clock)
                ) as relay:
                    self.world = World(relay, machines.mx, machines.dns)
                    self.world.credentials = machines.credentials
                    relay.core.store.observers.append(self._observe)
                    self.is_up = True
                    task_status.started()
                    await self._stop.wait()
                    await relay.stop()
                    assert_views_are_the_log(relay, self.directory)
        except* (LogDeposedError, LogPoisonedError, Refusal) as group:
            self.ended_by = _first(group)
            if not self.is_up:
                task_status.started()  # it has ended while it was being begun
        except* OSError:
            if self._death is None:
                raise
            # The last words of a dead process are heard by nobody.
        finally:
            self.is_up = False
            if self.disk is not None and self._death is not None:
                self.disk = bury(self.disk, self.directory, self._death, self._fate)
                self._death = self.ended_by = None
            elif self.disk is not None:
                self.disk.restart()
            self.rejoin()
            self._ended.set()
            machines.tell()

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        self._machines.tell()

    async def _open_stream(self, host: str, port: int) -> trio.abc.Stream:
        if self.is_cut_off:
            raise OSError(101, "Network is unreachable")
        serve = self._machines.services.get((host, port))
        if serve is not None:
            return connected_to(partial(serve, self), self._machines.nursery)
        ours, theirs = memory_stream_pair()
        name, _, zone = host.partition(".")
        if zone != "machines.example":
            self._machines.nursery.start_soon(self._machines.mx.serve, theirs)
            return ours
        other = self._machines.named(name)
        if not other.is_up or other.is_cut_off:
            raise OSError(111, "Connection refused")
        self._machines.nursery.start_soon(other.node.door.serve, theirs)
        return ours


class _Receiver(Mx):
    """It also counts what it has whole, whatever it says of it."""

    tell: Callable[[], None]
    whole = 0

    def arrived(self, message: ReceivedMessage, word: str) -> None:
        super().arrived(message, word)
        self.whole += 1
        self.tell()


class Machines:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.database = FakeDatabase()
        self.mx = _Receiver(MxOptions())
        self.mx.tell = self.tell
        self.dns = FakeDns()
        self.timeouts = Timeouts()
        self.all: list[Machine] = []
        #: By address and port, who serves there, and is told which machine connects.
        self.services: dict[tuple[str, int], Callable[[Machine, trio.abc.Stream], Awaitable[None]]] = {}
        #: Of the member that was enrolled.
        self.credentials: dict[str, str] = {}
        self._news = trio.Event()

    def named(self, name: str) -> Machine:
        return next(machine for machine in self.all if machine.name == name)

    def leader(self) -> Machine | None:
        """Who leads, and acts."""
        return next((machine for machine in self.all if machine.leads and machine.acts), None)

    def tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Looked at whenever something becomes true on a machine, or one ends, and each second of the clock that jumps.
        Raises trio.TooSlowError."""
        with trio.fail_after(LONG_SECONDS):
            while not is_so():
                with trio.move_on_after(1):
                    await self._news.wait()

    async def until_led(self) -> Machine:
        await self.until(lambda: self.leader() is not None)
        leader = self.leader()
        assert leader is not None
        return leader

    async def until_led_by_another(self, than: Machine) -> Machine:
        others = [machine for machine in self.all if machine is not than]
        await self.until(lambda: any(machine.leads and machine.acts for machine in others))
        return next(machine for machine in others if machine.leads and machine.acts)

    async def until_level(self) -> None:
        """All that are up have what the leader has."""
        leader = await self.until_led()
        await self.until(lambda: all(machine.seq >= leader.seq for machine in self.all if machine.is_up))

    async def enrol(self) -> None:
        self.credentials.update(await (await self.until_led()).world.enrol())


@asynccontextmanager
async def open_machines(
    directory: Path,
    *names: str,
    settings: str = "",
    nodes: str = "",
    tables: Mapping[str, str] | None = None,
    timeouts: Timeouts | None = None,
    disks_forget: bool = False,
    enrol: bool = True,
    older: Mapping[str, int] | None = None,
    **mx_options: object,
) -> AsyncIterator[Machines]:
    """All of them, begun in order. `tables`: lines of `relay.toml`, by table. `older`: see `Machine.older`; of all of
    them."""
    first = make_directory(directory / names[0], settings)
    configure(first, **(tables or {}))
    config = first / CONFIG_FILE
    config.write_text(config.read_text() + f"\n[nodes]\n{nodes}\n")
    found(first, datetime.now(UTC))
    for name in names[1:]:
        shutil.copytree(first, directory / name, ignore=_NOT_COPIED)
    as_it_reads = mock.patch.object(versions, "versions_read_here", _read_by_this_machine)
    with as_it_reads:
        async with trio.open_nursery() as nursery:
            machines = Machines(nursery)
            machines.mx.configure(**mx_options)
            machines.timeouts = timeouts or Timeouts()
            machines.database.now_us = virtual_clock
            for number, name in enumerate(names):
                address = f"{name}.machines.example:1"
                own = directory / name / NODE_FILE
                own.write_text(
                    f'name = "{name}"\nbind = "127.0.0.1:0"\naddress = "{address}"\ndatabase = "in memory"\n'
                )
                machines.all.append(
                    Machine(machines, name, directory / name, number, disk_forgets=disks_forget)
                )
            for machine in machines.all:
                machine.older = older or {}
                await machine.begin()
            if enrol:
                await machines.enrol()
            yield machines
            for machine in machines.all:
                if machine.is_up:
                    await machine.stop()
            nursery.cancel_scope.cancel()
    assert machines.mx.violations == []
    assert_logs_are_one(machines.all)


def _read_by_this_machine() -> dict[str, int]:
    return versions_read_here() | dict(_OLDER.get())


def assert_logs_are_one(machines: Sequence[Machine]) -> None:
    """Record by record, as far as each of them goes."""
    longest: list[Record] = []
    for machine in machines:
        records = machine.records()
        for ours, theirs in zip(records, longest, strict=False):
            assert (ours.seq, ours.time_us, ours.chain) == (theirs.seq, theirs.time_us, theirs.chain)
        longest = max(longest, records, key=len)


def _first(group: BaseExceptionGroup[BaseException]) -> SpoolError | Refusal:
    """Where another machine has taken the lead, that is what counts."""
    deposed = group.subgroup(LogDeposedError)
    error: BaseException = deposed or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SpoolError | Refusal)
    return error


def seconds_since_epoch(time_us: int) -> float:
    return (time_us - EPOCH_US) / 1_000_000
