"""What a leader finds out and says when its place is taken, its database is unfit, or it is to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import LogPoisonedError, LogStalledError
from spool.errors import LogDeposedError, LostRowsError
from spool.interface import STALL_SECONDS
from spool.replicated import leading
from spool.replicated.table import Connection, Head, Row, UnknownOutcomeError
from tests.world.batches import TransparentSeal
from tests.world.disk import FakeDisk
from tests.world.outcomes import Outcome
from tests.world.replicated import Node, assert_is_beginning, entries_of, open_node
from tests.world.servers import Plant
from tests.world.spool import group, read_all, run
from tests.world.table import FakeDatabase, FakeTable

OTHER = b"other".ljust(16, b".")


@asynccontextmanager
async def leader(database: FakeDatabase) -> AsyncIterator[Node]:
    async with open_node(database, "anna") as anna:
        await anna.lead()
        yield anna


async def take(database: FakeDatabase) -> tuple[Connection, Head]:
    """As another machine does."""
    connection = await database.table("bert").connect()
    head = await connection.take_head(await connection.head(), OTHER)
    assert head is not None
    return connection, head


async def append_behind(connection: Connection, head: Head) -> None:
    seq = head.last_seq + 1
    row = Row(seq, seq, head.epoch, head.chain, b"c" * 32, b"", b"")
    assert await connection.append(row, OTHER)


def test_nothing_is_in_doubt_and_another_has_the_head() -> None:
    database = FakeDatabase()

    async def main() -> None:
        async with leader(database) as anna:
            await anna.log.append(group(1))
            await take(database)
            with pytest.raises(LogDeposedError):
                await anna.log.append(group(2))
            assert anna.log.deposed
            with pytest.raises(LogDeposedError):
                await anna.log.append(group(3))

    with pytest.RaisesGroup(LogDeposedError):
        run(main)
    assert entries_of(database.shown.rows) == group(1)


async def hang(anna: Node, database: FakeDatabase, then: Callable[[], Awaitable[None]]) -> str:
    """An append whose answer does not come, and what another machine does before the leader has a connection again."""
    told = ""

    async def append() -> None:
        nonlocal told
        try:
            await anna.log.append(group(2))
        except (LogDeposedError, LogPoisonedError) as error:
            told = type(error).__name__
            raise
        told = "durable"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append)
        await wait_all_tasks_blocked()
        table = anna.table
        assert isinstance(table, FakeTable)
        table.cut_off()
        await wait_all_tasks_blocked()
        await then()
        table.rejoin()
    return told


def test_a_row_behind_ours_tells_that_ours_is_there() -> None:
    database = FakeDatabase()

    async def main() -> None:
        async with leader(database) as anna:
            database.servers.stall_standbys()

            async def then() -> None:
                database.mend()
                await append_behind(*await take(database))

            assert await hang(anna, database, then) == "durable"
            assert anna.log.last_seq == 1
            with pytest.raises(LogDeposedError):
                await anna.log.append(group(3))

    with pytest.RaisesGroup(LogDeposedError):
        run(main)
    assert [row.first_seq for row in database.shown.rows] == [1, 2]


def test_another_row_in_the_place_of_ours_tells_that_ours_is_not_there() -> None:
    database = FakeDatabase()

    async def main() -> None:
        async with leader(database) as anna:
            database.servers.stall_standbys()

            async def then() -> None:
                database.servers.fail_over()
                await append_behind(*await take(database))

            await hang(anna, database, then)

    with pytest.RaisesGroup(pytest.RaisesGroup(LogDeposedError), LogDeposedError):
        run(main)
    assert [row.chain for row in database.shown.rows] == [b"c" * 32]


@pytest.mark.parametrize("is_there", [True, False])
def test_as_long_as_nobody_appends_the_append_stays_in_doubt(is_there: bool) -> None:
    """Neither answer would be true for certain: the log is poisoned, and the next start will know."""
    database = FakeDatabase()
    took: list[float] = []

    async def main() -> None:
        async with leader(database) as anna:
            database.servers.stall_standbys()

            async def then() -> None:
                if is_there:
                    database.mend()
                else:
                    database.servers.fail_over()
                await take(database)

            began = trio.current_time()
            try:
                await hang(anna, database, then)
            finally:
                took.append(trio.current_time() - began)

    with pytest.RaisesGroup(pytest.RaisesGroup(LogPoisonedError), LogPoisonedError):
        run(main)
    assert leading.UNDECIDED_SECONDS <= took[0] < 2 * leading.UNDECIDED_SECONDS
    assert len(database.shown.rows) == is_there


def test_settings_that_promise_nothing_are_waited_for_and_what_was_given_up_is_left_out() -> None:
    database = FakeDatabase()

    async def main() -> None:
        async with leader(database) as anna:
            database.servers.primary.empty_names()
            async with trio.open_nursery() as nursery:

                async def give_up_soon() -> None:
                    with pytest.raises(LogStalledError):
                        await anna.log.append(group(1), patient=False)
                    assert trio.current_time() >= STALL_SECONDS

                nursery.start_soon(give_up_soon)
                await wait_all_tasks_blocked()
                nursery.start_soon(anna.log.append, group(2))
                await trio.sleep(600)
                assert not anna.log.poisoned
                assert any("synchronous_standby_names" in str(text) for text in anna.troubles)
                assert anna.troubles[-1] is not None
                database.mend()
            assert anna.troubles[-1] is None
            await anna.log.append(group(3))

    run(main)
    assert entries_of(database.shown.rows) == [*group(2), *group(3)]


def test_whoever_refuses_every_time_is_not_asked_in_a_circle() -> None:
    database = FakeDatabase()

    def choose(number: int, name: str, table: FakeTable) -> Outcome:
        return Outcome.REFUSED if name == "append" and trio.current_time() < 60 else Outcome.ANSWERED

    database.choose = choose

    async def main() -> None:
        async with leader(database) as anna:
            await anna.log.append(group(1))
            assert 60 <= trio.current_time() < 62
            assert database.statements.count("append") < 70
            # All is well again, and the next trouble is met quickly.
            began = trio.current_time()
            database.outcomes[len(database.statements) + 1] = Outcome.CUT_BEFORE
            await anna.log.append(group(2))
            assert trio.current_time() - began < 0.2

    run(main)


def test_a_process_that_is_to_end_does_not_wait_for_the_database() -> None:
    database = FakeDatabase()

    async def main() -> None:
        async with leader(database) as anna:
            database.servers.stall_standbys()
            async with trio.open_nursery() as nursery:

                async def append() -> None:
                    with pytest.raises(LogPoisonedError):
                        await anna.log.append(group(1))

                nursery.start_soon(append)
                await trio.sleep(3)
                anna.leading.give_up()
            assert trio.current_time() == 3

    with pytest.RaisesGroup(LogPoisonedError) as caught:
        run(main)
    assert isinstance(caught.value.exceptions[0].__cause__, UnknownOutcomeError)


def test_a_database_that_took_back_what_it_acknowledged_is_found_out() -> None:
    database = FakeDatabase(plants=frozenset({Plant.PROMOTES_THE_LEAST_ADVANCED}))
    disk = FakeDisk()

    async def main() -> None:
        async with open_node(database, "anna", disk=disk) as anna:
            await anna.lead()
            database.servers.named("c").stall()
            await anna.log.append(group(1))
            database.servers.fail_over()
            await anna.log.append(group(2))

    with pytest.RaisesGroup(LogPoisonedError, LogPoisonedError) as caught:
        run(main)
    assert any(isinstance(error.__cause__, LostRowsError) for error in caught.value.exceptions)
    assert any(
        "the log is poisoned: the database ends with" in str(error) for error in caught.value.exceptions
    )
    assert not database.shown.rows
    assert len(read_all(disk)) == 1


def test_rows_are_sealed_and_have_something_beside_them() -> None:
    database = FakeDatabase()
    disk = FakeDisk()
    seal = TransparentSeal()

    async def main() -> None:
        async with open_node(database, "anna", disk=disk, seal=seal) as anna:
            await anna.lead(beside_of=lambda records: b"%d records" % len(records))
            await anna.log.append(group(1, 2))

    run(main)
    (row,) = database.shown.rows
    assert row.beside == b"2 records"
    assert entries_of([row], seal) == group(1, 2)
    assert len(read_all(disk)) == 2


def test_its_own_file_has_what_is_durable_and_says_how_long_that_took() -> None:
    database = FakeDatabase()
    disk = FakeDisk()

    async def main() -> None:
        async with open_node(database, "anna", disk=disk) as anna:
            await anna.lead()
            database.latency_seconds = 0.25
            operations = disk.operations
            await anna.log.append(group(1))
            # Written, not synced.
            assert disk.operations == operations + 1
            assert anna.log.sync_seconds_last == 0.25
            assert anna.leading.witnessed == (2, 1, anna.log.last_chain)

    run(main)
    assert_is_beginning(read_all(disk), database.shown.rows)


def test_a_row_is_no_larger_than_wanted_unless_one_append_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "ROW_BYTES_WANTED", 1500)
    database = FakeDatabase()

    async def main() -> None:
        async with leader(database) as anna, trio.open_nursery() as nursery:
            for number in range(1, 13):
                nursery.start_soon(anna.log.append, group(number, 5 if number == 7 else 1))

    run(main)
    assert len(entries_of(database.shown.rows)) == 16
    # The form's octet besides.
    large = [row for row in database.shown.rows if len(row.data) > 1500 + 1]
    assert [entries_of_row(row) for row in large] == [5]
    assert max(entries_of_row(row) for row in database.shown.rows if row not in large) > 1


def entries_of_row(row: Row) -> int:
    return row.last_seq + 1 - row.first_seq
