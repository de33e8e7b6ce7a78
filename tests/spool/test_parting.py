"""The log of several machines becomes this one's alone: at each moment of it, it is the one or the other, and whole."""

from __future__ import annotations

from functools import partial

import pytest

from spool import LogFollowsError, Received, Record
from spool.mark import read_mark
from tests.spool.test_following import appended_elsewhere
from tests.world.disk import FakeDisk, State, surviving_subsets
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

follow_fake = partial(open_fake, follows=True)


@pytest.fixture(scope="module")
def made() -> tuple[list[Record], list[Received]]:
    return appended_elsewhere(6)


def test_it_is_opened_as_one_machine_s_from_then_on(made: tuple[list[Record], list[Received]]) -> None:
    records, batches = made
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log:
            await log.receive(batches)
            await log.part()
            await log.part()
            with pytest.raises(LogFollowsError):
                await log.append(group(1))
        assert read_mark(disk, DIRECTORY) is None
        async with open_fake(disk) as log:
            (first, *_) = await log.append(group(7))
            assert first.seq == len(records) + 1

    run(main)


def test_one_machine_s_log_has_nothing_to_part_from() -> None:
    async def main() -> None:
        async with open_fake(FakeDisk()) as log:
            with pytest.raises(AssertionError):
                await log.part()

    run(main)


def test_power_fails_at_each_step(made: tuple[list[Record], list[Received]]) -> None:
    """Without its mark the log is whole; with it, it is opened as before, and what is missing is received again."""
    records, batches = made
    disk = FakeDisk()
    crashed: dict[State, FakeDisk] = {}

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            one = disk.crash(surviving)
            crashed.setdefault(one.state(), one)

    async def story() -> None:
        async with follow_fake(disk) as log:
            await log.receive(batches)
            disk.after_operation = crash_here
            await log.part()

    run(story)
    crash_here()
    alone = 0

    async def main() -> None:
        nonlocal alone
        for one in crashed.values():
            chains = [record.chain for record in records]
            if read_mark(one, DIRECTORY) is None:
                alone += 1
                async with open_fake(one) as log:
                    assert log.recovery.cut is None
                    assert log.last_seq == len(records)
            else:
                async with follow_fake(one) as log:
                    await log.receive([batch for batch in batches if batch.first_seq > log.last_seq])
            assert [record.chain for record in read_all(one)] == chains

    run(main)
    assert 0 < alone < len(crashed)
