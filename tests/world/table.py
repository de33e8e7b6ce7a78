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
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from spool.replicated.table import (
    Connection,
    Head,
    Keeping,
    Lease,
    NoTablesError,
    NotAsExpectedError,
    Row,
    Table,
    TableError,
    UnfitTableError,
)
from tests.world.outcomes import OUTCOMES_OF, Outcome
from tests.world.servers import (
    FIRST_HEAD,
    Change,
    Plant,
    Server,
    Servers,
    Statement,
    Tables,
    add,
    begin_part,
    discard,
    drop_rows,
    found,
    put_head,
    put_lease,
    put_node,
    remove_node,
)
from tests.world.session import Session

CONNECT_SECONDS: Final = 3.0
#: Of the servers' clocks, when trio's clock says zero.
DATABASE_EPOCH_US: Final = 1_700_000_000_000_000


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
        #: What the servers' clocks say.
        self.now_us: Callable[[], int] = lambda: DATABASE_EPOCH_US + round(trio.current_time() * 1e6)
        #: What its servers say of themselves that is doubtful.
        self.doubts: list[str] = []
        self._late: list[tuple[Server, Statement]] = []

    def table(self, name: str = "node") -> FakeTable:
        """The database as one machine reaches it."""
        return FakeTable(self, name)

    def copy(self) -> FakeDatabase:
        """One with all that this one's primary has, in servers that are all well."""
        database = FakeDatabase(head=None)
        for change in self.servers.primary.wal:
            database.servers.primary.write(change)
        return database

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
        self._first: str | None = None
        self.sessions: set[Session] = set()

    async def connect(self) -> Connection:
        server = await self._reach("connect")
        if server.tables.head is None:
            raise NoTablesError(f"{server.name}: there are no tables of a replicated log in this database")
        return FakeConnection(self, server)

    async def keep(self) -> Keeping:
        return FakeKeeping(self, await self._reach("keep"))

    async def _reach(self, name: str) -> Server:
        database = self.database
        outcome = database.next_outcome(name, self)
        await self.arrive()
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
        self._last_used = self._first = server.name
        if not server.is_synchronous:
            raise UnfitTableError(
                f"{server.name}: synchronous_standby_names is empty, and must name at least one standby"
            )
        return server

    def prefer_another_host(self) -> None:
        if self._last_used is not None:
            self._first = self.hosts[(self.hosts.index(self._last_used) + 1) % len(self.hosts)]

    async def find_doubts(self) -> Sequence[str]:
        """Its servers have no settings: what the test says of them."""
        await trio.lowlevel.checkpoint()
        return self.database.doubts

    def reach_only(self, hosts: Sequence[str]) -> None:
        """From now on this machine tries these alone, and has lost its connections to others."""
        self.hosts, self._first, self._last_used = list(hosts), None, None
        for session in list(self.sessions):
            if session.host not in hosts:
                session.break_off()

    def cut_off(self) -> None:
        """This machine reaches no server any more, until `rejoin`."""
        self.unreachable = set(self.hosts)
        for session in list(self.sessions):
            session.break_off()

    def rejoin(self) -> None:
        self.unreachable = set()

    async def arrive(self) -> None:
        if self.database.latency_seconds:
            await trio.sleep(self.database.latency_seconds)
        else:
            await trio.lowlevel.checkpoint()

    async def _find(self) -> Server:
        first = 0 if self._first is None else self.hosts.index(self._first)
        for host in self.hosts[first:] + self.hosts[:first]:
            server = self.database.servers.named(host)
            if host in self.unreachable:
                await trio.sleep(CONNECT_SECONDS)
            elif server.up and server.primary is None:
                return server
        raise TableError("no host answers that could be written to")


def _value(lease: Lease) -> tuple[int, bytes, int]:
    return lease.epoch, lease.holder, lease.counter


