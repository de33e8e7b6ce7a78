"""One of the machines that have a log together: a small process that follows and leads, on a disk that forgets.

    machine = LogMachine("anna", database, seed=7, found=breaches)
    end = await machine.live()           # one life: until it dies, is deposed, gives up, or is asked to stop

It does what a relay's node does with its log, and nothing else: it follows (`spool.replicated.following`) until the
lease stands still, takes the head, leads (`spool.replicated.leading`), renews the lease and says what is witnessed,
syncs its own file each second, and says how far that is. The one that leads drops the rows that all have.

All that it asks of the disk and of the database goes through one gate. `freeze` shuts it, as SIGSTOP does: what was
sent is carried out, answers are not looked at, and all goes on at `thaw` as if nothing had been. `die` is a death at
that very moment: nothing that the dying process does reaches the disk or the database any more.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, cast

import trio

from relay.nodes.facts import Facts, from_row, invited, may_go_through, to_row
from spool.errors import LogDeposedError, LogPoisonedError
from spool.log import Log
from spool.record import Record
from spool.replicated.following import REFUSED, Following, Seen, StrangeLeaseError
from spool.replicated.leading import Replicated, take_over
from spool.replicated.rows import DamagedRowError
from spool.replicated.table import (
    HOLDER_OCTETS,
    Connection,
    Head,
    Lease,
    Table,
    TableError,
    UnknownOutcomeError,
)
from tests.world.mortal_disk import MortalDisk
from tests.world.servers import put_node
from tests.world.spool import DIRECTORY, open_fake
from tests.world.table import FakeDatabase, FakeTable

Death = Literal["kill", "power"]

RENEWAL_SECONDS: Final = 0.5
STALE_SECONDS: Final = 3.0
SYNC_SECONDS: Final = 1.0
#: A process that is asked to stop waits so long for what is under way.
STOP_SECONDS: Final = 5.0
TAIL_SECONDS: Final = 20.0
TAIL_HOURS: Final = 24


class DeadError(Exception):
    """What a dead process asks for, it does not get."""


class _Wire:
    """A connection of a machine that may stand still, or be dead."""

    def __init__(self, inner: Connection, gate: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._inner, name)
        if not callable(asked):
            return asked

        async def through(*arguments: Any) -> Any:
            await self._gate()
            try:
                return await asked(*arguments)
            finally:
                await self._gate()

        return through


class WiredTable:
    """The database, as a machine reaches it that may stand still, or be dead."""

    def __init__(self, inner: FakeTable, gate: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._gate = gate

    async def connect(self) -> Connection:
        await self._gate()
        return cast(Connection, _Wire(await self._inner.connect(), self._gate))

    def prefer_another_host(self) -> None:
        self._inner.prefer_another_host()


class LogMachine:
    """See the module. `found` is where it says what must not be."""

    def __init__(self, name: str, database: FakeDatabase, *, seed: int, found: list[str]) -> None:
        self.name = name
        self.disk = MortalDisk()
        #: How this machine reaches the database, over all lives.
        self.wire = database.table(name)
        self.lives = 0
        self.is_dead = False
        self.leads = False
        self.is_up = False
        self._death: Death = "kill"
        #: While a life is past its start.
        self.log: Log | None = None
        #: All that its log has ever had: sequence number -> chain value.
        self.applied: dict[int, bytes] = {}
        self.clock_offset_us = 0
        self.troubles: Counter[str] = Counter()
        #: It leads as soon as it can, and asks no lease.
        self.usurps = trio.Event()
        self._database = database
        self._found = found
        self._dice = random.Random(f"machine {name} {seed}")
        self._fate = random.Random(f"fate {name} {seed}")
        self._thawed: trio.Event | None = None
        self._stopping = trio.Event()
        self._life: trio.CancelScope
        self._replicated: Replicated | None = None
        self._wires: Table
        self._seen: Seen | None = None
        self._lease: tuple[int, int] | None = None
        self._lease_moved_at = 0.0

    # What happens to it.

    def freeze(self) -> None:
        if self._thawed is None:
            self._thawed = trio.Event()

    def thaw(self) -> None:
        if self._thawed is not None:
            self._thawed.set()
            self._thawed = None

    def die(self, death: Death) -> None:
        """Without effect where it is dead or down."""
        if self.is_dead or not self.is_up:
            return
        self.is_dead, self.leads, self._death = True, False, death
        self.disk.is_dead = True
        for session in list(self.wire.sessions):
            session.break_off()
        if self._replicated is not None:
            self._replicated.give_up()
        self.thaw()
        self._life.cancel()

    def stop(self) -> None:
        """In order."""
        self._stopping.set()

    async def live(self) -> str:
        """One life. Returns how it ended."""
        self.lives += 1
        self.is_up, self.is_dead, self.leads, self.log = True, False, False, None
        self._stopping, self.usurps, self._replicated = trio.Event(), trio.Event(), None
        self._seen, self._lease = None, None

        async def gate() -> None:
            while self._thawed is not None:
                await self._thawed.wait()
            if self.is_dead:
                raise DeadError

        async def offload(function: Callable[..., Any], *arguments: Any) -> Any:
            await gate()
            return function(*arguments)

        self._wires = WiredTable(self.wire, gate)
        end = "stopped"
        try:
            with trio.CancelScope() as self._life:
                async with open_fake(
                    self.disk,
                    follows=True,
                    on_durable=self._see,
                    clock=self._clock,
                    new_salt=lambda: self._dice.randbytes(16),
                    offload=offload,
                ) as log:
                    self.log = log
                    self._follow_what_is_there(log)
                    try:
                        await self._serve(log)
                    finally:
                        await self._let_go(log)
        except Exception as error:  # noqa: BLE001  what was no end for it is said
            end = self._tell(error)
        except BaseExceptionGroup as error:
            # The world ends while it is about to: what it says is told all the same.
            cancelled, others = error.split(trio.Cancelled)
            if others is not None:
                end = self._tell(others)
            if cancelled is not None:
                raise cancelled from None
        finally:
            self.is_up = self.leads = False
            self.log = None
        if self.is_dead:
            end = self._death
            self.disk = self._found_again()
        else:
            self.disk.restart()
        return end

    def _tell(self, error: Exception) -> str:
        errors = _of(error)
        if self.is_dead:
            return "died"
        if any(isinstance(one, LogDeposedError) for one in errors):
            errors = [one for one in errors if not isinstance(one, LogPoisonedError)]
            end = "deposed"
        else:
            # Whoever asks the log after that is told that it is poisoned, and not why.
            errors = [
                one for one in errors if not isinstance(one, LogPoisonedError) or one.__cause__ is not None
            ]
            errors = [one for one in errors if not isinstance(one.__cause__, UnknownOutcomeError)]
            end = "undecided"
        if not errors:
            return end
        self._found.append(f"{self.name} ended with {errors!r}")
        return "failed"

    def _found_again(self) -> MortalDisk:
        disk = self.disk
        if self._death == "power":
            share = self._fate.choice((0.0, 0.2, 0.5, 0.8, 1.0))
            pending = range(len(disk.pending))
            return cast(
                MortalDisk, disk.crash(frozenset(one for one in pending if self._fate.random() < share))
            )
        disk.restart()
        disk.is_dead = False
        return disk

    # What it does.

    async def _serve(self, log: Log) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sync_each_second, log)
            nursery.start_soon(self._take_part, log)
            await self._stopping.wait()
            nursery.cancel_scope.cancel()

    async def _let_go(self, log: Log) -> None:
        """The log's writer must not wait for a database for ever."""
        if self._replicated is not None:
            patience = 0.0 if self.is_dead else STOP_SECONDS
            with trio.CancelScope(shield=True), trio.move_on_after(patience), suppress(LogPoisonedError):
                await log.settle()
            self._replicated.give_up()

    async def _take_part(self, log: Log) -> None:
        holder = self._dice.randbytes(HOLDER_OCTETS)
        following = Following(
            self._wires, log, on_level=self._look, on_trouble=self._hear, stale_seconds=STALE_SECONDS / 2
        )
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(following.run)
                known = await self._wait_for_its_turn()
                nursery.cancel_scope.cancel()
            try:
                taken = await take_over(self._wires, known, holder)
                if taken is not None:
                    connection, head = taken
                    await following.catch_up(connection, head)
                    break
            except (TableError, DamagedRowError) as error:
                self._note(str(error))
            self._lease_moved_at = trio.current_time()
            self._wires.prefer_another_host()
        self._replicated = Replicated(
            self._wires, connection, head, write_own=log.write_unsynced, on_trouble=self._note
        )
        log.lead(self._replicated)
        self.leads = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew, self._replicated)
            nursery.start_soon(self._drop_rows)

    async def _wait_for_its_turn(self) -> Head:
        """The head, as it was when it was decided to take it."""
        while True:
            with trio.move_on_after(RENEWAL_SECONDS):
                await self.usurps.wait()
            if self._seen is None:
                await trio.sleep(RENEWAL_SECONDS)
                continue
            is_stale = trio.current_time() - self._lease_moved_at > STALE_SECONDS
            if self.usurps.is_set() or is_stale:
                self.usurps = trio.Event()
                return self._seen.head

    def _look(self, seen: Seen) -> None:
        lease = (0, 0) if seen.lease is None else (seen.lease.epoch, seen.lease.counter)
        if self._seen is None or lease != self._lease or seen.at - self._seen.at > STALE_SECONDS:
            self._lease, self._lease_moved_at = lease, trio.current_time() + self._dice.uniform(0, 1)
        self._seen = seen

    async def _renew(self, replicated: Replicated) -> None:
        connection: Connection | None = None
        counter = 0
        while True:
            witnessed = replicated.witnessed
            counter += 1
            lease = Lease(
                witnessed.epoch, replicated.holder, self.name, counter, witnessed.seq, witnessed.chain
            )
            try:
                connection = connection or await self._wires.connect()
                if not await connection.write_lease(lease):
                    self._check_holds(await connection.head(), lease)
            except TableError as error:
                self._note(str(error))
                connection = None
            await trio.sleep(RENEWAL_SECONDS)

    def _check_holds(self, head: Head, lease: Lease) -> None:
        if head.epoch > lease.epoch and head.holder != lease.holder:
            raise LogDeposedError(f"{self.name} cannot renew its lease: another machine has the head")

    async def _sync_each_second(self, log: Log) -> None:
        connection: Connection | None = None
        while True:
            await trio.sleep(SYNC_SECONDS)
            synced_seq = await log.sync()
            try:
                connection = connection or await self._wires.connect()
                await connection.write_node(self.name, to_row(self._facts(log, synced_seq)))
            except TableError:
                connection = None

    def _facts(self, log: Log, synced_seq: int) -> Facts:
        now_us = self._database.now_us()
        return Facts(
            name=self.name,
            version="1",
            events={},
            address=self.name,
            configuration="",
            peppers={},
            written_at=now_us,
            began_at=now_us,
            applied_seq=log.last_seq,
            synced_seq=synced_seq,
        )

    async def _drop_rows(self) -> None:
        while True:
            await trio.sleep(TAIL_SECONDS)
            try:
                connection = await self._wires.connect()
                rows = await connection.nodes()
                await connection.close()
                nodes = [from_row(name, row) for name, row in rows.items()]
                seq = may_go_through(nodes, self._database.now_us(), TAIL_HOURS)
                keeping = await self.wire.keep()
                await keeping.begin_part()
                self.troubles["parts of the table dropped"] += await keeping.drop_through(seq)
                await keeping.close()
            except TableError:
                pass

    # What is seen of it.

    def _clock(self) -> int:
        return self._database.now_us() + self.clock_offset_us

    def _hear(self, trouble: Exception | None) -> None:
        """Nobody changes rows here, so none is ever to be refused, but where an old primary shows some."""
        servers = self._database.servers
        is_there_an_old_one = any(
            server.up and server.primary is None for server in servers.all if server is not servers.primary
        )
        if isinstance(trouble, (*REFUSED, StrangeLeaseError)) and not is_there_an_old_one:
            self._found.append(f"{self.name} refused what is in the database: {trouble}")
        self._note(trouble)

    def _note(self, trouble: Exception | None) -> None:
        if trouble is not None:
            self.troubles["troubles told"] += 1

    def _follow_what_is_there(self, log: Log) -> None:
        """After a loss of power its log may be shorter than it was; what is there is what had been there."""
        if log.last_seq:
            self._see([log.get(log.last_seq)])

    def _see(self, records: Sequence[Record]) -> None:
        if self.is_dead:
            return
        for record in records:
            before = self.applied.setdefault(record.seq, record.chain)
            if before != record.chain:
                self._found.append(f"{self.name} has had two different records {record.seq}")


def found_nodes(database: FakeDatabase, names: Sequence[str]) -> None:
    """Whose disks are waited for, from the beginning."""
    for name in names:
        row = to_row(invited(name)) | {"written_at": database.now_us()}
        database.servers.primary.write(put_node(name, row))


def log_of(machine: LogMachine) -> dict[str, bytes]:
    """Every segment, by name."""
    names = [name for name in machine.disk.list_names(DIRECTORY) if name.endswith(".seg")]
    return {name: bytes(machine.disk.file(DIRECTORY / name)) for name in names}


def _of(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [one for inner in error.exceptions for one in _of(inner)]
    return [error]
