"""A node that was removed is none any more, whatever it still has: it is not answered, it ends, and does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.nodes.joining import LATELY_SECONDS, remove
from relay.nodes.members import removal
from relay.refusals import Refusal
from spool.errors import LogDeposedError
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.servers import put_node

NAMES = ("anna", "bert", "carl")


async def a_follower(machines: Machines) -> tuple[Machine, Machine]:
    """Who leads, and another one, who knows each other."""
    leader = await machines.until_led()
    follower = next(machine for machine in machines.all if machine is not leader)
    for one, other in ((leader, follower), (follower, leader)):
        await machines.until(lambda one=one, other=other: other.name in one.node.members.identities)  # type: ignore[misc]
    return leader, follower


def test_one_that_was_cut_off_from_the_database_is_not_answered_and_ends_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            leader, follower = await a_follower(machines)
            assert await follower.world.send(to="friend@example.com")
            follower.table.cut_off()
            await trio.sleep(LATELY_SECONDS + 5)
            assert follower.is_up
            await remove(machines.database.table(), follower.name)
            await machines.until(lambda: follower.name not in leader.node.members.identities)
            seq = leader.seq
            status, answer = await follower.world.post_send(to="friend@example.com")
            assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            assert leader.seq == seq
            refused = [record for record in caplog.records if record.message == "node.refused"]
            assert vars(refused[-1])["node"] == follower.name
            follower.table.rejoin()
            await follower.until_ended()
            assert isinstance(follower.ended_by, LogDeposedError)
            assert f"{follower.name}: this node was removed from the relay at" in str(follower.ended_by)
            assert "node.removed" in [record.message for record in caplog.records]
            # Its row is not there, and does not come back.
            await follower.begin()
            assert isinstance(follower.ended_by, Refusal)
            assert f"`atmos-relay node add DIR {follower.name}` at another node" in str(follower.ended_by)
            assert follower.name not in machines.database.shown.nodes

    run(main)


def test_one_that_leads_leads_no_more(tmp_path: Path) -> None:
    """Only its row was silent: what it says went nowhere for a minute, and its appends did not."""

    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            leader, _ = await a_follower(machines)
            gone = removal(leader.name, leader.node.identity, machines.database.now_us())
            machines.database.servers.primary.write(put_node(*gone))
            other = await machines.until_led_by_another(leader)
            await leader.until_ended()
            assert "was removed" in str(leader.ended_by)
            assert leader.name not in other.node.members.identities
            assert await other.world.send(to="friend@example.com")

    run(main)


def test_one_that_was_away_at_its_start_ends_before_it_writes_a_row(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, *NAMES) as machines:
            _, follower = await a_follower(machines)
            await follower.stop()
            await trio.sleep(LATELY_SECONDS + 5)
            await remove(machines.database.table(), follower.name)
            follower.table.cut_off()
            await follower.begin()
            assert follower.is_up
            follower.table.rejoin()
            await follower.until_ended()
            assert "was removed" in str(follower.ended_by)
            assert follower.name not in machines.database.shown.nodes

    run(main)


def test_nobody_takes_the_lead_who_was_removed(tmp_path: Path) -> None:
    """It has looked at the rows a moment before, and all the others are gone."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, follower = await a_follower(machines)
            leader.kill()
            await leader.until_ended()
            gone = removal(follower.name, follower.node.identity, machines.database.now_us())
            machines.database.servers.primary.write(put_node(*gone))
            await follower.until_ended()
            assert "was removed" in str(follower.ended_by)
            await leader.begin()
            assert await machines.until_led() is leader

    run(main)
