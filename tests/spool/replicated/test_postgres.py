"""What only PostgreSQL has: its settings, its processes, its passwords, its partitions."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool.record import CHAIN_START
from spool.replicated import partitions, statements
from spool.replicated.postgres import PostgresTable
from spool.replicated.table import (
    Connection,
    Head,
    Lease,
    Table,
    TableError,
    UnfitTableError,
    UnknownOutcomeError,
)
from tests.world.postgres import PASSWORD, ROLE, Servers
from tests.world.self_signed import self_signed_pem
from tests.world.tables import (
    HOLDER,
    LITTLE_PATIENCE,
    PATIENCE,
    DatabaseInPostgres,
    behind,
    fails,
    found,
    lead,
)

#: So long nobody waits, but where something hangs.
LONG_SECONDS = 1000.0


@pytest.fixture
def database(servers: Servers) -> Iterator[DatabaseInPostgres]:
    made = DatabaseInPostgres(servers)
    yield made
    servers.drop_database(made.conninfo)


@pytest.fixture
def harmed(database: DatabaseInPostgres, servers: Servers) -> Iterator[DatabaseInPostgres]:
    yield database
    servers.mend()


@pytest.fixture
def hasty(harmed: DatabaseInPostgres) -> DatabaseInPostgres:
    """For a test in which somebody never answers: nobody waits for that for long."""
    harmed.patience = LITTLE_PATIENCE
    return harmed


def ask(servers: Servers, database: DatabaseInPostgres, sql: str) -> list[tuple[object, ...]]:
    """As the superuser, in this database."""
    return servers.primary.execute(sql, database.name)


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize("value", ["local", "off"])
def test_a_database_that_promises_less_is_refused_by_name(
    database: DatabaseInPostgres, servers: Servers, value: str
) -> None:
    async def main() -> None:
        ask(servers, database, f"ALTER DATABASE {database.name} SET synchronous_commit = {value}")
        with pytest.raises(UnfitTableError, match=f"synchronous_commit is {value}, and must be on"):
            await database.table().keep()

    database.run(main)


def test_who_may_not_see_standbys_is_told_what_to_grant(
    database: DatabaseInPostgres, servers: Servers
) -> None:
    async def main() -> None:
        servers.primary.execute(f"REVOKE pg_monitor FROM {ROLE}")
        try:
            with pytest.raises(UnfitTableError, match="GRANT pg_monitor"):
                await database.table().keep()
        finally:
            servers.primary.execute(f"GRANT pg_monitor TO {ROLE}")

    database.run(main)


def test_what_others_have_set_for_us_is_set_back(database: DatabaseInPostgres, servers: Servers) -> None:
    """A warning that is not sent, or a statement that a clock cancels, would be an answer that is not true."""
    theirs = {
        "client_min_messages": "error",
        "statement_timeout": "9s",
        "default_transaction_isolation": "serializable",
    }

    async def main() -> None:
        for name, value in theirs.items():
            ask(servers, database, f"ALTER DATABASE {database.name} SET {name} = '{value}'")
        async with database.asking() as session:
            keeping = f"{statements.LOCK_SECONDS_KEEPING}s"
            for name, value in {**statements.SESSION, "lock_timeout": keeping}.items():
                shown = await session.ask(
                    "SELECT current_setting(%(name)s, true)", {"name": name}, seconds=10
                )
                # Not every version knows every one, and a duration may be shown in another unit.
                assert shown.rows[0][0] in (None, value, value.replace("5s", "5000")), name

    database.run(main)


def test_tables_of_another_form_are_refused(database: DatabaseInPostgres, servers: Servers) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        ask(servers, database, f"UPDATE {statements.SCHEMA}.head SET form = 99")
        with pytest.raises(UnfitTableError, match="of another form than 1"):
            await table.connect()

    lead(database, main)


def test_a_database_that_is_thrown_away_meanwhile_is_unfit(database: DatabaseInPostgres) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        keeping = await table.keep()
        await keeping.discard(head)
        await keeping.close()
        with pytest.raises(UnfitTableError):
            await connection.append(behind(head)[0], HOLDER)

    lead(database, main)


@pytest.mark.parametrize("promise", ["unsafe_single_server", "provider_is_durable"])
def test_a_server_without_standbys_appends_where_that_was_said(
    harmed: DatabaseInPostgres, servers: Servers, promise: str
) -> None:
    async def main() -> None:
        harmed.empty_names()
        table = PostgresTable(harmed.conninfo, patience=PATIENCE, **{promise: True})
        await found(table)
        connection = await table.connect()
        head = await connection.take_head(await connection.head(), HOLDER)
        assert head is not None
        assert await connection.write_lease(Lease(head.epoch, HOLDER, "", 1, 0, CHAIN_START))
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        lease = await connection.lease()
        assert lease is not None
        # An append says itself what is witnessed.
        assert (lease.witnessed_seq, lease.witnessed_chain) == (row.last_seq, row.chain)
        await connection.close()

    harmed.run(main)


def test_nobody_promises_two_things() -> None:
    with pytest.raises(ValueError, match="promises nothing"):
        PostgresTable("host=/run", unsafe_single_server=True, provider_is_durable=True)


# ------------------------------------------------------------------------------------------------ who connects


def test_a_password_is_never_repeated(database: DatabaseInPostgres, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        wrong = f"{PASSWORD}-and-wrong"
        table = PostgresTable(database.conninfo.replace(PASSWORD, wrong), patience=PATIENCE)
        with pytest.raises(TableError, match="password authentication failed") as refused:
            await table.connect()
        connection = await PostgresTable(database.conninfo, patience=PATIENCE).keep()
        await connection.close()
        assert PASSWORD not in "".join(traceback.format_exception(refused.value))

    database.run(main)
    assert PASSWORD not in caplog.text


def test_who_is_far_away_is_believed_only_by_its_name(harmed: DatabaseInPostgres, servers: Servers) -> None:
    pem = self_signed_pem("db.example")
    servers.primary.write_file("server.pem", pem)
    authority = servers.primary.directory.parent / "authority.pem"
    authority.write_bytes(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    for name in ("ssl_cert_file", "ssl_key_file"):
        servers.primary.set(name, "server.pem")
    servers.primary.set("ssl", "on")

    def far(name: str) -> Table:
        at = f"host={name} hostaddr=127.0.0.1 port={servers.primary.port} dbname={harmed.name}"
        return PostgresTable(
            f"{at} user={ROLE} password={PASSWORD} sslrootcert={authority}", patience=PATIENCE
        )

    async def main() -> None:
        await found(far("db.example"))
        connection = await far("db.example").connect()
        assert connection.host == f"db.example:{servers.primary.port}"
        await connection.close()
        with pytest.raises(TableError, match=r'does not match host name "elsewhere\.example"'):
            await far("elsewhere.example").connect()

    harmed.run(main)
    servers.primary.set("ssl", "off")


def test_a_server_that_is_stopped_is_passed_over_and_answers_nobody(
    hasty: DatabaseInPostgres, servers: Servers
) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        servers.primary.stop()
        with pytest.raises(TableError, match=f"127.0.0.1:{servers.primary.port}: ") as none:
            await table.connect()
        assert not isinstance(none.value, UnfitTableError | UnknownOutcomeError)
        # Each of the others is a standby.
        assert str(none.value).count("read-only") == 2
        with pytest.raises(TableError, match="no answer in time") as unanswered:
            await connection.head()
        assert not isinstance(unanswered.value, UnknownOutcomeError)

    lead(hasty, main)


def test_who_waits_for_a_connection_no_more_leaves_at_once(
    harmed: DatabaseInPostgres, servers: Servers
) -> None:
    async def main() -> None:
        table = harmed.table()
        servers.primary.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(table.keep)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        servers.primary.go_on()
        keeping = await table.keep()
        await keeping.close()

    harmed.run(main)


def test_a_host_that_never_answers_is_left_when_another_does(database: DatabaseInPostgres) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with silent:
            port = silent.socket.getsockname()[1]
            both = database.conninfo.replace("host=", "host=127.0.0.1,").replace("port=", f"port={port},")
            other = await PostgresTable(both, patience=PATIENCE).connect()
            assert await other.head() == head
            await other.close()
            # No connection is left open there.
            async with await silent.accept() as left:
                async for _ in left:
                    pass

    lead(database, main)


def test_a_connection_that_is_closed_fails_who_waits_on_it(database: DatabaseInPostgres) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        outcome: list[Exception] = []
        await connection.wait_for_news(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, connection.wait_for_news(LONG_SECONDS), outcome)
            await wait_all_tasks_blocked()
            await connection.close()
        assert [type(error) for error in outcome] == [TableError]
        await connection.close()
        with pytest.raises(TableError, match="is closed"):
            await connection.head()

    lead(database, main)


def test_news_that_came_while_nobody_waited_are_not_lost(database: DatabaseInPostgres) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        follower = await table.connect()
        await follower.wait_for_news(0)
        assert await connection.append(behind(head)[0], HOLDER)
        assert await follower.rows(0, 0, 1) == []  # the news come beside this answer
        await follower.wait_for_news(LONG_SECONDS)
        await follower.close()

    lead(database, main)


def test_a_row_may_be_as_large_as_a_log_lets_an_append_be(database: DatabaseInPostgres) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, head = behind(head, bytes(range(256)) * (1 << 17), beside=b"key")
        assert await connection.append(row, HOLDER)
        assert await connection.rows(0, 1, 1 << 20) == [row]

    lead(database, main)


# ------------------------------------------------------------------------------------------------ appends


def test_standbys_that_are_stopped_keep_an_append_from_being_answered(
    hasty: DatabaseInPostgres, servers: Servers
) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        for standby in servers.standbys:
            standby.stop()
        with pytest.raises(UnknownOutcomeError, match="no answer in time"):
            await connection.append(row, HOLDER)
        for standby in servers.standbys:
            standby.go_on()
        again = await table.connect()
        assert await again.take_head(head, HOLDER) == after._replace(epoch=head.epoch + 1)
        await again.close()

    lead(hasty, main)


def test_an_append_whose_process_is_ended_is_unknown(harmed: DatabaseInPostgres, servers: Servers) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        outcome: list[Exception] = []
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, connection.append(behind(head)[0], HOLDER), outcome)
            await harmed.wait_held()
            servers.primary.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
        assert [type(error) for error in outcome] == [UnknownOutcomeError]

    lead(harmed, main)


def test_a_cancel_by_hand_is_seen_though_somebody_hides_warnings(
    harmed: DatabaseInPostgres, servers: Servers
) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        ask(servers, harmed, f"ALTER DATABASE {harmed.name} SET client_min_messages = 'error'")
        again = await table.connect()
        outcome: list[Exception] = []
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, again.append(behind(head)[0], HOLDER), outcome)
            await harmed.wait_held()
            harmed.cancel_wait()
        assert [type(error) for error in outcome] == [UnknownOutcomeError]
        assert "WARNING canceling wait for synchronous replication" in str(outcome[0])

    lead(harmed, main)


def test_a_lease_is_renewed_while_an_append_waits_for_standbys(harmed: DatabaseInPostgres) -> None:
    """It waits for no lock that the append has, even where it has news to tell."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        other = await table.connect()
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        lease = Lease(head.epoch, HOLDER, "https://anna", 1, 0, CHAIN_START)
        assert await other.write_lease(lease)
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.append, behind(head)[0], HOLDER)
            await harmed.wait_held()
            lease = lease._replace(counter=2, witnessed_seq=1, witnessed_chain=row.chain)
            assert await other.write_lease(lease)
            await other.write_node("anna", {"seq": 0})
            assert await other.lease() == lease
            harmed.go_on()
        await other.close()

    lead(harmed, main)


