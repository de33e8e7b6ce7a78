"""A node that was away: what it has done when it opens its doors."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.file_names import LOG_DIRECTORY
from relay.nodes.before_serving import PATIENCE_SECONDS, prepare
from spool import erasure, strip
from tests.world.directories import names_in
from tests.world.erasing import erase
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.removals import FRIEND


async def with_one_away(machines: Machines) -> tuple[Machine, Machine, int]:
    """Who leads, who is away, and a message that both have."""
    leader = await machines.until_led()
    message_id = await leader.world.send(to=FRIEND)
    await leader.world.until_final(message_id)
    await machines.until_level()
    away = next(machine for machine in machines.all if machine is not leader)
    await away.stop()
    return leader, away, message_id


def test_what_was_erased_meanwhile_it_has_not_and_shows_to_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, away, message_id = await with_one_away(machines)
            await erase(leader.world, recipient=FRIEND)
            seq = leader.seq
            assert names_in(away.directory / LOG_DIRECTORY, FRIEND)
            await away.begin()
            # Nothing has happened since it serves.
            assert away.seq >= seq
            assert not names_in(away.directory / LOG_DIRECTORY, FRIEND)
            status, shown, _ = await away.world.request("GET", f"/v1/messages/{message_id}")
            assert status == 200
            assert FRIEND not in str(shown)

    run(main)


def test_an_old_primary_does_not_know_what_was_erased(tmp_path: Path) -> None:
    """It has come back, and shows no more than the node has that was away."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, away, _ = await with_one_away(machines)
            machines.database.servers.fail_over(old_comes_back=True)
            await erase(leader.world, recipient=FRIEND)
            seq = leader.seq
            await away.begin()
            assert away.seq >= seq
            assert not names_in(away.directory / LOG_DIRECTORY, FRIEND)

    run(main)


def test_before_it_serves_it_pauses_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause for each 32 records was most of the time that a node from a backup took to begin."""
    monkeypatch.setattr(strip, "RECORDS_PER_PAUSE", 1)
    pauses: list[bool] = []

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, away, _ = await with_one_away(machines)
            await erase(leader.world, recipient=FRIEND)
            monkeypatch.setattr(erasure, "_let_others_work", lambda: pauses.append(True))
            await away.begin()
            assert not names_in(away.directory / LOG_DIRECTORY, FRIEND)
            assert not pauses
            other = await leader.world.send(to=f"another-{FRIEND}")
            await leader.world.until_final(other)
            await machines.until_level()
            await erase(leader.world, recipient=f"another-{FRIEND}")
            await machines.until(lambda: not names_in(away.directory / LOG_DIRECTORY, f"another-{FRIEND}"))
            assert pauses

    run(main)


def test_where_the_database_is_away_it_serves_what_it_has(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            _, away, message_id = await with_one_away(machines)
            away.cut_off()
            began = trio.current_time()
            await away.begin()
            assert trio.current_time() - began < 3 * PATIENCE_SECONDS
            status, _, headers = await away.world.request("GET", f"/v1/messages/{message_id}")
            assert (status, dict(headers)["atmos-lag"]) == (200, "unknown")

    run(main)


def test_who_wants_it_to_stop_waits_for_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            follower = next(machine for machine in machines.all if machine is not leader)
            follower.cut_off()
            await trio.sleep(1)
            began = trio.current_time()
            await prepare(follower.world.core, follower.node, partial(trio.sleep, 1))
            assert trio.current_time() - began == 1

    run(main)


def test_it_has_removed_what_it_owes_before_it_serves(tmp_path: Path) -> None:
    """Whoever else removes payloads at that moment is waited for."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            core, is_done = leader.world.core, trio.Event()

            async def prepare_and_say() -> None:
                await prepare(core, leader.node, trio.sleep_forever)
                is_done.set()

            async with trio.open_nursery() as nursery:
                async with core.erasing:
                    nursery.start_soon(prepare_and_say)
                    await wait_all_tasks_blocked()
                    assert not is_done.is_set()
                await is_done.wait()

    run(main)


def test_an_old_primary_that_comes_back_with_it_does_not_tell_it_that_it_has_all(tmp_path: Path) -> None:
    """One machine had both, and was away. What is on that server is what this node had when they went."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader, away, message_id = await with_one_away(machines)
            servers = machines.database.servers
            old = servers.primary
            away.table.hosts = [old.name, *(host for host in away.table.hosts if host != old.name)]
            away.table.reach_only(away.table.hosts)
            servers.fail_over(old_comes_back=True)
            leader.table.reach_only([host for host in leader.table.hosts if host != old.name])
            await machines.until_led()
            await erase(leader.world, recipient=FRIEND)
            await away.begin()
            status, shown, _ = await away.world.request("GET", f"/v1/messages/{message_id}")
            assert status == 200
            assert FRIEND not in str(shown)
            assert not names_in(away.directory / LOG_DIRECTORY, FRIEND)

    run(main)
