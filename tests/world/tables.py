"""Databases that a replicated log's table can be in, with what can happen to them: the one in memory, and PostgreSQL.

One suite runs over both (`tests/spool/replicated/test_table.py`), so that what is shown with the one in memory holds.
What happens to servers is the same by name; it blocks, and it has happened when it returns.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Protocol

import trio
from psycopg.conninfo import conninfo_to_dict
from trio.testing import MockClock, wait_all_tasks_blocked

from spool.record import CHAIN_START
from spool.replicated.connection import Patience, Session
from spool.replicated.postgres import PostgresTable
from spool.replicated.table import HOLDER_OCTETS, Connection, Head, Row, Table, TableError
from tests.world.postgres import SYNCHRONOUS, Servers
from tests.world.process import wait_until
from tests.world.table import FakeDatabase

PATIENCE: Final = Patience(connect_seconds=60.0, answer_seconds=60.0, witness_seconds=60.0)
#: For tests in which somebody never answers. Longer than a server waits for a lock.
LITTLE_PATIENCE: Final = Patience(connect_seconds=8.0, answer_seconds=9.0, witness_seconds=4.0)
#: Nothing takes nearly as long. What hangs ends with it.
SECONDS_MAX: Final = 240.0


class Database(Protocol):
    """A new one, without tables, in servers of which one is the primary."""

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any: ...

    def table(self) -> Table:
        """As one more machine reaches it."""

    async def wait_held(self) -> None:
        """Until one change of the head waits for standbys."""

    def stall_standbys(self) -> None:
        """They flush nothing until `go_on`."""

    def go_on(self) -> None: ...

    def cancel_wait(self) -> None:
        """A superuser cancels the change that waits for standbys."""

    def empty_names(self) -> None:
        """Somebody sets synchronous_standby_names to nothing."""

    def restore_names(self) -> None: ...

    def restart_primary(self) -> None:
        """It is killed, and started again as it was."""

    def fail_over(self) -> None:
        """The primary dies, and the standby that has most is promoted."""

    def bring_old_back(self) -> None:
        """The old primary, as it was when it died: whoever finds it may write."""


class DatabaseInMemory:
    def __init__(self) -> None:
        self._database = FakeDatabase(head=None)
        self._servers = self._database.servers
        self._old = self._servers.primary

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        return trio.run(main, clock=MockClock(autojump_threshold=0))

    def table(self) -> Table:
        return self._database.table()

    async def wait_held(self) -> None:
        await wait_all_tasks_blocked()

    def stall_standbys(self) -> None:
        self._servers.stall_standbys()

    def go_on(self) -> None:
        self._servers.go_on()

    def cancel_wait(self) -> None:
        self._servers.primary.cancel_wait()

    def empty_names(self) -> None:
        self._servers.primary.empty_names()

    def restore_names(self) -> None:
        self._servers.primary.restore_names()

    def restart_primary(self) -> None:
        self._servers.primary.kill()
        self._servers.primary.restart()

    def fail_over(self) -> None:
        self._old = self._servers.primary
        self._servers.fail_over()

    def bring_old_back(self) -> None:
        self._old.restart()


class DatabaseInPostgres:
    """In servers that others use before and after it: whoever harmed them calls `Servers.mend`."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._old = servers.primary
        #: Of those who connect from now on.
        self.patience = PATIENCE
        self._stalled: list[int] = []
        self.conninfo = servers.make_database()

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        async def in_time() -> Any:
            with trio.fail_after(SECONDS_MAX):
                return await main()

        return trio.run(in_time)

    def table(self, name: str = "node") -> Table:
        """Whoever it is, they see the same."""
        return PostgresTable(self.conninfo, patience=self.patience)

    @property
    def name(self) -> str:
        return str(conninfo_to_dict(self.conninfo)["dbname"])

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Session]:
        """What a connection asks by, for what no connection does."""
        keeping = await PostgresTable(self.conninfo, patience=PATIENCE).keep()
        yield keeping._session
        await keeping.close()

    async def wait_held(self) -> None:
        # Whoever is to send it has begun to.
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(
            partial(wait_until, lambda: bool(self._waiting()), lambda: "a commit waits for standbys")
        )

    def _waiting(self) -> list[Any]:
        return self._servers.primary.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = 'relay'"
        )

    def stall_standbys(self) -> None:
        # Those who send to them: what they have been sent they flush when they go on, though the primary is dead then.
        self._stalled = self._servers.senders()
        for sender in self._stalled:
            os.kill(sender, signal.SIGSTOP)

    def go_on(self) -> None:
        for sender in self._stalled:
            with suppress(ProcessLookupError):  # it died with the primary
                os.kill(sender, signal.SIGCONT)

    def cancel_wait(self) -> None:
        ((pid,),) = self._waiting()
        self._servers.primary.execute(f"SELECT pg_cancel_backend({pid})")

    def empty_names(self) -> None:
        self._servers.primary.set("synchronous_standby_names", "")

    def restore_names(self) -> None:
        self._servers.primary.set("synchronous_standby_names", SYNCHRONOUS)
        self._servers.wait_replicating()

    def restart_primary(self) -> None:
        self._servers.primary.kill()
        self._servers.primary.start()

    def fail_over(self) -> None:
        self._old = self._servers.primary
        self._servers.fail_over()

    def bring_old_back(self) -> None:
        self._old.start()


# ------------------------------------------------------------------------------------------------ who uses it

HOLDER, OTHER = b"h" * HOLDER_OCTETS, b"o" * HOLDER_OCTETS
FIRST = Head(epoch=1, holder=bytes(HOLDER_OCTETS), last_seq=0, chain=CHAIN_START)

Main = Callable[[Table, Connection, Head], Awaitable[None]]


def lead(database: Database, main: Main) -> None:
    """`main` of whoever has founded it and taken the head."""

    async def found_and_take() -> None:
        table = database.table()
        await found(table)
        connection = await table.connect()
        head = await connection.take_head(FIRST, HOLDER)
        assert head is not None
        try:
            await main(table, connection, head)
        finally:
            await connection.close()

    database.run(found_and_take)


async def found(table: Table, head: Head = FIRST) -> None:
    keeping = await table.keep()
    await keeping.found(head)
    await keeping.close()


def behind(head: Head, octets: bytes = b"data", *, records: int = 1, beside: bytes = b"") -> tuple[Row, Head]:
    """A row behind it, and what the head is then."""
    last = head.last_seq + records
    chain = last.to_bytes(32)
    row = Row(head.last_seq + 1, last, head.epoch, head.chain, chain, octets, beside)
    return row, head._replace(last_seq=last, chain=chain)


async def take_and_close(table: Table, known: Head, holder: bytes = OTHER) -> Head | None:
    connection = await table.connect()
    try:
        return await connection.take_head(known, holder)
    finally:
        await connection.close()


async def fails(call: Awaitable[Any], outcome: list[Exception]) -> None:
    """In the background: what it fails with."""
    try:
        await call
    except TableError as error:
        outcome.append(error)
