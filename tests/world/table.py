"""A database in memory, as a replicated log sees one: whatever can happen to a statement can be made to happen to it.

    database = FakeDatabase()
    table = database.table("anna")
    connection = await table.connect()

Each call of a connection, and each `connect`, is a statement; `database.statements` names those that there were. What
becomes of one is said beforehand, by its number (from 1), in `database.outcomes`, or by a function, `database.choose`.
What is not said is `Outcome.ANSWERED`. Some outcomes leave the servers damaged: `database.mend()` is the operator, who
comes some time.

It waits as a real one does, in trio's seconds: use a mock clock that jumps. Nothing here is random.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Final

import trio

from spool.replicated.table import (
    Connection,
    Head,
    Lease,
    Row,
    Table,
    TableError,
    UnfitTableError,
    UnknownOutcomeError,
)
from tests.world.servers import (
    FIRST_HEAD,
    LOCK_SECONDS,
    Answer,
    Change,
    Plant,
    Server,
    Servers,
    Statement,
    Tables,
    add,
    drop_rows,
    found,
    put_head,
    put_lease,
    put_node,
    remove_node,
)

CONNECT_SECONDS: Final = 3.0
#: Who has no answer for so long closes its connection.
ANSWER_SECONDS: Final = 10.0


class Outcome(Enum):
    """What becomes of a statement. What makes sense for each is in `OUTCOMES_OF`."""

    ANSWERED = auto()
    """As it should."""
    REFUSED = auto()
    """The server says no, for a reason of its own: nothing has happened."""
    CUT_BEFORE = auto()
    """The connection breaks, and the statement never arrives."""
    CUT_AFTER = auto()
    """It is carried out, and the connection breaks before the answer."""
    LATE = auto()
    """The connection breaks, and the statement arrives when the next one that changes the head has been carried out."""
    WARNED = auto()
    """No standby flushes, and somebody cancels the wait. The standbys stay behind until the operator comes."""
    WARNED_AND_LOST = auto()
    """The same, and then a standby without it is promoted."""
    HUNG = auto()
    """No standby flushes until the operator comes."""
    LOST = auto()
    """The primary dies before a standby has it, and a standby is promoted."""
    LOST_BUT_SHOWN = auto()
    """The same, and the old primary comes back, and shows it to whoever finds it first."""
    FAILED_OVER = auto()
    """The primary dies after one standby has it, before the answer; the most advanced standby is promoted."""
    EMPTIED_BEFORE = auto()
    """Somebody empties synchronous_standby_names, and it stays so until the operator comes."""
    EMPTIED_MEANWHILE = auto()
    """No standby flushes; somebody empties the setting; the wait ends, as if all were well."""
    VANISHED = auto()
    """The same, and then a standby without it is promoted."""


_CHANGES_HEAD: Final = tuple(Outcome)
_OTHER: Final = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.CUT_BEFORE, Outcome.LOST, Outcome.LOST_BUT_SHOWN)
#: Statement -> what may become of it.
OUTCOMES_OF: Final[Mapping[str, Sequence[Outcome]]] = {
    "connect": (*_OTHER, Outcome.EMPTIED_BEFORE),
    "take_head": _CHANGES_HEAD,
    "append": _CHANGES_HEAD,
    "head": _OTHER,
    "rows": _OTHER,
    "oldest_seq": _OTHER,
    "lease": _OTHER,
    "write_lease": (*_OTHER, Outcome.CUT_AFTER),
    "nodes": _OTHER,
    "write_node": (*_OTHER, Outcome.CUT_AFTER),
    "remove_node": (*_OTHER, Outcome.CUT_AFTER),
    "wait_for_news": _OTHER,
}


class FakeDatabase:
    """The servers, and what is to become of statements. `head`: as it was founded; None: it has no tables."""

    def __init__(self, *, head: Head | None = FIRST_HEAD, plants: frozenset[Plant] = frozenset()) -> None:
        self.servers = Servers(head=head, plants=plants)
        self.plants = plants
        self.statements: list[str] = []
        self.outcomes: dict[int, Outcome] = {}
        #: Asked for each statement of which `outcomes` says nothing: its number, its name, and the table it came from.
        self.choose: Callable[[int, str, FakeTable], Outcome] = lambda number, name, table: Outcome.ANSWERED
        #: So long each statement takes to arrive.
        self.latency_seconds = 0.0
        self._late: list[tuple[Server, Statement]] = []

    def table(self, name: str = "node") -> FakeTable:
        """The database as one machine reaches it."""
        return FakeTable(self, name)

    @property
    def shown(self) -> Tables:
        """What the primary shows."""
        return self.servers.shown

    def found(self, head: Head) -> None:
        """Make the tables."""
        self.servers.primary.write(found(head))

    def drop_rows(self, up_to_seq: int) -> None:
        """As partitions are dropped."""
        self.servers.primary.write(drop_rows(up_to_seq))

    def mend(self) -> None:
        """The operator comes: all is as it should be again. What was shown and then lost stays lost."""
        self.servers.mend()

    def next_outcome(self, name: str, table: FakeTable) -> Outcome:
        self.statements.append(name)
        number = len(self.statements)
        outcome = self.outcomes.get(number)
        if outcome is None:
            outcome = self.choose(number, name, table)
        assert outcome in OUTCOMES_OF[name], f"{outcome.name} makes no sense for {name}"
        return outcome

    def submit(self, server: Server, statement: Statement) -> None:
        server.submit(statement)
        late, self._late = self._late, []
        for to, waiting in late:
            if to.up:
                to.submit(waiting)

    def delay(self, server: Server, statement: Statement) -> None:
        self._late.append((server, statement))


class FakeTable(Table):
    """What one machine sees of the database. `name` says which machine."""

    def __init__(self, database: FakeDatabase, name: str) -> None:
        self.name = name
        self.database = database
        #: Names of servers in the order in which they are tried.
        self.hosts = [server.name for server in database.servers.all]
        #: Names of servers that this machine cannot reach.
        self.unreachable: set[str] = set()
        self._last_used: str | None = None
        self._skips_last = False
        self.connections: set[FakeConnection] = set()

    async def connect(self) -> Connection:
        database = self.database
        outcome = database.next_outcome("connect", self)
        await self._arrive()
        servers = database.servers
        if outcome is Outcome.REFUSED:
            raise TableError("no host answers")
        if outcome is Outcome.CUT_BEFORE:
            await trio.sleep(CONNECT_SECONDS)
            raise TableError(f"no host answers within {CONNECT_SECONDS} seconds")
        if outcome in (Outcome.LOST, Outcome.LOST_BUT_SHOWN):
            servers.fail_over(old_comes_back=outcome is Outcome.LOST_BUT_SHOWN)
        if outcome is Outcome.EMPTIED_BEFORE:
            servers.primary.empty_names()
        server = await self._find()
        self._last_used, self._skips_last = server.name, False
        if server.tables.head is None:
            raise UnfitTableError(f"{server.name} has no such tables: the database is not founded")
        if not server.is_promising:
            raise UnfitTableError(
                f"{server.name}: synchronous_standby_names is empty, and must name at least one standby"
            )
        return FakeConnection(self, server)

    def prefer_another_host(self) -> None:
        self._skips_last = True

    def cut_off(self) -> None:
        """This machine reaches no server any more, until `rejoin`."""
        self.unreachable = set(self.hosts)
        for connection in list(self.connections):
            connection.break_off()

    def rejoin(self) -> None:
        self.unreachable = set()

    async def _arrive(self) -> None:
        if self.database.latency_seconds:
            await trio.sleep(self.database.latency_seconds)
        else:
            await trio.lowlevel.checkpoint()

    async def _find(self) -> Server:
        hosts = self.hosts
        if self._skips_last and self._last_used is not None:
            after = hosts.index(self._last_used) + 1
            hosts = hosts[after:] + hosts[:after]
        for host in hosts:
            server = self.database.servers.named(host)
            if host in self.unreachable:
                await trio.sleep(CONNECT_SECONDS)
            elif server.up and server.primary is None:
                return server
        raise TableError("no host answers that could be written to")


class FakeConnection(Connection):
    def __init__(self, table: FakeTable, server: Server) -> None:
        self._table = table
        self._server = server
        self._database = table.database
        self._open = True
        self._busy = False
        self._broken = trio.Event()
        self._statement: Statement | None = None
        table.connections.add(self)
        server.on_death.append(self.break_off)

    @property
    def host(self) -> str:
        return self._server.name

    @property
    def is_open(self) -> bool:
        return self._open

    async def take_head(self, known: Head, holder: bytes) -> Head | None:
        taken: Head | None = None

        def make(tables: Tables) -> Change | None:
            nonlocal taken
            if tables.head is None or tables.head.epoch != known.epoch:
                return None
            taken = tables.head._replace(epoch=known.epoch + 1, holder=holder)
            return put_head(taken)

        return taken if await self._change_head("take_head", make) else None

    async def append(self, row: Row, holder: bytes) -> bool:
        fences = Plant.FENCES_BY_SEQUENCE_ALONE not in self._database.plants

        def make(tables: Tables) -> Change | None:
            head = tables.head
            if head is None or head.last_seq != row.first_seq - 1:
                return None
            if fences and (head.epoch, head.holder, head.chain) != (row.epoch, holder, row.previous_chain):
                return None
            return add(row)

        return await self._change_head("append", make)

    async def head(self) -> Head:
        async with self._call("head") as tables:
            assert tables.head is not None
            return tables.head

    async def rows(self, after_seq: int, up_to_seq: int, octets_max: int) -> Sequence[Row]:
        async with self._call("rows") as tables:
            found: list[Row] = []
            octets = 0
            for row in tables.rows_after(after_seq):
                octets += len(row.data)
                if row.last_seq > up_to_seq or (found and octets > octets_max):
                    break
                found.append(row)
            return found

    async def oldest_seq(self) -> int | None:
        async with self._call("oldest_seq") as tables:
            return tables.rows[0].first_seq if tables.rows else None

    async def lease(self) -> Lease | None:
        async with self._call("lease") as tables:
            return tables.lease

    async def write_lease(self, lease: Lease) -> bool:
        async with self._call("write_lease", writes=True) as tables:
            head = tables.head
            if head is None or head.holder != lease.holder or head.epoch > lease.epoch:
                return False
            self._server.write(put_lease(lease))
            return True

    async def nodes(self) -> Mapping[str, Mapping[str, object]]:
        async with self._call("nodes") as tables:
            return {name: json.loads(facts) for name, facts in sorted(tables.nodes.items())}

    async def write_node(self, name: str, facts: Mapping[str, object]) -> None:
        async with self._call("write_node", writes=True):
            self._server.write(put_node(name, facts))

    async def remove_node(self, name: str) -> bool:
        async with self._call("remove_node", writes=True) as tables:
            if name not in tables.nodes:
                return False
            self._server.write(remove_node(name))
            return True

    async def wait_for_news(self, seconds: float) -> None:
        async with self._call("wait_for_news"):
            with trio.move_on_after(seconds):
                await self._server.news.park()
            if self._broken.is_set():
                raise TableError(f"the connection to {self.host} broke")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self._close()

    def break_off(self) -> None:
        """What is under way is never answered."""
        self._broken.set()
        self._server.news.unpark_all()
        if self._statement is not None:
            # It goes on at the server, if that is alive, which tells nobody.
            self._statement.answered.set()

    def _close(self) -> None:
        self._open = False
        self._table.connections.discard(self)
        if self.break_off in self._server.on_death:
            self._server.on_death.remove(self.break_off)

    # What changes the head.

    async def _change_head(self, name: str, make: Callable[[Tables], Change | None]) -> bool:
        with self._at_work():
            outcome = await self._begin(name)
            statement = Statement(make, lock_until=trio.current_time() + LOCK_SECONDS)
            servers = self._database.servers
            # Only the one primary's can be meant: one that has come back by itself has no standbys.
            is_primary = self._server is servers.primary
            match outcome:
                case Outcome.REFUSED:
                    raise TableError(f"{self.host} refused it: the disk is full")
                case Outcome.CUT_BEFORE:
                    raise UnknownOutcomeError(f"the connection to {self.host} broke")
                case Outcome.LATE:
                    self._database.delay(self._server, statement)
                    raise UnknownOutcomeError(f"the connection to {self.host} broke")
                case Outcome.EMPTIED_BEFORE:
                    self._server.empty_names()
                case Outcome.FAILED_OVER if is_primary and len(self._server.standbys) > 1:
                    self._server.standbys[0].stall()
                case Outcome.ANSWERED | Outcome.CUT_AFTER | Outcome.FAILED_OVER:
                    pass
                case _ if is_primary:
                    servers.stall_standbys()
            self._statement = statement
            try:
                self._database.submit(self._server, statement)
                self._befall(outcome, is_primary)
                return await self._answer_of(statement)
            finally:
                self._statement = None

    def _befall(self, outcome: Outcome, is_primary: bool) -> None:
        """What happens to the server once it has the statement."""
        servers = self._database.servers
        match outcome:
            case Outcome.CUT_AFTER:
                raise UnknownOutcomeError(f"the connection to {self.host} broke")
            case Outcome.WARNED:
                self._server.cancel_wait()
            case Outcome.EMPTIED_MEANWHILE:
                self._server.empty_names()
            case Outcome.WARNED_AND_LOST if is_primary:
                self._server.cancel_wait()
                servers.fail_over()
            case Outcome.VANISHED if is_primary:
                self._server.empty_names()
                servers.fail_over()
            case Outcome.LOST | Outcome.FAILED_OVER if is_primary:
                servers.fail_over()
            case Outcome.LOST_BUT_SHOWN if is_primary:
                servers.fail_over(old_comes_back=True)
            case _:
                pass

    async def _answer_of(self, statement: Statement) -> bool:
        with trio.move_on_after(LOCK_SECONDS):
            await statement.answered.wait()
        if statement.answer is None and statement.change is None and not self._broken.is_set():
            raise TableError(f"{self.host}: lock_timeout: somebody else's change is under way")
        with trio.move_on_after(ANSWER_SECONDS - LOCK_SECONDS):
            await statement.answered.wait()
        if statement.answer is None or statement.answer is Answer.BROKEN:
            raise UnknownOutcomeError(f"{self.host} does not answer")
        if statement.answer is Answer.NONE:
            return False
        if statement.answer is Answer.WARNED and Plant.IGNORES_WARNINGS not in self._database.plants:
            raise UnknownOutcomeError(f"{self.host}: WARNING: canceling wait for synchronous replication")
        if Plant.ASKS_FOR_NO_WITNESS not in self._database.plants:
            await self._wait_for_witness(statement.lsn)
        return True

    async def _wait_for_witness(self, lsn: int) -> None:
        with trio.move_on_after(ANSWER_SECONDS):
            while self._server.up and not self._broken.is_set():
                if self._server.is_flushed(lsn):
                    return
                await self._server.news.park()
        raise UnknownOutcomeError(f"no standby of {self.host} has flushed it")

    # All others.

    @asynccontextmanager
    async def _call(self, name: str, *, writes: bool = False) -> AsyncIterator[Tables]:
        with self._at_work():
            outcome = await self._begin(name)
            error = UnknownOutcomeError if writes else TableError
            match outcome:
                case Outcome.REFUSED:
                    raise TableError(f"{self.host} refused it")
                case Outcome.CUT_BEFORE:
                    raise error(f"the connection to {self.host} broke")
                case Outcome.LOST | Outcome.LOST_BUT_SHOWN if self._server is self._database.servers.primary:
                    self._database.servers.fail_over(old_comes_back=outcome is Outcome.LOST_BUT_SHOWN)
                    raise error(f"the connection to {self.host} broke")
                case _:
                    pass
            yield self._server.tables
            if outcome is Outcome.CUT_AFTER:
                raise error(f"the connection to {self.host} broke")

    async def _begin(self, name: str) -> Outcome:
        if not self._open:
            raise TableError("the connection is closed")
        outcome = self._database.next_outcome(name, self._table)
        await self._table._arrive()
        if self._broken.is_set() or not self._server.up:
            raise TableError(f"the connection to {self.host} broke")
        return outcome

    def _at_work(self) -> _AtWork:
        return _AtWork(self)


class _AtWork:
    """One call at a time; what ends it, be it an error or a cancellation, closes the connection."""

    def __init__(self, connection: FakeConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        assert not self._connection._busy, "two calls at once on one connection"
        self._connection._busy = True

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._connection._busy = False
        if kind is not None:
            self._connection._close()
