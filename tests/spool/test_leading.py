"""A log that has followed and leads: it goes on where it was, until another machine takes its place."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import (
    Log,
    LogDeposedError,
    LogPoisonedError,
    Received,
)
from spool.durability import Batch, Verdict
from spool.mark import read_mark
from tests.world.agreed import InMemory
from tests.world.disk import FakeDisk
from tests.world.followers import appended_elsewhere, follow_fake, placeless
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run


def test_who_leads_goes_on_where_it_followed() -> None:
    _, batches = appended_elsewhere()
    agreed = list(batches)
    disk, other = FakeDisk(), FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log, follow_fake(other) as follower:
            await log.receive(batches)
            await follower.receive(batches)
            durability = InMemory(log, agreed)
            log.lead(durability)
            assert not log.follows
            records = await log.append(group(50, 2))
            assert records[0].seq == batches[-1].last_seq + 1
            assert records[0].time_us >= batches[-1].records[-1].time_us
            assert [batch.previous_chain for batch in durability.asked] == [batches[-1].chain]
            await log.rotate()
            await log.append(group(51))
            with pytest.raises(AssertionError, match="does not follow"):
                await log.receive([])
            with pytest.raises(AssertionError, match="leads already"):
                log.lead(durability)
            await follower.receive(agreed[len(batches) :])
            assert follower.last_chain == log.last_chain

    run(main)
    assert [placeless(record) for record in read_all(disk)] == [
        placeless(record) for record in read_all(other)
    ]


def test_one_machines_log_does_not_lead_and_has_nothing_to_receive() -> None:
    async def main() -> None:
        async with open_fake(FakeDisk()) as log:
            assert not log.follows
            with pytest.raises(AssertionError, match="never followed"):
                log.lead(InMemory(log, []))
            with pytest.raises(AssertionError, match="does not follow"):
                await log.receive([])
            await log.append(group(1))
            assert await log.sync() == 1
        assert read_mark(log._disk, DIRECTORY) is None

    run(main)


# ------------------------------------------------------------------------------------------------ deposed


def test_deposed_every_append_that_waits_is_told_so_and_none_is_written() -> None:
    disk = FakeDisk()
    told: list[str] = []
    followed: list[int] = []

    async def main() -> None:
        async def append(log: Log, number: int) -> None:
            with pytest.raises(LogDeposedError):
                await log.append(group(number))
            told.append(f"append {number}")

        async def settle(log: Log) -> None:
            with pytest.raises(LogDeposedError):
                await log.settle()
            told.append("settle")

        async def rotate(log: Log) -> None:
            with pytest.raises(LogDeposedError):
                await log.rotate()
            told.append("rotate")

        async def follow(log: Log) -> None:
            with pytest.raises(LogDeposedError):
                async for record in log.follow(1):
                    followed.append(record.seq)
            told.append("follow")

        async with trio.open_nursery() as outside, follow_fake(disk) as log:
            durability = InMemory(log, [])
            log.lead(durability)
            await log.append(group(1))
            outside.start_soon(follow, log)
            durability.shut()
            durability.answers.append(LogDeposedError("the head is another's"))
            for number in (2, 3):
                outside.start_soon(append, log, number)
                await wait_all_tasks_blocked()
            outside.start_soon(settle, log)
            outside.start_soon(rotate, log)
            await wait_all_tasks_blocked()
            durability.opened.set()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                assert (log.poisoned, log.deposed) == (True, True)
                await append(log, 4)
            try:
                await trio.sleep_forever()
            finally:
                told.append("cancelled")

    with pytest.RaisesGroup(pytest.RaisesGroup(LogDeposedError)):
        run(main)
    assert sorted(told) == ["append 2", "append 3", "append 4", "cancelled", "follow", "rotate", "settle"]
    assert followed == [1]
    assert [record.seq for record in read_all(disk)] == [1]
    # Nothing is wrong with the disk.
    mark = read_mark(disk, DIRECTORY)
    assert mark is not None
    assert mark.seq == 1
    assert disk.open_handles() == 0


def test_a_batch_that_is_not_written_to_this_machines_file_leaves_no_gap_there() -> None:
    class Forgetful(InMemory):
        async def make_durable(self, batch: Batch) -> Verdict:
            return Verdict.DURABLE

    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log:
            log.lead(Forgetful(log, []))
            with pytest.raises(LogPoisonedError):
                await log.append(group(1))

    with pytest.RaisesGroup(LogPoisonedError):
        run(main)
    assert read_all(disk) == []


def test_a_file_that_cannot_be_written_behind_a_batch_that_is_durable_elsewhere_poisons() -> None:
    disk = FakeDisk()
    agreed: list[Received] = []

    async def leads() -> None:
        async with follow_fake(disk) as log:
            log.lead(InMemory(log, agreed))
            await log.append(group(1))
            disk.fail_at = disk.operations + 1
            with pytest.raises(LogPoisonedError):
                await log.append(group(2))

    with pytest.RaisesGroup(LogPoisonedError):
        run(leads)
    disk.restart()

    async def follows() -> None:
        async with follow_fake(disk) as log:
            assert log.last_seq == 1
            await log.receive(agreed[1:])

    run(follows)
    assert [record.seq for record in read_all(disk)] == [1, 2]
