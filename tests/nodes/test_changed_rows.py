"""Somebody changes rows in the database: a node says so, serves what it has, and goes on when they are right again."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from spool.replicated.table import Row
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.servers import Tables, put_lease


def put_row(machines: Machines, row: Row) -> None:
    """In the place of the one that is there."""

    def change(tables: Tables) -> None:
        tables.rows = [row if row.first_seq == other.first_seq else other for other in tables.rows]

    machines.database.servers.primary.write(change)


def changed(row: Row, column: str) -> Row:
    octets = getattr(row, column)
    return row._replace(**{column: octets[:-1] + bytes((octets[-1] ^ 1,)) if octets else b"from nobody"})


async def until_troubled(machines: Machines, machine: Machine) -> str:
    await machines.until(lambda: not machine.is_up or machine.node.trouble is not None)
    assert machine.ended_by is None
    assert machine.node.trouble is not None
    return machine.node.trouble


@pytest.mark.parametrize("column", ["data", "beside"])
def test_a_row_that_was_changed_is_named_and_does_not_end_a_node(tmp_path: Path, column: str) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            (follower,) = (machine for machine in machines.all if machine is not leader)
            await follower.stop()
            first = await leader.world.send(to="first@example.com")
            await leader.world.until(first, "sent")
            row = machines.database.shown.rows_after(follower.seq)[1]
            put_row(machines, changed(row, column))
            await follower.begin()
            trouble = await until_troubled(machines, follower)
            assert f"the row with sequences {row.first_seq} to {row.last_seq}" in trouble
            await trio.sleep(60)
            assert follower.is_up
            # What is in front of it is whole.
            assert follower.seq == row.first_seq - 1
            put_row(machines, row)
            await machines.until_level()
            assert (await follower.world.message(first))["status"] == "sent"

    run(main)


@pytest.mark.parametrize("column", ["data", "beside", "chain"])
def test_who_takes_the_head_behind_a_row_that_was_changed_does_not_end(tmp_path: Path, column: str) -> None:
    """Where the lease did not say that it is witnessed, it is met when the head is taken."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            (follower,) = (machine for machine in machines.all if machine is not leader)
            await machines.until_level()
            follower.cut_off()
            await leader.world.send(to="tempfail-1+friend@example.com")
            leader.kill()
            await leader.until_ended()
            row = machines.database.shown.rows[-1]
            lease = machines.database.shown.lease
            assert lease is not None
            machines.database.servers.primary.write(
                put_lease(lease._replace(witnessed_seq=row.first_seq - 1, witnessed_chain=row.previous_chain))
            )
            put_row(machines, changed(row, column))
            follower.rejoin()
            await machines.until(lambda: not follower.is_up or "the row" in (follower.node.trouble or ""))
            assert follower.ended_by is None
            await trio.sleep(60)
            assert follower.is_up
            assert not follower.leads
            put_row(machines, row)
            assert await machines.until_led() is follower

    run(main)
