"""What a replicated log's table promises when servers fail, are cut off or are set otherwise, by both databases."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool.record import CHAIN_START
from spool.replicated.table import (
    Connection,
    Head,
    Lease,
    Table,
    TableError,
    UnfitTableError,
    UnknownOutcomeError,
)
from tests.world.tables import HOLDER, OTHER, Database, behind, fails, lead


def test_who_takes_the_head_waits_behind_an_append_and_sees_it(harmed: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        answers: list[object] = []

        async def append() -> None:
            answers.append(await connection.append(row, HOLDER))

        async def take(other: Connection) -> None:
            answers.append(await other.take_head(head, OTHER))

        other = await table.connect()
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(append)
            await harmed.wait_held()
            nursery.start_soon(take, other)
            await wait_all_tasks_blocked()
            harmed.go_on()
        assert True in answers
        assert after._replace(epoch=head.epoch + 1, holder=OTHER) in answers
        await other.close()

    lead(harmed, main)


# ------------------------------------------------------------------------------------------------ what is not known


def test_an_append_whose_server_dies_is_unknown_and_found_by_who_takes_the_head_anew(
    harmed: Database,
) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        outcome: list[Exception] = []
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, connection.append(row, HOLDER), outcome)
            await harmed.wait_held()
            harmed.restart_primary()
        assert [type(error) for error in outcome] == [UnknownOutcomeError]
        with pytest.raises(TableError):
            await connection.head()
        harmed.go_on()
        again = await table.connect()
        taken = await again.take_head(head, HOLDER)
        # It was on its own disk.
        assert taken == after._replace(epoch=head.epoch + 1)
        assert await again.rows(0, 1, 1000) == [row]
        await again.close()

    lead(harmed, main)


def test_an_append_that_is_cancelled_goes_on_at_the_server_and_keeps_the_head(harmed: Database) -> None:
    """Its connection is closed, and nothing tells the server to cancel it: that would be answered with success."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.append, row, HOLDER)
            await harmed.wait_held()
            nursery.cancel_scope.cancel()
        with pytest.raises(TableError):
            await connection.head()
        again = await table.connect()
        # Nobody sees it yet, and nobody else changes the head.
        assert await again.head() == head
        with pytest.raises(TableError) as waited:
            await again.take_head(head, HOLDER)
        assert not isinstance(waited.value, UnknownOutcomeError)
        harmed.go_on()
        again = await table.connect()
        assert await again.take_head(head, HOLDER) == after._replace(epoch=head.epoch + 1)
        assert await again.rows(0, 1, 1000) == [row]
        await again.close()

    lead(harmed, main)


def test_an_append_without_an_answer_in_time_is_unknown(hasty: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        hasty.stall_standbys()
        with pytest.raises(UnknownOutcomeError):
            await connection.append(row, HOLDER)
        hasty.go_on()
        again = await table.connect()
        assert await again.take_head(head, HOLDER) == after._replace(epoch=head.epoch + 1)
        await again.close()

    lead(hasty, main)


def test_an_append_whose_wait_is_cancelled_is_unknown_though_it_is_answered(harmed: Database) -> None:
    """The row is to be seen on that server, and is gone after a failover."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        outcome: list[Exception] = []
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, connection.append(row, HOLDER), outcome)
            await harmed.wait_held()
            harmed.cancel_wait()
        assert [type(error) for error in outcome] == [UnknownOutcomeError]
        again = await table.connect()
        assert await again.head() == after
        assert await again.rows(0, 1, 1000) == [row]
        await again.close()

    lead(harmed, main)


@pytest.mark.parametrize("what", ["append", "take_head"])
def test_what_is_done_while_standbys_are_set_aside_is_unknown(hasty: Database, what: str) -> None:
    """It is answered as if all were well."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        doing: Awaitable[object]
        if what == "append":
            doing = connection.append(row, HOLDER)
        else:
            doing, after = (
                connection.take_head(head, OTHER),
                head._replace(epoch=head.epoch + 1, holder=OTHER),
            )
        outcome: list[Exception] = []
        watching = await table.connect()
        hasty.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, doing, outcome)
            await hasty.wait_held()
            hasty.empty_names()
        assert [type(error) for error in outcome] == [UnknownOutcomeError]
        assert await watching.head() == after
        # Until the operator comes nothing is changed, and nobody connects.
        assert await watching.take_head(after, HOLDER) is None
        with pytest.raises(UnfitTableError):
            await table.connect()
        hasty.go_on()
        hasty.restore_names()
        again = await table.connect()
        assert await again.take_head(after, HOLDER) == after._replace(epoch=after.epoch + 1, holder=HOLDER)
        await again.close()
        await watching.close()

    lead(hasty, main)


