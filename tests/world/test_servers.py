"""The database in memory does what PostgreSQL was seen to do when it fails over, is cut off, or is set otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from spool.replicated.table import (
    Connection,
    Head,
    Keeping,
    Lease,
    NotAsExpectedError,
    Row,
    TableError,
    UnfitTableError,
    UnknownOutcomeError,
)
from tests.world.outcomes import OUTCOMES_OF, Outcome
from tests.world.servers import FIRST_HEAD, Plant
from tests.world.table import FakeDatabase

HOLDER = b"h" * 16
OTHER = b"o" * 16
ANSWERED_WELL = {Outcome.ANSWERED, Outcome.ONE_BEHIND}


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    return trio.run(main, clock=MockClock(autojump_threshold=0))


def row_behind(head: Head, text: bytes = b"row") -> Row:
    seq = head.last_seq + 1
    return Row(seq, seq, head.epoch, head.chain, bytes([seq]) * 32, text, b"")


async def led(database: FakeDatabase, name: str = "anna", holder: bytes = HOLDER) -> tuple[Connection, Head]:
    """A connection that holds the head."""
    connection = await database.table(name).connect()
    head = await connection.take_head(await connection.head(), holder)
    assert head is not None
    return connection, head


async def append(connection: Connection, head: Head, text: bytes = b"row") -> tuple[bool, Head]:
    row = row_behind(head, text)
    added = await connection.append(row, head.holder)
    return added, head._replace(last_seq=row.last_seq, chain=row.chain)


def test_a_row_is_on_a_standby_when_it_is_answered() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        added, head = await append(connection, head)
        assert added
        assert [len(server.tables.rows) for server in database.servers.all] == [1, 1, 1]
        assert database.shown.head == await connection.head() == head
        assert database.statements == ["connect", "head", "take_head", "append", "head"]

    run(main)


def test_whoever_lost_the_head_appends_nothing() -> None:
    async def main() -> None:
        database = FakeDatabase()
        one, its_head = await led(database)
        await led(database, "bert", OTHER)
        assert await append(one, its_head) == (False, its_head._replace(last_seq=1, chain=b"\1" * 32))
        assert not database.shown.rows
        assert await one.take_head(its_head, HOLDER) is None

    run(main)


def test_nothing_shows_on_the_primary_before_a_standby_has_it() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        reader = await database.table("bert").connect()
        database.servers.stall_standbys()
        async with trio.open_nursery() as nursery:

            async def add() -> None:
                assert (await append(connection, head))[0]

            nursery.start_soon(add)
            await wait_all_tasks_blocked()
            assert not await reader.rows(0, 9, 99)
            # One standby is enough, and shows it at once.
            database.servers.named("c").go_on()
        assert len(await reader.rows(0, 9, 99)) == 1
        assert not database.servers.named("b").tables.rows

    run(main)


def test_taking_the_head_waits_behind_an_append_under_way_and_then_finds_what_it_did() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        database.servers.stall_standbys()
        with trio.move_on_after(1):  # the client goes, and the append does not
            await append(connection, head)
        other = await database.table("bert").connect()
        known = await other.head()
        assert known.last_seq == 0
        async with trio.open_nursery() as nursery:

            async def take() -> None:
                taken = await other.take_head(known, OTHER)
                assert taken is not None
                assert (taken.epoch, taken.last_seq) == (known.epoch + 1, 1)

            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            assert database.shown.head == known
            database.servers.go_on()

    run(main)


def test_whoever_waits_too_long_for_the_head_is_told_that_nothing_happened() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        database.servers.stall_standbys()
        with trio.move_on_after(1):
            await append(connection, head)
        other = await database.table("bert").connect()
        with pytest.raises(TableError, match="lock_timeout") as caught:
            await other.take_head(await other.head(), OTHER)
        assert not isinstance(caught.value, UnknownOutcomeError)
        database.mend()
        assert database.shown.head is not None
        assert database.shown.head.holder == HOLDER

    run(main)


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - ANSWERED_WELL, key=str))
def test_what_is_not_answered_well_is_refused_or_unknown(outcome: Outcome) -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        database.outcomes[4] = outcome
        if outcome is Outcome.EMPTIED_BEFORE:
            assert not (await append(connection, head))[0]
            with pytest.raises(UnfitTableError, match="synchronous_standby_names"):
                await database.table().connect()
        else:
            expected = TableError if outcome is Outcome.REFUSED else UnknownOutcomeError
            with pytest.raises(expected) as caught:
                await append(connection, head)
            assert type(caught.value) is expected
            with pytest.raises(TableError, match="closed"):
                await connection.head()
        database.mend()
        connection = await database.table().connect()
        taken = await connection.take_head(await connection.head(), HOLDER)
        assert taken is not None
        stays = {
            Outcome.CUT_AFTER,
            Outcome.WARNED,
            Outcome.HUNG,
            Outcome.FAILED_OVER,
            Outcome.EMPTIED_MEANWHILE,
        }
        assert len(await connection.rows(0, 9, 99)) == (outcome in stays)
        # What arrives late has come by now.
        assert await append(connection, taken) == (True, await connection.head())

    run(main)


def test_an_old_primary_that_comes_back_shows_what_was_lost_and_takes_nothing() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        database.outcomes[4] = Outcome.LOST_BUT_SHOWN
        with pytest.raises(UnknownOutcomeError):
            await append(connection, head)
        table = database.table()
        connection = await table.connect()
        assert connection.host == "a"
        known = await connection.head()
        assert known.last_seq == 1
        with pytest.raises(UnknownOutcomeError):
            await connection.take_head(known, HOLDER)
        table.prefer_another_host()
        connection = await table.connect()
        assert connection.host == "b"
        assert (await connection.head()).last_seq == 0

    run(main)


def test_planted_bugs_lose_what_was_acknowledged() -> None:
    async def vanish(*plants: Plant) -> bool:
        database = FakeDatabase(plants=frozenset(plants))
        connection, head = await led(database)
        database.outcomes[4] = Outcome.VANISHED
        try:
            added, _ = await append(connection, head)
        except UnknownOutcomeError:
            return False
        return added and not database.shown.rows

    async def promote(*plants: Plant) -> bool:
        database = FakeDatabase(plants=frozenset(plants))
        connection, head = await led(database)
        database.servers.named("c").stall()
        added, _ = await append(connection, head)
        assert added
        database.servers.fail_over()
        return not database.shown.rows

    async def main() -> None:
        assert not await vanish()
        assert await vanish(Plant.ASKS_FOR_NO_WITNESS)
        assert not await promote()
        assert await promote(Plant.PROMOTES_THE_LEAST_ADVANCED)

    run(main)


def test_a_lease_is_written_by_the_holder_alone_and_may_go_back_with_a_failover() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        lease = Lease(head.epoch, HOLDER, "https://anna:1", 1, 0, head.chain)
        assert await connection.write_lease(lease)
        assert not await connection.write_lease(lease._replace(epoch=head.epoch - 1))
        assert not await connection.write_lease(lease._replace(holder=OTHER))
        database.servers.stall_standbys()
        assert await connection.write_lease(lease._replace(counter=2))
        assert await connection.lease() == lease._replace(counter=2)
        database.servers.fail_over()
        with pytest.raises(TableError):
            await connection.lease()
        connection = await database.table().connect()
        assert await connection.lease() == lease

    run(main)


def test_what_nodes_say_and_rows_that_have_gone() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        await connection.write_node("anna", {"fsynced_seq": 0})
        assert await connection.nodes() == {"anna": {"fsynced_seq": 0}}
        assert await connection.remove_node("anna")
        assert not await connection.remove_node("anna")
        assert await connection.oldest_seq() is None
        for _ in range(5):
            added, head = await append(connection, head, b"1234567890")
            assert added
        database.drop_rows(2)
        assert await connection.oldest_seq() == 3
        assert [row.first_seq for row in await connection.rows(0, 4, 99)] == [3, 4]
        assert [row.first_seq for row in await connection.rows(3, 9, 1)] == [4]
        assert [row.first_seq for row in await connection.rows(2, 9, 20)] == [3, 4]

    run(main)


def test_a_machine_that_is_cut_off_knows_nothing_of_what_it_asked() -> None:
    async def main() -> None:
        database = FakeDatabase()
        table = database.table()
        connection = await table.connect()
        head = await connection.take_head(await connection.head(), HOLDER)
        assert head is not None
        database.servers.stall_standbys()
        async with trio.open_nursery() as nursery:

            async def add() -> None:
                with pytest.raises(UnknownOutcomeError):
                    await append(connection, head)

            nursery.start_soon(add)
            await wait_all_tasks_blocked()
            table.cut_off()
        with pytest.raises(TableError):
            await table.connect()
        database.servers.go_on()
        table.rejoin()
        assert (await (await table.connect()).head()).last_seq == 1

    run(main)


def test_news_wake_whoever_waits_for_them_and_so_does_a_death() -> None:
    async def main() -> None:
        database = FakeDatabase()
        connection, head = await led(database)
        reader = await database.table("bert").connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.wait_for_news, 60)
            await wait_all_tasks_blocked()
            await append(connection, head)
        began = trio.current_time()
        await reader.wait_for_news(60)
        assert trio.current_time() == began + 60
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(TableError):
                    await reader.wait_for_news(60)

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            database.servers.fail_over()

    run(main)


def test_a_database_that_was_not_founded_is_unfit() -> None:
    async def main() -> None:
        database = FakeDatabase(head=None)
        with pytest.raises(UnfitTableError, match="no tables of a replicated log"):
            await database.table().connect()
        database.found(FIRST_HEAD)
        assert await (await database.table().connect()).head() == FIRST_HEAD

    run(main)


def test_every_statement_has_outcomes() -> None:
    of_connections = {name for name in vars(Connection) if not name.startswith("_")} - {"host", "close"}
    of_keeping = {name for name in vars(Keeping) if not name.startswith("_")} - {"host", "close", "head"}
    assert of_connections | of_keeping | {"connect", "keep", "keeping.head"} == set(OUTCOMES_OF)


def test_tables_are_founded_once_parted_dropped_and_thrown_away() -> None:
    async def main() -> None:
        database = FakeDatabase(head=None)
        keeping = await database.table().keep()
        assert await keeping.head() is None
        await keeping.found(FIRST_HEAD)
        with pytest.raises(NotAsExpectedError):
            await keeping.found(FIRST_HEAD)
        keeping = await database.table().keep()
        connection, head = await led(database)
        for _ in range(3):
            _, head = await append(connection, head, b"12345")
            await keeping.begin_part()
            await keeping.begin_part()
        _, head = await append(connection, head, b"12345")
        assert await keeping.octets() == 20
        assert await keeping.drop_through(2) == 2
        assert await connection.oldest_seq() == 3
        assert await keeping.drop_through(99) == 1
        assert await connection.oldest_seq() == 4
        with pytest.raises(NotAsExpectedError):
            await keeping.discard(FIRST_HEAD)
        keeping = await database.table().keep()
        await keeping.discard(head)
        assert await keeping.head() is None
        with pytest.raises(UnfitTableError):
            await database.table().connect()

    run(main)


def test_a_lease_never_says_less_of_what_is_witnessed() -> None:
    async def main() -> None:
        connection, head = await led(FakeDatabase())
        for _ in range(7):
            _, head = await append(connection, head)
        assert await connection.write_lease(Lease(head.epoch, HOLDER, "anna", 1, 7, head.chain))
        assert await connection.write_lease(Lease(head.epoch, HOLDER, "anna", 2, 6, b"6" * 32))
        assert await connection.lease() == Lease(head.epoch, HOLDER, "anna", 2, 7, head.chain)

    run(main)


def test_an_append_says_that_it_is_witnessed_in_the_lease_of_its_holder() -> None:
    async def main() -> None:
        connection, head = await led(FakeDatabase())
        lease = Lease(head.epoch, HOLDER, "anna", 1, 0, head.chain)
        assert await connection.write_lease(lease)
        _, head = await append(connection, head)
        assert await connection.lease() == lease._replace(witnessed_seq=1, witnessed_chain=head.chain)

    run(main)
