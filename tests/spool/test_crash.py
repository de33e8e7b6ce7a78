"""Power fails after every operation of the disk, and any part of what was not synced survives.

After each crash the log is opened again, with and without a witness of what had been acknowledged.
Everything acknowledged must be there, identical; nothing of an append may be there without the rest of it;
and the log must go on. The same again for crashes during the recovery from a crash.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import Log, LogPoisonedError, Record, Witness, repair
from spool.recovery import TABLE
from tests.world.disk import FakeDisk, State, surviving_subsets
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

Scenario = Callable[["Story"], Awaitable[None]]


@dataclass
class Story:
    """What a scenario does to the disk, and what it was told meanwhile."""

    disk: FakeDisk
    acknowledged: list[Record] = field(default_factory=list)

    async def append(self, log: Log, number: int, size: int = 1) -> None:
        self.acknowledged.extend(await log.append(group(number, size)))
        # Appends of one batch return in one moment, and the scheduler may wake them in any order.
        self.acknowledged.sort()


@dataclass
class Crash:
    after: str
    disk: FakeDisk
    acknowledged: list[Record]

    @property
    def witness(self) -> Witness | None:
        """What LMDB would have remembered, had it synced every time."""
        if not self.acknowledged:
            return Witness(1, 0, 0)
        last = self.acknowledged[-1]
        return Witness(last.segment, last.end_offset, last.seq)


async def single_appends(story: Story) -> None:
    async with open_fake(story.disk) as log:
        for number in range(1, 9):
            await story.append(log, number, size=1 + number % 3)


async def group_commits(story: Story) -> None:
    """Appends that arrive while a batch is being written share the next one."""
    gate = trio.Event()
    gate.set()

    async def offload(function: Callable[..., Any], *args: Any) -> Any:
        await gate.wait()
        return function(*args)

    async with open_fake(story.disk, offload=offload) as log, trio.open_nursery() as nursery:
        for start in (1, 4, 7):
            gate = trio.Event()
            for number in range(start, start + 3):
                nursery.start_soon(story.append, log, number, 1 + number % 2)
                await wait_all_tasks_blocked()
            gate.set()
            await wait_all_tasks_blocked()


async def reopening(story: Story) -> None:
    for number in range(1, 10):
        async with open_fake(story.disk) as log:
            await story.append(log, number, size=2)


SCENARIOS = (single_appends, group_commits, reopening)


def crashes(scenario: Scenario, disk: FakeDisk, acknowledged: list[Record]) -> list[Crash]:
    """Every different disk that a crash during the scenario can leave."""
    story = Story(disk, list(acknowledged))
    found: dict[tuple[State, int], Crash] = {}

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            key = crashed.state(), len(story.acknowledged)
            found.setdefault(key, Crash(disk.log[-1], crashed, list(story.acknowledged)))

    async def main() -> None:
        await scenario(story)

    disk.after_operation = crash_here
    run(main)
    crash_here()
    return list(found.values())


def check(crash: Crash, witness: Witness | None) -> str:
    """Start again after the crash; the letter of the row of the decision table that was used."""
    disk = crash.disk.copy()

    async def main() -> str:
        async with open_fake(disk, witness=witness) as log:
            found = list(log.reader.read(1))
            assert found[: len(crash.acknowledged)] == crash.acknowledged, crash.after
            assert_whole(found)
            added = await log.append(group(99))
            assert read_all(disk) == [*found, *added]
            return log.recovery.row

    row: str = run(main)
    assert disk.open_handles() == 0
    return row


def assert_whole(records: list[Record]) -> None:
    """The sequence has no gap, and every append that is there is there with all its parts, in order."""
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    skeletons = [record.skeleton.decode() for record in records]
    expected = []
    for skeleton in skeletons:
        if ", part 1 of " in skeleton:
            size = int(skeleton.rpartition(" ")[2])
            expected += [skeleton.replace(", part 1 of", f", part {part} of") for part in range(1, size + 1)]
    assert skeletons == expected
    for record in records:
        assert record.batch_end == (record.seq == len(records) or records[record.seq].batch_seq > record.seq)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_acknowledged_survives_every_crash(scenario: Scenario) -> None:
    found = crashes(scenario, FakeDisk(), [])
    rows = {check(crash, witness) for crash in found for witness in (None, crash.witness)}
    assert len(found) > 50
    # The enumeration is worth something only if it reaches everything that a crash can lead to: a new log, a
    # torn tail, a clean stop, a stop between two segments; each with and without a witness.
    refusals = {row.letter for row in TABLE if row.action.name in ("REFUSE", "PASS")}
    assert rows == {row.letter for row in TABLE} - refusals


async def recovering(story: Story) -> None:
    async with open_fake(story.disk) as log:
        await story.append(log, 50)


def test_crashes_during_recovery_from_a_crash() -> None:
    torn = [crash for crash in crashes(single_appends, FakeDisk(), []) if check(crash, None) == "L"]
    assert len(torn) > 20
    again = [
        second for crash in torn for second in crashes(recovering, crash.disk.copy(), crash.acknowledged)
    ]
    assert len(again) > 500
    for second in again:
        check(second, second.witness)


def test_the_torn_tail_is_kept_whatever_interrupts_the_cut() -> None:
    """At any moment its bytes are still in the segment, or in a whole copy, of which there is one."""
    torn = next(
        crash
        for crash in crashes(single_appends, FakeDisk(), [])
        if check(crash, None) == "L" and crash.acknowledged
    )
    (name,) = (name for name in torn.disk.list_names(DIRECTORY) if name.endswith(".seg"))
    before = bytes(torn.disk.file(DIRECTORY / name))
    end = torn.acknowledged[-1].end_offset
    for second in crashes(recovering, torn.disk.copy(), torn.acknowledged):
        for disk in (second.disk.copy(), recovered(second.disk)):
            copies = [name for name in disk.list_names(DIRECTORY / "torn") if name.endswith(".bytes")]
            kept = [bytes(disk.file(DIRECTORY / "torn" / name)) for name in copies]
            assert bytes(disk.file(DIRECTORY / name)) == before or before[end:] in kept
            assert len(kept) == len(set(kept))


def recovered(disk: FakeDisk) -> FakeDisk:
    disk = disk.copy()
    repair(DIRECTORY, disk=disk)
    return disk


class AcknowledgesBeforeSync(FakeDisk):
    """A log that does not wait for its bytes to be durable."""

    def fdatasync(self, handle: int) -> None:
        pass


class NeverSyncsDirectories(FakeDisk):
    """A log that renames a segment and trusts the name."""

    def sync_directory(self, directory: Path) -> None:
        pass


class SealsWithoutSync(FakeDisk):
    """A log that begins the next segment before the footer of this one is durable."""

    def fsync(self, handle: int) -> None:
        pass


@pytest.mark.parametrize("disk", [AcknowledgesBeforeSync, NeverSyncsDirectories, SealsWithoutSync])
def test_planted_bugs_are_found(disk: type[FakeDisk]) -> None:
    failures = 0
    for crash in crashes(single_appends, disk(), []):
        try:
            check(crash, crash.witness)
        except Exception:  # noqa: BLE001 (any failure is what we want)
            failures += 1
    assert failures > 0


def test_acknowledged_after_a_failed_sync_and_a_restart_survives_a_power_loss() -> None:
    """The kernel shows the lost pages and believes them clean: only writing them again makes them durable."""
    disk = FakeDisk()

    async def fails() -> None:
        async with open_fake(disk) as log:
            await log.append(group(1))
            disk.fail_at = disk.operations + 2
            await log.append(group(2))

    with pytest.RaisesGroup(LogPoisonedError, LogPoisonedError):
        run(fails)
    disk.restart()

    async def goes_on() -> list[Record]:
        async with open_fake(disk, witness=None) as log:
            await log.append(group(3))
            return list(log.reader.read(1))

    records = run(goes_on)
    assert len(records) == 3
    assert read_all(disk.crash(frozenset())) == records


def test_a_name_whose_sync_failed_is_synced_before_records_are_trusted_to_it() -> None:
    disk = FakeDisk()

    async def append() -> None:
        async with open_fake(disk) as log:
            await log.append(group(1))

    # The eighth operation on an empty disk: the segment has its name, and the directory is to be synced.
    disk.fail_at = 8
    with pytest.raises(OSError, match="sync log/"):
        run(append)
    disk.restart()
    run(append)
    assert len(read_all(disk.crash(frozenset()))) == 1
