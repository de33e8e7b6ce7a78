"""What is no standby, and is taken for one by PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spool.record import CHAIN_START
from spool.replicated.table import Connection, Head, Lease, Table, UnknownOutcomeError
from tests.world.postgres import Servers
from tests.world.tables import HOLDER, LITTLE_PATIENCE, DatabaseInPostgres, behind, lead


@pytest.fixture
def harmed(servers: Servers) -> Iterator[DatabaseInPostgres]:
    made = DatabaseInPostgres(servers)
    made.patience = LITTLE_PATIENCE
    yield made
    servers.mend()
    servers.drop_database(made.conninfo)


def test_who_keeps_the_wal_and_replays_nothing_is_no_witness(
    harmed: DatabaseInPostgres, servers: Servers
) -> None:
    """PostgreSQL counts `pg_receivewal` and a `pg_basebackup` under way where all names count, as Patroni says while
    there is no standby. Nobody can promote what they have."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        servers.primary.set("synchronous_standby_names", "*")
        for standby in servers.standbys:
            standby.kill()
        with servers.primary.archived():
            with pytest.raises(UnknownOutcomeError):
                await connection.append(row, HOLDER)
            again = await table.connect()
            assert await again.head() == after, "PostgreSQL has answered"
            assert not await again.write_lease(Lease(head.epoch, HOLDER, "", 1, 0, CHAIN_START))
            await again.close()

    lead(harmed, main)
