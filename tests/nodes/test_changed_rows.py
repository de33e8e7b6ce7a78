"""Somebody changes rows in the database: a node says so, serves what it has, and goes on when they are right again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from spool.replicated.table import Row
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.servers import Tables, put_lease
from tests.world.stream import Closed, Refused, open_stream


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


@pytest.mark.parametrize("column", ["previous_chain", "chain", "data"])
def test_who_cannot_take_a_row_knows_who_leads_and_has_it_decide(tmp_path: Path, column: str) -> None:
    """From its start on: it never was level."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            (follower,) = (machine for machine in machines.all if machine is not leader)
            await follower.stop()
            await leader.world.until(await leader.world.send(to="first@example.com"), "sent")
            row = machines.database.shown.rows_after(follower.seq)[1]
            put_row(machines, changed(row, column))
            await follower.begin()
            await until_troubled(machines, follower)
            assert follower.node.led is not None
            assert follower.node.led.name == leader.name
            message_id = await follower.world.send(to="second@example.com")
            await leader.world.until(message_id, "sent")
            _, ready, _ = await follower.world.request("GET", "/readyz")
            assert (ready["status"], ready["accepting"], ready["role"]) == ("ready", True, "follower")
            assert ready["trouble"] == follower.node.trouble
            # Others are told in its row, a second later.
            await trio.sleep(2)
            assert "row" in str(json.loads(machines.database.shown.nodes[follower.name])["trouble"])
            # And it does not lead when nobody does.
            leader.kill()
            await leader.until_ended()
            await trio.sleep(60)
            assert follower.is_up
            assert not follower.leads
            assert follower.node.led is None
            put_row(machines, row)
            assert await machines.until_led() is follower
            assert follower.node.trouble is None
            await follower.world.until(message_id, "sent")

    run(main)


def test_a_log_that_has_parted_answers_no_member(tmp_path: Path) -> None:
    """What a leader wrote there stands behind another record than the last one of this log."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            (follower,) = (machine for machine in machines.all if machine is not leader)
            await machines.until_level()
            follower.cut_off()
            stood_at = follower.seq
            await leader.world.until(await leader.world.send(to="first@example.com"), "sent")
            chain = follower.world.core.store.of_several_machines.last_chain
            # As after a restore of the database, and an append of somebody who was behind: here it is this log.
            segment_end = follower.world.core.store.of_several_machines._writer._segment
            segment_end.end = segment_end.end._replace(chain=bytes(32))
            async with open_stream(follower.world) as stream:
                follower.rejoin()
                await machines.until(lambda: follower.node.trouble is not None)
                await machines.until(lambda: "parted" in str(follower.node.trouble))
                # Who reads it would wait for ever.
                with pytest.raises(Closed) as closed:
                    await stream.next()
            assert closed.value.code == 1001
            with pytest.raises(Refused) as refused:
                async with open_stream(follower.world):
                    pass
            assert refused.value.status == 503
            for path in ("/v1/events", "/v1/messages/1", "/console/"):
                assert (await follower.world.request("GET", path))[0] == 503, path
            status, ready, _ = await follower.world.request("GET", "/readyz")
            assert (status, ready["error"]) == (503, follower.node.trouble)
            assert (await follower.world.request("GET", "/healthz"))[0] == 200
            assert follower.is_up
            segment_end.end = segment_end.end._replace(chain=chain)
            await machines.until_level()
            assert (await follower.world.request("GET", "/readyz"))[0] == 200
            async with open_stream(follower.world, cursor=stood_at) as stream:
                assert (await stream.next())["seq"] > stood_at

    run(main)
