"""Servers of a database in memory: a primary, its standbys, what each of them has flushed, and failovers.

As far as a replicated log can tell, they do what PostgreSQL does under `synchronous_standby_names = 'ANY 1 (…)'`:

- A change stands in the primary's WAL before anybody is answered. It shows there when a standby has flushed it; on a
  standby it shows at once, before whoever made it has an answer.
- Until then it holds the lock on the head. Others that want to change the head wait behind it, in order, and give up
  after LOCK_SECONDS. That a client has gone is not noticed by what it has sent.
- A wait that is cancelled is answered with a warning. One that ends since somebody empties the setting is answered with
  none. Both changes then show on this primary alone.
- After a failover the promoted standby has what it has flushed, and shows all of it. The old primary, when it comes
  back by itself, lets everybody write and shows what was lost.

Nothing here is random, and nothing happens by itself: a server does something when it is asked, or told.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import trio

from spool.record import CHAIN_START
from spool.replicated.table import HOLDER_OCTETS, Head, Lease, Row

LOCK_SECONDS = 5.0
NOBODY = bytes(HOLDER_OCTETS)


class Tables:
    """What one server shows."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.rows: list[Row] = []
        self.lease: Lease | None = None
        #: Each as JSON.
        self.nodes: dict[str, str] = {}
        #: Where each part of the rows begins, in sequence numbers.
        self.parts: list[int] = []

    def rows_after(self, seq: int) -> Sequence[Row]:
        return self.rows[bisect_right(self.rows, seq, key=lambda row: row.first_seq) :]


#: One record of a WAL: what it does to the tables.
Change = Callable[[Tables], None]


def found(head: Head) -> Change:
    def change(tables: Tables) -> None:
        tables.head = head
        tables.parts = [head.last_seq + 1]

    return change


def discard(tables: Tables) -> None:
    tables.head, tables.rows, tables.lease, tables.nodes, tables.parts = None, [], None, {}, []


def put_head(head: Head) -> Change:
    def change(tables: Tables) -> None:
        tables.head = head

    return change


def add(row: Row) -> Change:
    def change(tables: Tables) -> None:
        assert tables.head is not None
        tables.head = tables.head._replace(last_seq=row.last_seq, chain=row.chain)
        tables.rows.append(row)

    return change


def begin_part(tables: Tables) -> None:
    assert tables.head is not None
    if tables.parts[-1] <= tables.head.last_seq:
        tables.parts.append(tables.head.last_seq + 1)


def drop_rows(up_to_seq: int) -> Change:
    def change(tables: Tables) -> None:
        tables.rows = [row for row in tables.rows if row.last_seq > up_to_seq]
        while len(tables.parts) > 1 and tables.parts[1] - 1 <= up_to_seq:
            del tables.parts[0]

    return change


def put_lease(lease: Lease) -> Change:
    def change(tables: Tables) -> None:
        tables.lease = lease

    return change


def put_node(name: str, facts: Mapping[str, object]) -> Change:
    written = json.dumps(facts)

    def change(tables: Tables) -> None:
        tables.nodes[name] = written

    return change


def remove_node(name: str) -> Change:
    def change(tables: Tables) -> None:
        tables.nodes.pop(name, None)

    return change


class Answer(Enum):
    ONE = "one row was changed"
    NONE = "no row was changed"
    WARNED = "one row was changed, and there is a warning: the wait for replication was cancelled"
    BROKEN = "there is no answer, and never will be"


@dataclass(eq=False)
class Statement:
    """One that changes the head. It goes on at its server, whatever becomes of its client."""

    make: Callable[[Tables], Change | None]
    """What it does, of what it finds; None: nothing."""
    lock_until: float
    """In trio's seconds."""
    answer: Answer | None = None
    answered: trio.Event = field(default_factory=trio.Event)
    change: Change | None = None
    lsn: int = 0
    """Where its change ends in the WAL."""

    def end(self, answer: Answer) -> None:
        if self.answer is None:
            self.answer = answer
            self.answered.set()


