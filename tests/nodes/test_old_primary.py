"""An old primary that has come back and takes writes, while who leads is gone, too: it keeps nobody from leading."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from relay.times import SECOND_US
from tests.nodes.test_database_trouble import deliver
from tests.world.machines import Machines, open_machines
from tests.world.relay import run, virtual_clock


@asynccontextmanager
async def with_an_old_primary(
    directory: Path, lease_seconds: float, latency_seconds: float
) -> AsyncIterator[Machines]:
    """All have more than it shows."""
    nodes = f"lease_seconds = {lease_seconds}"
    async with open_machines(directory, "anna", "bert", "carl", nodes=nodes) as machines:
        await machines.until_led()
        await machines.until_level()
        machines.database.latency_seconds = latency_seconds
        machines.database.servers.fail_over(old_comes_back=True)
        await deliver(machines, "friend@example.com")
        await machines.until_level()
        yield machines


@pytest.mark.parametrize("latency_seconds", [0.0, 0.06])
def test_another_leads_when_the_leader_is_killed(tmp_path: Path, latency_seconds: float) -> None:
    async def main() -> None:
        async with with_an_old_primary(tmp_path, 2.0, latency_seconds) as machines:
            leader = await machines.until_led()
            leader.kill()
            await leader.until_ended()
            assert await machines.until_led() is not leader

    run(main)


# What was tried next, and proved nothing, came a moment before the lease was seen to be stale, again and again.
@pytest.mark.parametrize(
    ("lease_seconds", "latency_seconds"), [(1.0, 0.0), (2.0, 0.1), (2.3, 0.06), (3.3, 0.1)]
)
def test_one_that_is_begun_alone_leads(tmp_path: Path, lease_seconds: float, latency_seconds: float) -> None:
    async def main() -> None:
        async with with_an_old_primary(tmp_path, lease_seconds, latency_seconds) as machines:
            for machine in machines.all:
                machine.kill()
                await machine.until_ended()
            await machines.all[2].begin()
            assert await machines.until_led() is machines.all[2]

    run(main)


def test_what_nodes_say_of_themselves_is_said_where_the_log_goes_on(tmp_path: Path) -> None:
    """The old primary has not died: connections to it go on."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert", "carl") as machines:
            await machines.until_level()
            servers = machines.database.servers
            _, promoted, third = servers.all
            promoted.promote()
            servers.primary = promoted
            third.follow(promoted)
            await deliver(machines, "friend@example.com")
            await machines.until_level()
            await trio.sleep(10)

            def spoke_lately(name: str) -> bool:
                facts = json.loads(machines.database.shown.nodes[name])
                return bool(facts["written_at"] > virtual_clock() - 3 * SECOND_US)

            assert [machine.name for machine in machines.all if not spoke_lately(machine.name)] == []

    run(main)


def test_who_reaches_an_old_primary_alone_does_not_say_that_it_has_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            await machines.until_level()
            (follower,) = [machine for machine in machines.all if machine is not leader]
            old = machines.database.servers.primary
            machines.database.servers.fail_over(old_comes_back=True)
            follower.table.reach_only([old.name])
            since = trio.current_time()
            await deliver(machines, "friend@example.com")
            await trio.sleep(30)
            assert follower.seq < leader.seq
            assert follower.node.level_at <= since

    run(main)


def test_a_leader_that_is_left_with_a_primary_without_standbys_is_not_sure(tmp_path: Path) -> None:
    """The two are cut off from all others, and the server takes its standbys for alive until its own time has passed:
    it goes on to renew the lease, and another node leads by the server that took its place."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            (other,) = (machine for machine in machines.all if machine is not leader)
            await machines.until_level()
            old = machines.database.servers.part()
            all_hosts = leader.table.hosts
            leader.table.reach_only([old.name])
            other.table.reach_only([host for host in all_hosts if host != old.name])
            until = trio.current_time() + 30
            while trio.current_time() < until:
                await trio.sleep(0.02)
                sure = [each for each in (leader, other) if each.leads and each.node.why_not_sure() is None]
                assert len(sure) < 2
            assert sure == [other]
            assert leader.leads
            for machine in machines.all:
                machine.table.reach_only(all_hosts)
            old.kill()
            await leader.until_ended()
            await leader.begin()
            await machines.until_level()

    run(main)
