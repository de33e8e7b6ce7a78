"""Servers whose settings promise less from some moment on: whoever is connected already asks with each statement."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from spool.replicated.table import Connection, Head, Table
from tests.world.postgres import Servers
from tests.world.process import PATIENCE_SECONDS
from tests.world.tables import HOLDER, DatabaseInPostgres, behind, lead


@pytest.fixture
def database(servers: Servers) -> Iterator[DatabaseInPostgres]:
    made = DatabaseInPostgres(servers)
    yield made
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