class Plant(Enum):
    """Bugs, for tests that are to find them."""

    PROMOTES_THE_LEAST_ADVANCED = auto()
    FENCES_BY_SEQUENCE_ALONE = auto()
    ASKS_FOR_NO_WITNESS = auto()
    IGNORES_WARNINGS = auto()


class Server:
    """One machine's. What is in its WAL is flushed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        #: None: it is a primary.
        self.primary: Server | None = None
        self.standbys: list[Server] = []
        #: As a standby: it flushes nothing more for now.
        self.stalled = False
        #: synchronous_standby_names is not empty.
        self.is_synchronous = True
        self.wal: list[Change] = []
        self.tables = Tables()
        #: Something shows that did not, or something is flushed that was not.
        self.news = trio.lowlevel.ParkingLot()
        #: How often there was any.
        self.news_told = 0
        #: To be told when it dies.
        self.on_death: list[Callable[[], None]] = []
        self._waiting: deque[Statement] = deque()
        self._holding: Statement | None = None

    # As a primary.

    def submit(self, statement: Statement) -> None:
        """Carry it out as soon as the head is not locked."""
        self._waiting.append(statement)
        self._go_on()

    def write(self, change: Change) -> None:
        """What waits for no lock and no replication."""
        self.wal.append(change)
        change(self.tables)
        self._replicate()
        self._go_on()

    def is_flushed(self, lsn: int) -> bool:
        """By a standby as well."""
        return any(len(standby.wal) >= lsn for standby in self.standbys)

    def cancel_wait(self) -> None:
        """What `pg_cancel_backend` does, and a fast shutdown."""
        if self._holding is not None:
            self._show(Answer.WARNED)
            self._go_on()

    def empty_names(self) -> None:
        """Somebody sets synchronous_standby_names to nothing: who waits is released."""
        self.is_synchronous = False
        self._go_on()

    def restore_names(self) -> None:
        self.is_synchronous = True

    def _go_on(self) -> None:
        while True:
            statement = self._holding
            if statement is not None:
                if self.is_synchronous and not self.is_flushed(statement.lsn):
                    break
                self._show(Answer.ONE)
            elif self._waiting:
                self._begin(self._waiting.popleft())
            else:
                break
        self._tell()

    def _begin(self, statement: Statement) -> None:
        if trio.current_time() >= statement.lock_until:
            return  # lock_timeout; its client knows
        change = statement.make(self.tables) if self.is_synchronous else None
        if change is None:
            statement.end(Answer.NONE)
            return
        self.wal.append(change)
        statement.change = change
        statement.lsn = len(self.wal)
        self._holding = statement
        self._replicate()

    def _show(self, answer: Answer) -> None:
        statement, self._holding = self._holding, None
        assert statement is not None
        assert statement.change is not None
        statement.change(self.tables)
        statement.end(answer)

    def _replicate(self) -> None:
        for standby in self.standbys:
            standby.catch_up()

    # As a standby.

    def follow(self, primary: Server) -> None:
        """Be its standby from now on, rewound where need be."""
        if self.primary is not None and self in self.primary.standbys:
            self.primary.standbys.remove(self)
        common = 0
        while common < min(len(self.wal), len(primary.wal)) and self.wal[common] is primary.wal[common]:
            common += 1
        self._replay(self.wal[:common])
        self.primary = primary
        self.is_synchronous = True
        self.up = True
        primary.standbys.append(self)
        self.catch_up()
        primary._go_on()

    def catch_up(self) -> None:
        """Flush what the primary has, unless it is stalled."""
        if self.primary is None or self.stalled:
            return
        for change in self.primary.wal[len(self.wal) :]:
            self.wal.append(change)
            change(self.tables)
        self._tell()

    def stall(self) -> None:
        self.stalled = True

    def go_on(self) -> None:
        self.stalled = False
        self.catch_up()
        if self.primary is not None:
            self.primary._go_on()

    def promote(self) -> None:
        assert self.primary is not None
        if self in self.primary.standbys:
            self.primary.standbys.remove(self)
        self.primary = None
        self.stalled = False

    # As either.

    def kill(self) -> None:
        """It dies at once. Its WAL stays."""
        self.up = False
        statements = [*self._waiting] + ([] if self._holding is None else [self._holding])
        self._waiting.clear()
        self._holding = None
        if self.primary is not None and self in self.primary.standbys:
            self.primary.standbys.remove(self)
        for statement in statements:
            statement.end(Answer.BROKEN)
        told, self.on_death = self.on_death, []
        for tell in told:
            tell()
        self._tell()

    def restart(self) -> None:
        """It comes back as it was: an old primary as one, which shows all that its WAL has."""
        self._replay(self.wal)
        self.up = True
        if self.primary is None:
            self._replicate()
        else:
            self.follow(self.primary)

    def _tell(self) -> None:
        self.news_told += 1
        self.news.unpark_all()

    def _replay(self, wal: list[Change]) -> None:
        self.wal = list(wal)
        self.tables = Tables()
        for change in self.wal:
            change(self.tables)


class Servers:
    """One primary and two standbys, and who makes a standby the primary."""

    def __init__(self, *, head: Head | None, plants: frozenset[Plant] = frozenset()) -> None:
        self.plants = plants
        self.all = [Server(name) for name in ("a", "b", "c")]
        self.primary = self.all[0]
        for standby in self.all[1:]:
            standby.follow(self.primary)
        if head is not None:
            self.primary.write(found(head))

    @property
    def shown(self) -> Tables:
        return self.primary.tables

    def named(self, name: str) -> Server:
        return next(server for server in self.all if server.name == name)

    def stall_standbys(self) -> None:
        for standby in self.primary.standbys:
            standby.stall()

    def go_on(self) -> None:
        for standby in list(self.primary.standbys):
            standby.go_on()

    def fail_over(self, *, old_comes_back: bool = False) -> Server:
        """The primary dies, and the most advanced of its standbys takes its place; the others follow that one. The old
        primary stays down, or comes back at once, as a primary that nobody follows. Where it has no standby, it is
        started again, as it was."""
        old = self.primary
        candidates = [server for server in self.all if server.primary is old and server.up]
        if not candidates:
            old.kill()
            old.restart()
            return old
        choose = min if Plant.PROMOTES_THE_LEAST_ADVANCED in self.plants else max
        promoted = choose(candidates, key=lambda server: len(server.wal))
        old.kill()
        promoted.promote()
        self.primary = promoted
        for server in candidates:
            if server is not promoted:
                server.stalled = False
                server.follow(promoted)
        if old_comes_back:
            old.restart()
        return promoted

    def part(self) -> Server:
        """The primary is cut off from its standbys, and has not noticed it: to it they are there, and flush nothing
        more. One of them takes its place, and the other follows that one."""
        old, (promoted, *others) = self.primary, self.primary.standbys[:]
        promoted.promote()
        self.primary = promoted
        for server in others:
            server.follow(promoted)
        gone = Server(promoted.name)
        gone.wal, gone.primary, gone.stalled = list(old.wal), old, True
        old.standbys.append(gone)
        return old

    def mend(self) -> None:
        """As a good operator leaves it: the settings are right, all are up, and follow the one primary."""
        self.primary.restore_names()
        if not self.primary.up:
            self.primary.restart()
        for server in self.all:
            if server is self.primary:
                continue
            server.stalled = False
            if server.up and server.primary is self.primary:
                server.go_on()
                continue
            if server.up:
                server.kill()
            server.follow(self.primary)


#: The log has no record yet, and nobody holds the head.
FIRST_HEAD = Head(epoch=1, holder=NOBODY, last_seq=0, chain=CHAIN_START)