# ------------------------------------------------------------------------------------------------ parts


def test_a_part_that_somebody_uses_is_dropped_the_next_time(
    database: DatabaseInPostgres, servers: Servers
) -> None:
    """It is half detached then, and its rows are seen no more."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        keeping = await table.keep()
        await keeping.begin_part()
        with servers.primary.connected(database.name) as reader:
            reader.execute("BEGIN")
            reader.execute(f"SELECT FROM {statements.SCHEMA}.batches")
            with pytest.raises(TableError, match="somebody else's change is under way"):
                await keeping.drop_through(1)
            # Nobody waits for that.
            row, head = behind(head)
            assert await connection.append(row, HOLDER)
            assert await connection.oldest_seq() == 2
        keeping = await table.keep()
        assert await keeping.drop_through(1) == 1
        assert await keeping.drop_through(1) == 0
        assert await connection.rows(0, 2, 1000) == [row]
        await keeping.close()

    lead(database, main)


def test_what_was_left_between_two_steps_is_finished(database: DatabaseInPostgres, servers: Servers) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        # Made, and not attached yet.
        async with database.asking() as session:
            await session.ask(partitions.make(2), seconds=10)
        keeping = await table.keep()
        await keeping.begin_part()
        # Attached, and not named yet.
        async with database.asking() as session:
            await session.ask(partitions.make(3), seconds=10)
            await session.ask(partitions.attach(3), seconds=10)
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        await keeping.begin_part()
        # Detached, and not dropped yet.
        async with database.asking() as session:
            await session.ask(partitions.detach(partitions.Part(1, True, False)), seconds=10)
        assert await connection.oldest_seq() == 2
        assert await keeping.drop_through(0) == 1
        assert await keeping.drop_through(2) == 1
        assert await connection.oldest_seq() is None
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        await keeping.close()
        # Nothing else is left.
        assert ask(servers, database, "SELECT relname FROM pg_class WHERE relname ~ '^part_[0-9]+$'") == [
            ("part_3",)
        ]

    lead(database, main)


def test_one_session_at_a_time_keeps_the_tables(database: DatabaseInPostgres) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        first, second = await table.keep(), await table.keep()
        await first.begin_part()
        with pytest.raises(TableError, match="another machine is keeping the tables"):
            await second.begin_part()
        await first.close()
        third = await table.keep()
        assert await third.drop_through(0) == 1  # it has no row
        await third.close()

    lead(database, main)


def test_the_place_of_a_part_that_went_is_free(database: DatabaseInPostgres) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        keeping = await table.keep()
        empty = await keeping.octets()
        row, head = behind(head, bytes(1 << 20))
        assert await connection.append(row, HOLDER)
        # Nothing is compressed.
        assert await keeping.octets() > empty + (1 << 20)
        await keeping.begin_part()
        assert await keeping.drop_through(1) == 1
        assert await keeping.octets() < empty + (1 << 20)
        await keeping.close()

    lead(database, main)


def test_a_row_that_is_no_machine_s_does_not_keep_the_others_from_being_read(
    database: DatabaseInPostgres, servers: Servers
) -> None:
    async def main() -> None:
        await found(database.table())
        connection = await database.table().connect()
        await connection.write_node("anna", {"seq": 7})
        strange = ["no JSON", "[1]", "[" * 50_000, '{"seq": "' + "x" * (1 << 20) + '"}']
        for number, text in enumerate(strange):
            ask(servers, database, f"INSERT INTO replicated_log.nodes VALUES ('strange {number}', '{text}')")
        nodes = await connection.nodes()
        assert nodes == {"anna": {"seq": 7}, **{f"strange {number}": {} for number in range(len(strange))}}
        assert await connection.remove_node("strange 0")
        await connection.close()

    database.run(main)
