"""Power fails for a machine that leads, and for one that follows: after every operation of its disk, beside each row.

Its file is synced now and then only, so any part of what was written since is lost. After each crash the machine starts
again over the same database: it must have everything that was acknowledged, be what the table is, and be able to lead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import Record
from spool.durability import Batch, Verdict
from spool.errors import LostRowsError
from tests.world.disk import FakeDisk, State, surviving_subsets
from tests.world.replicated import Noting, assert_is_beginning, entries_of, open_node
from tests.world.spool import group, read_all, run
from tests.world.table import FakeDatabase

APPENDS = 7


@dataclass
class Crash:
    after: str
    disk: FakeDisk
    database: FakeDatabase
    acknowledged: list[Record]


class WritesItsOwnFileFirst(Noting):
    """A leader that does not wait for the table."""

    async def make_durable(self, batch: Batch) -> Verdict:
        write_own, self._write_own = self._write_own, nothing
        await write_own(batch)
        verdict = await super().make_durable(batch)
        self._write_own = write_own
        return verdict


async def nothing(batch: Batch) -> None:
    pass


def crashes(whose: str, form: type[Noting] = Noting) -> list[Crash]:
    """Every different state that a crash of this machine can leave, of its disk and of the database."""
    database = FakeDatabase()
    disks = {"anna": FakeDisk(), "bert": FakeDisk()}
    disk = disks[whose]
    acknowledged: list[Record] = []
    found: dict[tuple[State, int, int], Crash] = {}

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            key = crashed.state(), len(database.shown.rows), len(acknowledged)
            if key not in found:
                found[key] = Crash(disk.log[-1], crashed, database.copy(), list(acknowledged))

    disk.after_operation = crash_here
    run(lambda: live(database, disks, acknowledged, crash_here, form))
    crash_here()
    return list(found.values())


async def live(
    database: FakeDatabase,
    disks: dict[str, FakeDisk],
    acknowledged: list[Record],
    crash_here: Callable[[], None],
    form: type[Noting],
) -> None:
    async with (
        open_node(database, "anna", disk=disks["anna"]) as anna,
        open_node(database, "bert", disk=disks["bert"]) as bert,
        trio.open_nursery() as nursery,
    ):

        async def write_own(batch: Batch) -> None:
            crash_here()  # the row is there, and nothing else
            await anna.log.write_unsynced(batch)

        nursery.start_soon(bert.following.run)
        anna.form = form
        await anna.lead(write_own=write_own)
        nursery.start_soon(anna.renew_lease)
        for number in range(1, APPENDS + 1):
            acknowledged += await anna.log.append(group(number, 1 + number % 3))
            await wait_all_tasks_blocked()
            assert bert.log.last_seq == anna.log.last_seq
            if number % 3 == 0:
                assert await anna.log.sync() == await bert.log.sync() == anna.log.last_seq
        nursery.cancel_scope.cancel()


def check(crash: Crash) -> int:
    """Start again; how many records of its own file the machine had lost."""
    disk, database = crash.disk.copy(), crash.database.copy()
    rows = list(database.shown.rows)
    there = entries_of(rows)

    async def main() -> int:
        async with open_node(database, "anna", disk=disk) as anna:
            lost = len(there) - anna.log.last_seq
            await anna.lead()
            assert anna.log.last_seq == len(there)
            found = list(anna.log.read(1))
            assert [record.chain for record in found[: len(crash.acknowledged)]] == [
                record.chain for record in crash.acknowledged
            ], crash.after
            await anna.log.append(group(99))
        return lost

    lost: int = run(main)
    assert_is_beginning(read_all(disk), database.shown.rows)
    assert entries_of(database.shown.rows) == [*there, *group(99)]
    assert disk.open_handles() == 0
    return lost


@pytest.mark.parametrize("whose", ["anna", "bert"])
def test_a_machine_has_everything_again_after_every_crash(whose: str) -> None:
    found = crashes(whose)
    lost = {check(crash) for crash in found}
    assert len(found) > 200
    # Nothing of its own file in some, and in others more than one whole batch.
    assert min(lost) == 0
    assert max(lost) > 3


def test_a_leader_that_writes_its_own_file_first_is_found() -> None:
    failures = 0
    for crash in crashes("anna", WritesItsOwnFileFirst):
        try:
            check(crash)
        except* LostRowsError:
            failures += 1
    assert failures > 0