# ------------------------------------------------------------------------------------------------ failovers


def test_a_node_whose_removal_was_answered_stays_removed(harmed: Database) -> None:
    """And what was written before it, which waits for no replication by itself."""

    async def main(table: Table, connection: Connection, head: Head) -> None:
        for name in ("anna", "bert"):
            await connection.write_node(name, {})
        outcome: list[Exception] = []
        harmed.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, connection.remove_node("anna"), outcome)
            await harmed.wait_held()
            harmed.restart_primary()
        assert [type(error) for error in outcome] == [UnknownOutcomeError]
        harmed.go_on()
        again = await table.connect()
        await again.write_node("removed/bert", {})
        assert await again.remove_node("bert")
        harmed.fail_over()
        again = await table.connect()
        assert "bert" not in (nodes := await again.nodes())
        assert "removed/bert" in nodes
        await again.close()

    lead(harmed, main)


def test_that_a_node_is_removed_already_is_said_when_it_stays_so(hasty: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        await connection.write_node("anna", {})
        outcome: list[Exception] = []
        hasty.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, connection.remove_node("anna"), outcome)
            await hasty.wait_held()
            hasty.cancel_wait()
        again = await table.connect()
        assert "anna" not in await again.nodes(), "this server shows it so, and no other has it"
        await fails(again.remove_node("anna"), outcome)
        assert [type(error) for error in outcome] == [UnknownOutcomeError] * 2
        hasty.go_on()
        again = await table.connect()
        assert not await again.remove_node("anna")
        await again.close()

    lead(hasty, main)


def test_a_lease_that_has_a_witness_outlives_the_server(harmed: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        lease = Lease(head.epoch, HOLDER, "https://anna", 1, 0, CHAIN_START)
        harmed.stall_standbys()
        assert await connection.write_lease(lease)
        assert await connection.lease() == lease
        assert not await connection.has_witness(0.2)
        harmed.go_on()
        lease = lease._replace(counter=2)
        assert await connection.write_lease(lease)
        assert await connection.has_witness(60)
        harmed.fail_over()
        again = await table.connect()
        assert await again.lease() == lease
        await again.close()

    lead(harmed, main)


def test_what_was_answered_outlives_the_server(harmed: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        rows = []
        for number in range(20):
            row, head = behind(head, bytes([number]) * 100)
            assert await connection.append(row, HOLDER)
            rows.append(row)
        harmed.fail_over()
        with pytest.raises(TableError):
            await connection.append(behind(head)[0], HOLDER)
        again = await table.connect()
        taken = await again.take_head(head, HOLDER)
        assert taken == head._replace(epoch=head.epoch + 1)
        assert await again.rows(0, 20, 1 << 20) == rows
        assert await again.append(behind(taken)[0], HOLDER)
        await again.close()

    lead(harmed, main)


def test_an_old_primary_that_comes_back_shows_what_is_lost_and_changes_nothing(hasty: Database) -> None:
    async def main(table: Table, connection: Connection, head: Head) -> None:
        row, after = behind(head)
        outcome: list[Exception] = []
        hasty.stall_standbys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, connection.append(row, HOLDER), outcome)
            await hasty.wait_held()
            hasty.fail_over()
        assert [type(error) for error in outcome] == [UnknownOutcomeError]
        hasty.bring_old_back()

        # The host that was used last is tried first, and is the old one.
        old = await table.connect()
        assert await old.head() == after
        assert await old.rows(0, 1, 1000) == [row]
        # Who leads is told that this is no place to say so: followers who look here are to look elsewhere.
        lease = Lease(head.epoch, HOLDER, "https://anna", 1, 0, CHAIN_START)
        assert not await old.write_lease(lease)
        with pytest.raises(UnknownOutcomeError):
            await old.take_head(after, HOLDER)

        table.prefer_another_host()
        new = await table.connect()
        assert new.host != old.host
        assert await new.head() == head
        assert await new.rows(0, 1, 1000) == []
        assert await new.take_head(head, HOLDER) == head._replace(epoch=head.epoch + 1)
        assert await new.write_lease(lease._replace(epoch=head.epoch + 1))
        await new.close()

    lead(hasty, main)
