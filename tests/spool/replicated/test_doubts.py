"""What the servers of the list say of themselves that no statement of ours sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from spool.replicated.postgres import PostgresTable
from tests.world.postgres import SYNCHRONOUS, Servers
from tests.world.process import wait_until
from tests.world.tables import LITTLE_PATIENCE, PATIENCE, DatabaseInPostgres


@pytest.fixture
def harmed(servers: Servers) -> Iterator[DatabaseInPostgres]:
    made = DatabaseInPostgres(servers)
    is_there = f"SELECT count(*) FROM pg_database WHERE datname = '{made.name}'"
    for standby in servers.standbys:
        wait_until(lambda: standby.execute(is_there) == [(1,)], lambda: f"it is at {standby.name}")  # noqa: B023
    yield made
    servers.mend()
    servers.drop_database(made.conninfo)


def doubts_of(database: DatabaseInPostgres, *, is_down: bool = False) -> Sequence[str]:
    found: list[str] = []

    async def main() -> None:
        patience = LITTLE_PATIENCE if is_down else PATIENCE
        found.extend(await PostgresTable(database.conninfo, patience=patience).find_doubts())

    database.run(main)
    return found


def test_good_servers_leave_none(harmed: DatabaseInPostgres) -> None:
    assert doubts_of(harmed) == []


def test_a_standby_that_syncs_nothing_is_named(harmed: DatabaseInPostgres, servers: Servers) -> None:
    standby = servers.standbys[0]
    standby.set("fsync", "off")
    try:
        (doubt,) = doubts_of(harmed)
    finally:
        standby.set("fsync", "on")
    assert f"127.0.0.1:{standby.port}: it is a standby, and its fsync is off" in doubt


def test_a_standby_that_would_be_refused_after_a_failover_is_named(
    harmed: DatabaseInPostgres, servers: Servers
) -> None:
    standby = servers.standbys[1]
    standby.set("synchronous_standby_names", "")
    try:
        (doubt,) = doubts_of(harmed)
    finally:
        standby.set("synchronous_standby_names", SYNCHRONOUS)
    assert f"127.0.0.1:{standby.port}: it is a standby, and could not be used after a failover" in doubt
    assert "synchronous_standby_names is empty" in doubt


def test_a_server_that_is_down_and_an_old_primary_are_named(
    harmed: DatabaseInPostgres, servers: Servers
) -> None:
    old = servers.primary
    new = servers.fail_over()
    (down,) = doubts_of(harmed, is_down=True)
    assert f"127.0.0.1:{old.port}" in down
    assert "after a failover to it there is no database" in down
    old.start()
    (two,) = doubts_of(harmed)
    for server in (old, new):
        assert f"127.0.0.1:{server.port}" in two
    assert "are each no standby" in two


def test_one_that_only_receives_is_named(harmed: DatabaseInPostgres, servers: Servers) -> None:
    """pg_receivewal counts for PostgreSQL; nobody can promote what it has."""
    servers.primary.set("synchronous_standby_names", "ANY 1 (*)")
    counts = (
        "SELECT count(*) FROM pg_stat_replication "
        "WHERE application_name = 'pg_receivewal' AND sync_state = 'quorum' AND flush_lsn IS NOT NULL"
    )
    with servers.primary.archived():
        wait_until(
            lambda: servers.primary.execute(counts) == [(1,)],
            lambda: f"it receives. {servers.primary.output}",
        )
        (doubt,) = doubts_of(harmed)
    assert (
        f"127.0.0.1:{servers.primary.port}: pg_receivewal is counted by PostgreSQL as a synchronous" in doubt
    )


def test_one_that_subscribes_is_named(harmed: DatabaseInPostgres, servers: Servers) -> None:
    servers.primary.set("synchronous_standby_names", "ANY 1 (*)")
    with servers.primary.subscribed():
        (doubt,) = doubts_of(harmed)
    assert "copies is counted by PostgreSQL as a synchronous standby, and is a logical subscriber" in doubt
