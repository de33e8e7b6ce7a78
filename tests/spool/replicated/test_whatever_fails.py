"""Somebody appends to PostgreSQL all the time, and keeps what was answered, while it is broken again and again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio

from spool.replicated.table import Connection, Head, Row, Table, TableError
from tests.world.postgres import Servers
from tests.world.tables import FIRST, HOLDER, LITTLE_PATIENCE, DatabaseInPostgres, behind, found

#: Of all failures.
ROUNDS = 1
#: Between two failures, so many rows are to be answered.
ROWS = 30


class Appending:
    """What a leader does, without a log: it goes on until it knows what has become of each row."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.answered: list[Row] = []
        self.head = FIRST
        self._news = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        while True:
            try:
                connection = await self._table.connect()
                try:
                    await self._append_from(connection)
                finally:
                    await connection.close()
            except TableError:
                self._table.prefer_another_host()
                await trio.sleep(0.01)

    async def wait_answered(self, count: int) -> None:
        while len(self.answered) < count:
            await self._news.park()

    def _keep(self, row: Row) -> None:
        self.answered.append(row)
        self._news.unpark_all()

    async def _append_from(self, connection: Connection) -> None:
        shown = await connection.head()
        taken = await connection.take_head(shown, HOLDER)
        assert taken is not None or (await connection.head()).holder == HOLDER
        if taken is None:
            return
        if (taken.last_seq, taken.chain) != (self.head.last_seq, self.head.chain):
            # The row of which nothing was known, and no other.
            (row,) = await connection.rows(self.head.last_seq, taken.last_seq, 1000)
            assert row.previous_chain == self.head.chain
            self._keep(row)
        self.head = taken
        while True:
            row, after = behind(self.head, random.randbytes(500))
            # Another chain value each time: what is shown by an old primary is not what is tried again.
            row = row._replace(chain=random.randbytes(32))
            if not await connection.append(row, HOLDER):
                return
            self._keep(row)
            self.head = after._replace(chain=row.chain)


def test_what_was_answered_is_there_whatever_failed(servers: Servers) -> None:
    database = DatabaseInPostgres(servers)
    database.patience = LITTLE_PATIENCE

    def restart() -> None:
        servers.primary.kill()
        servers.primary.start()

    def stop_primary() -> None:
        servers.primary.stop()
        servers.primary.go_on()

    def fail_over_while_standbys_are_stalled() -> None:
        database.stall_standbys()
        servers.fail_over()

    def cancel_waits() -> None:
        waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'"
        for _ in range(20):
            servers.primary.execute(waiting)

    def lose_names() -> None:
        servers.primary.set("synchronous_standby_names", "")

    def fail_over_and_let_the_old_one_come_back() -> None:
        old = servers.primary
        database.stall_standbys()
        servers.fail_over()
        old.start()

    failures: list[Callable[[], object]] = [
        restart,
        stop_primary,
        fail_over_while_standbys_are_stalled,
        servers.fail_over,
        cancel_waits,
        lose_names,
        fail_over_and_let_the_old_one_come_back,
    ]

    async def main() -> None:
        table = database.table()
        await found(table)
        appending = Appending(table)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(appending.run)
            for fail in failures * ROUNDS:
                await appending.wait_answered(len(appending.answered) + ROWS)
                await trio.to_thread.run_sync(fail)
                await trio.to_thread.run_sync(servers.mend)
            nursery.cancel_scope.cancel()
        connection = await table.connect()
        head = await connection.head()
        head = await connection.take_head(head, HOLDER) or head
        rows = list(await connection.rows(0, head.last_seq, 1 << 20))
        while rows[-1].last_seq < head.last_seq:
            rows += await connection.rows(rows[-1].last_seq, head.last_seq, 1 << 20)
        there = {(row.first_seq, row.chain) for row in rows}
        assert [row for row in appending.answered if (row.first_seq, row.chain) not in there] == []
        for before, after in pairwise(rows):
            assert (after.first_seq, after.previous_chain) == (before.last_seq + 1, before.chain)
        assert rows[-1].chain == head.chain
        await connection.close()

    database.run(main)
    servers.drop_database(database.conninfo)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_append_that_is_cancelled_at_any_moment_is_there_or_is_not(servers: Servers, seed: int) -> None:
    dice = random.Random(seed)
    database = DatabaseInPostgres(servers)

    async def main() -> None:
        table = database.table()
        await found(table)
        head: Head = FIRST
        cancelled = 0
        for _ in range(60):
            connection = await table.connect()
            taken = await connection.take_head(await connection.head(), HOLDER)
            assert taken is not None
            assert taken.last_seq >= head.last_seq
            head = taken
            with trio.move_on_after(dice.random() * 0.01) as limit:
                while True:
                    row, after = behind(head)
                    assert await connection.append(row, HOLDER)
                    head = after
            cancelled += limit.cancelled_caught
            with pytest.raises(TableError, match="is closed"):
                await connection.head()
        assert cancelled == 60
        connection = await table.connect()
        assert (await connection.head()).last_seq >= head.last_seq
        await connection.close()

    before = threading.active_count()
    database.run(main)
    servers.drop_database(database.conninfo)
    # Trio keeps some for itself; each connection's own has ended.
    assert threading.active_count() <= before + 10
