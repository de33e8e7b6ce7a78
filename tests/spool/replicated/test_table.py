"""What a replicated log's table promises: of the one in memory and of one in PostgreSQL (`tests/world/tables.py`).

What it promises when servers fail stands in `test_failing_servers.py`.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool.record import CHAIN_START
from spool.replicated.table import Connection, Head, Lease, NotAsExpectedError, Table, UnfitTableError
from tests.world.tables import FIRST, HOLDER, OTHER, Database, behind, found, lead, take_and_close

#: Of mock clocks or, where something hangs, of real ones.
LONG_SECONDS = 1000.0


# ------------------------------------------------------------------------------------------------ the tables


def test_a_database_is_founded_once_and_thrown_away_by_who_knows_its_head(database: Database) -> None:
    async def main() -> None:
        table = database.table()
        with pytest.raises(UnfitTableError):
            await table.connect()
        keeping = await table.keep()
        assert await keeping.head() is None
        await keeping.close()

        head = FIRST._replace(last_seq=7, chain=b"c" * 32)
        await found(table, head)
        with pytest.raises(NotAsExpectedError):
            await found(table)
        taken = await take_and_close(table, head)
        keeping = await table.keep()
        assert await keeping.head() == taken == head._replace(epoch=2, holder=OTHER)
        assert await keeping.octets() >= 0
        with pytest.raises(NotAsExpectedError):
            await keeping.discard(head)
        await keeping.close()

        keeping = await table.keep()
        await keeping.discard(taken)
        assert await keeping.head() is None
        await keeping.close()
        keeping = await table.keep()
        with pytest.raises(NotAsExpectedError):
            await keeping.discard(taken)
        await found(table)

    database.run(main)


def test_rows_go_by_parts_and_never_those_behind_or_in_the_last_part(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        keeping = await table.keep()
        assert await connection.oldest_seq() is None
        assert await keeping.drop_through(0) == 0
        for _ in range(3):
            for _ in range(2):
                row, head = behind(head, records=2)
                assert await connection.append(row, HOLDER)
            await keeping.begin_part()
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        # Rows end at 2 and 4, at 6 and 8, at 10 and 12, and at 13.
        assert await keeping.drop_through(3) == 0
        assert await connection.oldest_seq() == 1
        assert await keeping.drop_through(9) == 2
        assert await connection.oldest_seq() == 9
        assert [row.last_seq for row in await connection.rows(0, 13, 1000)] == [10, 12, 13]
        assert await keeping.drop_through(13) == 1
        assert await keeping.drop_through(13) == 0
        assert await connection.oldest_seq() == 13
        assert await connection.head() == head
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        await keeping.close()

    lead(database, main)


# ------------------------------------------------------------------------------------------------ the head


def test_of_those_who_take_the_head_at_once_one_has_it(database: Database) -> None:
    async def main() -> None:
        table = database.table()
        await found(table)
        head = FIRST
        connections = [await table.connect() for _ in range(4)]
        for turn in range(10):
            taken: dict[bytes, Head] = {}

            async def take(
                connection: Connection, holder: bytes, known: Head, taken: dict[bytes, Head]
            ) -> None:
                now = await connection.take_head(known, holder)
                if now is not None:
                    taken[holder] = now

            async with trio.open_nursery() as nursery:
                for number, connection in enumerate(connections):
                    holder = bytes([turn, number]) * 8
                    nursery.start_soon(take, connection, holder, head, taken)
            ((holder, head_now),) = taken.items()
            assert head_now == head._replace(epoch=head.epoch + 1, holder=holder)
            head = head_now
            assert await connections[0].head() == head
        for connection in connections:
            await connection.close()

    database.run(main)


def test_a_row_comes_only_from_the_holder_in_this_epoch_and_behind_the_last(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, head = behind(head, b"first", records=3, beside=b"key")
        assert await connection.append(row, HOLDER)
        assert await connection.head() == head
        assert await connection.rows(0, 3, 1000) == [row]
        right, after = behind(head)
        for wrong in (
            row,  # again
            right._replace(epoch=right.epoch - 1),
            right._replace(epoch=right.epoch + 1),
            right._replace(previous_chain=CHAIN_START),
            right._replace(first_seq=right.first_seq + 1, last_seq=right.last_seq + 1),
            right._replace(first_seq=right.first_seq - 1),
        ):
            assert not await connection.append(wrong, HOLDER)
        assert not await connection.append(right, OTHER)
        assert await connection.head() == head
        assert await connection.append(right, HOLDER)
        assert await connection.head() == after
        assert await connection.rows(0, 4, 1000) == [row, right]

    lead(database, main)


def test_who_was_deposed_appends_nothing(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, head = behind(head)
        assert await connection.append(row, HOLDER)
        new = await take_and_close(table, head)
        assert new == head._replace(epoch=head.epoch + 1, holder=OTHER)
        assert not await connection.append(behind(head)[0], HOLDER)
        # It would have to know that it is of another epoch, and another's.
        assert not await connection.append(behind(new)[0], HOLDER)
        assert await connection.take_head(head, HOLDER) is None
        assert await connection.head() == new
        # Who looks may take it again.
        assert await connection.take_head(new, HOLDER) == new._replace(epoch=new.epoch + 1, holder=HOLDER)

    lead(database, main)


# ------------------------------------------------------------------------------------------------ what is read


def test_rows_come_in_order_up_to_so_many_octets_and_at_least_one(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        rows = []
        for size in (10, 3000, 10, 200_000, 0):
            row, head = behind(head, bytes(size), records=2)
            assert await connection.append(row, HOLDER)
            rows.append(row)
        assert await connection.rows(0, 10, 1 << 20) == rows
        assert await connection.rows(10, 20, 1 << 20) == []
        assert await connection.rows(0, 0, 1 << 20) == []
        assert await connection.rows(2, 7, 1 << 20) == rows[1:3]
        # 3010 octets, and one more.
        assert await connection.rows(0, 10, 3010) == rows[:2]
        assert await connection.rows(0, 10, 3009) == rows[:1]
        # What is larger than all that is wanted comes alone.
        assert await connection.rows(6, 10, 1000) == rows[3:4]
        assert await connection.rows(2, 10, 1) == rows[1:2]

    lead(database, main)


def test_the_lease_is_the_holders_and_what_is_witnessed_never_goes_back(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        assert await connection.lease() is None
        lease = Lease(head.epoch, HOLDER, "https://anna:8443", 1, 0, CHAIN_START)
        assert not await connection.write_lease(lease._replace(holder=OTHER))
        assert not await connection.write_lease(lease._replace(epoch=head.epoch - 1))
        assert not await connection.write_lease(lease._replace(epoch=head.epoch + 1))
        # What is witnessed is not on this server.
        assert not await connection.write_lease(lease._replace(witnessed_seq=1))
        assert await connection.lease() is None
        assert await connection.write_lease(lease)
        assert await connection.lease() == lease

        row, head = behind(head, records=5)
        assert await connection.append(row, HOLDER)
        lease = lease._replace(counter=2, witnessed_seq=5, witnessed_chain=row.chain)
        assert await connection.write_lease(lease)
        assert await connection.lease() == lease
        lower = lease._replace(counter=3, witnessed_seq=4, witnessed_chain=b"c" * 32)
        assert await connection.write_lease(lower)
        assert await connection.lease() == lease._replace(counter=3)

        new = await take_and_close(table, head)
        assert new is not None
        assert not await connection.write_lease(lease)
        theirs = Lease(new.epoch, OTHER, "https://bert:8443", 1, 5, row.chain)
        assert await connection.write_lease(theirs)
        assert await connection.lease() == theirs

    lead(database, main)


def test_a_lease_that_was_renewed_is_not_taken(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        lease = Lease(head.epoch, HOLDER, "https://anna:8443", 1, 0, CHAIN_START)
        assert await connection.take_lease(lease, None)
        assert not await connection.take_lease(lease._replace(counter=9), None)
        renewed = lease._replace(counter=2)
        assert await connection.write_lease(renewed)
        new = await take_and_close(table, head)
        assert new is not None
        theirs = Lease(new.epoch, OTHER, "https://bert:8443", 1, 0, CHAIN_START)
        assert not await connection.take_lease(theirs, lease)
        assert not await connection.take_lease(theirs, None)
        assert await connection.lease() == renewed
        assert await connection.take_lease(theirs, renewed)
        assert await connection.lease() == theirs

    lead(database, main)


def test_nodes_say_of_themselves_what_they_like(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        assert await connection.nodes() == {}
        odd = {"seq": 1 << 40, "list": [1, None, {"ü": "\0"}], "float": 0.25}
        await connection.write_node("anna", {"seq": 1})
        await connection.write_node("bert", {})
        await connection.write_node("anna", odd)
        assert await connection.nodes() == {"anna": odd, "bert": {}}
        assert await connection.remove_node("bert")
        assert not await connection.remove_node("bert")
        assert await connection.nodes() == {"anna": odd}

    lead(database, main)


def test_the_servers_clock_goes_on(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        before = await connection.time_us()
        await trio.sleep(0.01)
        assert before < await connection.time_us()

    lead(database, main)


def test_news_come_to_who_waits_and_others_wait_for_so_long(database: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        follower = await table.connect()
        await follower.wait_for_news(0)
        await follower.wait_for_news(0.01)
        row, head = behind(head)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.wait_for_news, LONG_SECONDS)
            await wait_all_tasks_blocked()
            assert await connection.append(row, HOLDER)
        await follower.wait_for_news(0.01)
        lease = Lease(head.epoch, HOLDER, "", 1, row.last_seq, row.chain)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.wait_for_news, LONG_SECONDS)
            await wait_all_tasks_blocked()
            assert await connection.write_lease(lease)
        await follower.close()

    lead(database, main)
