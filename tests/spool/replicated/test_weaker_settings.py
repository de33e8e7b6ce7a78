"""Servers whose settings promise less from some moment on: whoever is connected already asks with each statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import trio

from spool.record import CHAIN_START
from spool.replicated.table import Connection, Head, Lease, Table, UnknownOutcomeError
from tests.world.postgres import Server, Servers
from tests.world.process import PATIENCE_SECONDS
from tests.world.tables import HOLDER, LITTLE_PATIENCE, DatabaseInPostgres, behind, lead


@pytest.fixture
def database(servers: Servers) -> Iterator[DatabaseInPostgres]:
    made = DatabaseInPostgres(servers)
    made.patience = LITTLE_PATIENCE
    yield made
    servers.mend()
    servers.drop_database(made.conninfo)


@pytest.mark.parametrize(
    ("name", "value"), [("synchronous_commit", "local"), ("fsync", "off"), ("full_page_writes", "off")]
)
def test_a_server_that_promises_less_from_now_on_changes_nothing(
    database: DatabaseInPostgres, servers: Servers, name: str, value: str
) -> None:
    ((good,),) = servers.primary.execute(f"SELECT current_setting('{name}')")

    async def main(table: Table, connection: Connection, head: Head) -> None:
        servers.primary.set(name, value)
        try:
            # Its process may hear of it a moment later than those that begin now.
            with trio.fail_after(PATIENCE_SECONDS):
                while (taken := await connection.take_head(head, HOLDER)) is not None:
                    head = taken
            assert not await connection.append(behind(head)[0], HOLDER)
            assert await connection.head() == head
        finally:
            servers.primary.set(name, good)

    lead(database, main)


@pytest.mark.parametrize("counted", [Server.archived, Server.subscribed])
def test_who_keeps_the_wal_or_some_of_what_is_in_it_is_no_witness(
    database: DatabaseInPostgres, servers: Servers, counted: Callable[[Server], AbstractContextManager[None]]
) -> None:
    """PostgreSQL counts `pg_receivewal`, a `pg_basebackup` under way, and a subscription where all names count, as
    Patroni says while there is no standby. Nobody can promote what they have."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        servers.primary.set("synchronous_standby_names", "*")
        for standby in servers.standbys:
            standby.kill()
        with counted(servers.primary):
            with pytest.raises(UnknownOutcomeError):
                await connection.append(row, HOLDER)
            again = await table.connect()
            assert await again.head() == after, "PostgreSQL has answered"
            assert not await again.write_lease(Lease(head.epoch, HOLDER, "", 1, 0, CHAIN_START))
            await again.close()

    lead(database, main)
