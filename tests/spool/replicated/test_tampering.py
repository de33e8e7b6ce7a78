"""Somebody changes what is in the tables, or removes some of it: that is named, never believed, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool.replicated.table import Connection, Head, Lease, Row, Table
from tests.spool.replicated.test_following import ANNA, Follower, Leader, follow, follower, lead
from tests.world.postgres import Servers
from tests.world.servers import put_lease
from tests.world.spool import run
from tests.world.table import FakeDatabase
from tests.world.tables import HOLDER, DatabaseInPostgres, behind
from tests.world.tables import lead as lead_in


@pytest.fixture
def database(servers: Servers) -> Iterator[DatabaseInPostgres]:
    made = DatabaseInPostgres(servers)
    yield made
    servers.drop_database(made.conninfo)


def tampered(change: Callable[[list[Row]], object]) -> tuple[Follower, list[Row]]:
    """What becomes of a follower of three rows, 1 to 6, that somebody has changed; and then they are right again."""
    database = FakeDatabase()
    bert = follower(database)
    rows: list[Row] = []

    async def main() -> None:
        anna = await lead(database)
        for number in (1, 2, 3):
            rows.append(await anna.append(number))
        await anna.renew()
        right = list(database.shown.rows)
        change(database.shown.rows)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            await trio.sleep(30)
            assert bert.troubles[-1] is not None
            assert bert.seen[-1].at > 25, "it does not know who leads"
            assert not bert.level
            applied = bert.log.last_seq
            database.shown.rows[:] = right
            await trio.sleep(10)
            assert bert.troubles[-1] is None
            assert bert.level
            assert (bert.log.last_seq, bert.log.last_chain) == (6, rows[-1].chain)
            bert.log.last_seq = applied
            nursery.cancel_scope.cancel()

    run(main)
    return bert, rows


def put(number: int, **columns: object) -> Callable[[list[Row]], None]:
    def change(rows: list[Row]) -> None:
        rows[number] = rows[number]._replace(**columns)

    return change


@pytest.mark.parametrize(
    ("change", "applied", "said"),
    [
        (put(0, previous_chain=b"?" * 32), 0, "sequences 1 to 2"),
        (put(0, chain=b"?" * 32), 0, "does not stand behind the row before it"),
        (put(0, data=b"\1nothing"), 0, "sequences 1 to 2"),
        (put(0, data=b""), 0, "its form is None"),
        (put(0, epoch=2**62), 0, "its epoch is"),
        (put(0, last_seq=1), 0, "no row with the sequences 2 to 2"),
        (put(0, last_seq=9), 0, "no row with the sequences 1 to 6"),
        (put(1, epoch=0), 2, "its epoch is 0"),
        (put(1, previous_chain=b"?" * 32), 0, "does not stand behind the row before it"),
        (put(1, chain=b"?" * 32), 2, "does not stand behind the row before it"),
        (put(1, data=b"\1nothing"), 2, "sequences 3 to 4"),
        (put(2, previous_chain=b"?" * 32), 2, "does not stand behind the row before it"),
        (put(2, epoch=2**63 - 1), 4, "its epoch is"),
        (lambda rows: rows.pop(0), 0, "the table begins with 3"),
        (lambda rows: rows.pop(1), 0, "no row with the sequences 3 to 4"),
        (lambda rows: rows.pop(2), 4, "no row with the sequences 5 to 6"),
        (lambda rows: rows.clear(), 0, "has no rows any more"),
    ],
)
def test_a_row_that_somebody_changed_or_removed_is_named_and_waited_for(
    change: Callable[[list[Row]], object], applied: int, said: str
) -> None:
    bert, _ = tampered(change)
    assert any(said in str(trouble) for trouble in bert.troubles), bert.troubles
    assert bert.log.last_seq == applied


def test_rows_that_are_removed_behind_the_log_are_not_taken_for_a_tail_that_is_gone() -> None:
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        for number in (1, 2, 3):
            await anna.append(number)
        await anna.renew()
        row = database.shown.rows.pop(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            await trio.sleep(10)
            database.shown.rows.append(row)
            await trio.sleep(10)
            assert bert.log.last_seq == 6
            await anna.append(4)
            database.shown.rows.pop()
            await trio.sleep(10)
            assert "no row with the sequences 7 to 8" in str(bert.troubles[-1])
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize(("seq", "chain"), [(2**63 - 1, b"4" * 32), (4, b"4" * 32)])
def test_a_lease_that_cannot_be_is_named_and_its_word_does_not_count(seq: int, chain: bytes) -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        await anna.append(1)
        await wait_all_tasks_blocked()
        row = await anna.append(2)
        server = database.servers.primary
        lease = Lease(2, ANNA, "anna", 77, seq, chain)
        assert row.last_seq == 4
        server.write(put_lease(lease))
        for _ in range(4):
            await trio.sleep(0.5)
        assert bert.seen[-1].lease == lease
        assert "the lease says" in str(bert.troubles[-1])
        # What a row stands behind needs no word.
        await anna.append(3)
        server.write(put_lease(lease._replace(counter=78)))
        await trio.sleep(1)
        assert bert.log.last_seq >= 4
        # Its own renewal writes it right again.
        await anna.renew()
        await trio.sleep(1)
        assert bert.log.last_seq == 6
        assert bert.troubles[-1] is None

    follow(story)


@pytest.mark.parametrize("word", ["witnessed_seq = 9223372036854775807", "witnessed_chain = 'another'"])
def test_a_lease_that_somebody_has_changed_is_right_again_with_the_next_renewal(
    database: DatabaseInPostgres, servers: Servers, word: str
) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, head = behind(head, records=5)
        assert await connection.append(row, HOLDER)
        lease = Lease(head.epoch, HOLDER, "", 1, row.last_seq, row.chain)
        assert await connection.write_lease(lease)
        servers.primary.execute(
            f"UPDATE replicated_log.lease SET {word}, epoch = 7, counter = 7, holder = 'nobody'",
            database.name,
        )
        # Its holder is told to look who has the head, and then takes it for what it is.
        assert not await connection.write_lease(lease._replace(counter=2))
        assert await connection.take_lease(lease._replace(counter=2), await connection.lease())
        assert await connection.lease() == lease._replace(counter=2)
        servers.primary.execute(f"UPDATE replicated_log.lease SET {word}", database.name)
        assert await connection.write_lease(lease._replace(counter=3))
        assert await connection.lease() == lease._replace(counter=3)

    lead_in(database, main)