class FakeConnection(Session, Connection):
    async def take_head(self, known: Head, holder: bytes) -> Head | None:
        taken: Head | None = None

        def make(tables: Tables) -> Change | None:
            nonlocal taken
            if tables.head is None or tables.head.epoch != known.epoch:
                return None
            taken = tables.head._replace(epoch=known.epoch + 1, holder=holder)
            return put_head(taken)

        return taken if await self._commit("take_head", make) else None

    async def append(self, row: Row, holder: bytes) -> bool:
        fences = Plant.FENCES_BY_SEQUENCE_ALONE not in self._database.plants

        def make(tables: Tables) -> Change | None:
            head = tables.head
            if head is None or head.last_seq != row.first_seq - 1:
                return None
            if fences and (head.epoch, head.holder, head.chain) != (row.epoch, holder, row.previous_chain):
                return None
            return add(row)

        if not await self._commit("append", make):
            return False
        lease = self._server.tables.lease
        if lease is not None and lease.holder == holder and lease.witnessed_seq < row.last_seq:
            lease = lease._replace(witnessed_seq=row.last_seq, witnessed_chain=row.chain)
            self._server.write(put_lease(lease))
        return True

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
        def may_replace(before: Lease | None) -> bool:
            return before is None or before.epoch <= lease.epoch or before.holder == lease.holder

        return await self._put_lease("write_lease", lease, may_replace)

    async def take_lease(self, lease: Lease, known: Lease | None) -> bool:
        def may_replace(before: Lease | None) -> bool:
            return before is None or (known is not None and _value(before) == _value(known))

        return await self._put_lease("take_lease", lease, may_replace)

    async def _put_lease(self, name: str, lease: Lease, may_replace: Callable[[Lease | None], bool]) -> bool:
        async with self._call(name, writes=True) as tables:
            head, before = tables.head, tables.lease
            if head is None or (head.epoch, head.holder) != (lease.epoch, lease.holder):
                return False
            if head.last_seq < lease.witnessed_seq or not self._server.standbys or not may_replace(before):
                return False
            if (
                before is not None
                and before.holder == lease.holder
                and lease.witnessed_seq < before.witnessed_seq <= head.last_seq
            ):
                lease = lease._replace(
                    witnessed_seq=before.witnessed_seq, witnessed_chain=before.witnessed_chain
                )
            self._server.write(put_lease(lease))
            return True

    async def has_witness(self, seconds: float) -> bool:
        async with self._call("has_witness"):
            server, lsn = self._server, len(self._server.wal)
            with trio.move_on_after(seconds):
                while not server.is_flushed(lsn):
                    await server.news.park()
            if self._broken.is_set():
                raise TableError(f"the connection to {self.host} broke")
            return server.is_flushed(lsn)

    async def nodes(self) -> Mapping[str, Mapping[str, object]]:
        async with self._call("nodes") as tables:
            return {name: json.loads(facts) for name, facts in sorted(tables.nodes.items())}

    async def write_node(self, name: str, facts: Mapping[str, object]) -> None:
        async with self._call("write_node", writes=True):
            self._server.write(put_node(name, facts))

    async def remove_node(self, name: str) -> bool:
        def make(tables: Tables) -> Change | None:
            return remove_node(name) if name in tables.nodes else None

        if await self._commit("remove_node", make):
            return True
        with self._at_work():
            await self._wait_for_witness(len(self._server.wal))
        return False

    async def wait_for_news(self, seconds: float) -> None:
        async with self._call("wait_for_news"):
            server = self._server
            if self._heard == server.news_told:
                with trio.move_on_after(seconds):
                    await server.news.park()
            self._heard = server.news_told
            if self._broken.is_set():
                raise TableError(f"the connection to {self.host} broke")

    async def time_us(self) -> int:
        async with self._call("time_us"):
            return self._database.now_us()


class FakeKeeping(Session, Keeping):
    async def head(self) -> Head | None:
        async with self._call("keeping.head") as tables:
            return tables.head

    async def found(self, head: Head) -> None:
        def make(tables: Tables) -> Change | None:
            return found(head) if tables.head is None else None

        await self._do("found", make)

    async def discard(self, head: Head) -> None:
        def make(tables: Tables) -> Change | None:
            return discard if tables.head == head else None

        await self._do("discard", make)

    async def begin_part(self) -> None:
        async with self._call("begin_part", writes=True):
            self._server.write(begin_part)

    async def drop_through(self, seq: int) -> int:
        async with self._call("drop_through", writes=True) as tables:
            parts = len(tables.parts)
            while len(tables.parts) > 1 and tables.parts[1] - 1 <= seq:
                self._server.write(drop_rows(tables.parts[1] - 1))
            return parts - len(tables.parts)

    async def octets(self) -> int:
        async with self._call("octets") as tables:
            return sum(len(row.data) + len(row.beside) for row in tables.rows)

    async def _do(self, name: str, make: Callable[[Tables], Change | None]) -> None:
        if not await self._commit(name, make):
            self._close()
            raise NotAsExpectedError(f"{self.host}: the tables are not those that were expected")
