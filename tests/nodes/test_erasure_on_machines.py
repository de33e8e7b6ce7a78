"""What is erased on several machines is erased on each, and whoever gave the order hears who is late."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio

from relay import own_stripping
from relay.file_names import LOG_DIRECTORY
from relay.nodes import tail
from relay.nodes.facts import Facts, read_rows
from relay.nodes.tail import FIRST_SECONDS
from spool.disk import RealDisk
from tests.world.directories import names_in
from tests.world.erasing import erase
from tests.world.machines import Machine, Machines, open_machines
from tests.world.relay import run
from tests.world.removals import FRIEND


def is_named(machine: Machine) -> bool:
    return bool(names_in(machine.directory / LOG_DIRECTORY, FRIEND))


def other_than(machines: Machines, leader: Machine) -> Machine:
    return next(machine for machine in machines.all if machine is not leader)


async def sent(machines: Machines) -> Machine:
    leader = await machines.until_led()
    message_id = await leader.world.send(to=FRIEND)
    await leader.world.until_final(message_id)
    await machines.until_level()
    assert all(is_named(machine) for machine in machines.all)
    return leader


async def said(machines: Machines, name: str) -> Facts:
    connection = await machines.database.table().connect()
    rows = read_rows(await connection.nodes())
    await connection.close()
    facts = next(row for row in rows if row.name == name)
    assert isinstance(facts, Facts)
    return facts


def test_an_erasure_is_done_when_all_nodes_have_done_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await sent(machines)
            answer = await erase(leader.world, recipient=FRIEND)
            assert answer["messages"] == 1
            assert not any(is_named(machine) for machine in machines.all)
            # The rows are young.
            (owed,) = answer["owed"]
            assert owed.startswith("the database has rows from sequence 1 on, sealed under the pepper")
            # Given again, as whoever was not answered does, it finds nothing here, and the rows have it all the same.
            again = await erase(leader.world, recipient=FRIEND)
            assert again["messages"] == 0
            assert again["owed"] == answer["owed"]
            for machine in machines.all:
                assert (await said(machines, machine.name)).stripped_through >= leader.seq - 1

    run(main)


def test_a_node_that_is_away_is_named_and_strips_before_it_serves(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await sent(machines)
            away = other_than(machines, leader)
            await away.stop()
            answer = await erase(leader.world, recipient=FRIEND)
            late, rows = answer["owed"]
            assert late.startswith(f"node {away.name} has them in its files")
            assert rows.startswith("the database has rows")
            assert not is_named(leader)
            assert is_named(away)
            await away.begin()
            await machines.until_level()
            await machines.until(lambda: not is_named(away))
            await trio.sleep(2)
            assert (await said(machines, away.name)).stripped_through == away.seq

    run(main)


def test_a_node_whose_disk_is_full_says_so_and_does_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_stripping, "HOUR_US", 60_000_000)

    class FullDisk(RealDisk):
        is_full = False

        def create(self, path: Path) -> int:
            if self.is_full and path.name.endswith(".seg.tmp"):
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return super().create(path)

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await sent(machines)
            full = other_than(machines, leader)
            log = full.world.core.store.of_several_machines
            # It has been sealed, so that nothing but the rewriting fails.
            await log.erase_payloads({log.last_seq})
            disk = log._erasure._disk = FullDisk()
            disk.is_full = True
            late, _ = (await erase(leader.world, recipient=FRIEND))["owed"]
            assert late.startswith(f"node {full.name} has them in its files")
            assert "(personal data that were erased cannot be removed" in late
            assert full.is_up
            assert is_named(full)
            disk.is_full = False
            await trio.sleep(70)
            assert not is_named(full)
            assert (await said(machines, full.name)).trouble is None

    run(main)


def test_rows_go_where_a_leader_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Machines ask the database all the time, so it must not be a day.
    monkeypatch.setattr(tail, "PERIOD_SECONDS", 60.0)
    monkeypatch.setattr(tail, "HOUR_US", 5 * 1_000_000)  # times tail_hours, which are 24

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await sent(machines)
            old = leader.seq
            await trio.sleep(FIRST_SECONDS + 1)
            later = await leader.world.send()
            await leader.world.until_final(later)
            await trio.sleep(240)
            rows = machines.database.shown.rows
            assert old not in {row.last_seq for row in rows}
            assert rows == [] or rows[0].first_seq > old
            assert leader.node.tail.octets is not None
            # And both are at work as before.
            message_id = await leader.world.send(to="late@example.com")
            await leader.world.until_final(message_id)
            await machines.until_level()

    run(main)
