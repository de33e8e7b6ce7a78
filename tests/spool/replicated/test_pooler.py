"""A pooler between a node and its database: it is let pass where it keeps a session for each client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from spool.replicated.postgres import PostgresTable
from spool.replicated.table import TableError, UnfitTableError
from tests.world.pgbouncer import running_pgbouncer
from tests.world.postgres import Servers
from tests.world.tables import HOLDER, LITTLE_PATIENCE, PATIENCE, DatabaseInPostgres, behind, found


@pytest.fixture
def database(servers: Servers) -> Iterator[DatabaseInPostgres]:
    made = DatabaseInPostgres(servers)
    yield made
    servers.drop_database(made.conninfo)


def test_one_that_keeps_sessions_is_as_the_server_itself(
    database: DatabaseInPostgres, servers: Servers
) -> None:
    async def main(conninfo: str) -> None:
        table = PostgresTable(conninfo, patience=PATIENCE)
        await found(table)
        one, two = await table.connect(), await table.connect()
        head = await one.take_head(await one.head(), HOLDER)
        assert head is not None
        await one.wait_for_news(0)  # it listens from now on
        for _ in range(8):
            row, head = behind(head)
            assert await two.append(row, HOLDER)
            await one.write_node("one", {})
        assert (await one.head()).last_seq == head.last_seq
        with trio.fail_after(PATIENCE.answer_seconds):
            await one.wait_for_news(10 * PATIENCE.answer_seconds)
        # A holder that looks anew is let in here as elsewhere.
        assert await two.take_head(head, HOLDER) is not None
        await one.close()
        await two.close()

    with running_pgbouncer(servers.primary, database.conninfo, pool_mode="session") as conninfo:
        database.run(lambda: main(conninfo))


@pytest.mark.parametrize("pool_mode", ["transaction", "statement"])
@pytest.mark.parametrize("settings", ["", "server_round_robin = 1\nmin_pool_size = 3"], ids=["", "in turn"])
def test_one_that_shares_sessions_is_refused_by_its_setting(
    database: DatabaseInPostgres, servers: Servers, pool_mode: str, settings: str
) -> None:
    async def main(conninfo: str) -> None:
        table = PostgresTable(conninfo, patience=PATIENCE)
        for connect in (table.keep, table.connect):
            with pytest.raises(UnfitTableError, match=r"a pooler stands between.*pool_mode = session"):
                await connect()
        direct = PostgresTable(database.conninfo, patience=PATIENCE)
        keeping = await direct.keep()
        assert await keeping.head() is None
        await keeping.close()

    pooler = running_pgbouncer(servers.primary, database.conninfo, pool_mode=pool_mode, settings=settings)
    with pooler as conninfo:
        database.run(lambda: main(conninfo))


def test_one_that_has_a_single_session_has_none_to_spare(
    database: DatabaseInPostgres, servers: Servers
) -> None:
    """A node needs several. Which of them it can have is not told until somebody waits for one."""

    async def main(conninfo: str) -> None:
        with pytest.raises(TableError, match="no answer in time"):
            await PostgresTable(conninfo, patience=LITTLE_PATIENCE).keep()

    pooler = running_pgbouncer(
        servers.primary, database.conninfo, pool_mode="session", settings="default_pool_size = 1"
    )
    with pooler as conninfo:
        database.run(lambda: main(conninfo))
