"""The writer's contract: what returned is durable, what was cancelled is not written, order, poison, rotation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from spool import Entry, Log, LogClosedError, LogPoisonedError, LogStalledError, Record, Witness
from spool.interface import STALL_SECONDS
from tests.world.disk import FakeDisk
from tests.world.gate import Gate
from tests.world.spool import DIRECTORY, entries, group, open_fake, read_all, run

pytestmark = pytest.mark.usefixtures("form")
#: Of what this form alone does with the disk.
on_disk = pytest.mark.parametrize("form", ["disk"], indirect=True)


def test_append_gives_consecutive_records_of_one_batch() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk) as log:
            assert log.last_seq == 0
            records = await log.append(group(1, 3))
            assert entries(list(records)) == group(1, 3)
            assert [record.seq for record in records] == [1, 2, 3]
            assert {record.batch_seq for record in records} == {1}
            assert [record.batch_end for record in records] == [False, False, True]
            last = records[-1]
            assert log.durable_end == Witness(last.segment, last.end_offset, last.seq)
            assert log.last_time_us == last.time_us
            assert log.reader.get(2) == records[1]
        assert read_all(disk) == records

    run(main)


def test_appends_that_wait_share_a_batch_in_the_order_of_the_calls() -> None:
    disk = FakeDisk()
    finished: list[int] = []

    async def main() -> None:
        gate = Gate()

        async def append(number: int) -> None:
            records = await log.append(group(number))
            assert entries(list(records)) == group(number)
            finished.append(number)

        async with open_fake(disk, offload=gate.offload) as log, trio.open_nursery() as nursery:
            gate.shut()
            for number in range(1, 6):
                nursery.start_soon(append, number)
                await wait_all_tasks_blocked()
            assert log.statistics().queue_length == 4
            assert log.last_seq == 0
            gate.open()
        statistics = log.statistics()
        assert (statistics.batches, statistics.records, statistics.queue_length) == (2, 5, 0)

    run(main)
    records = read_all(disk)
    assert entries(records) == [entry for number in range(1, 6) for entry in group(number)]
    assert [record.batch_seq for record in records] == [1, 2, 2, 2, 2]
    assert finished[0] == 1
    assert sorted(finished) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("limits", [{"batch_records_max": 2}, {"batch_bytes_max": 2000}])
def test_a_batch_is_bounded(limits: dict[str, int]) -> None:
    disk = FakeDisk()

    async def main() -> None:
        gate = Gate()
        async with open_fake(disk, offload=gate.offload, **limits) as log, trio.open_nursery() as nursery:
            gate.shut()
            for number in (1, 3, 3, 3, 3, 3):
                nursery.start_soon(log.append, group(number, payload_bytes=700))
                await wait_all_tasks_blocked()
            gate.open()

    run(main)
    assert [record.batch_seq for record in read_all(disk)] == [1, 2, 2, 4, 4, 6]


def test_what_can_be_no_batch_is_refused() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk, batch_records_max=3, batch_bytes_max=2000) as log:
            for refused in ([], group(1, 4, payload_bytes=1), [Entry(b"", bytes(2000))]):
                with pytest.raises(ValueError):
                    await log.append(refused)
            assert log.statistics().queue_length == 0

    run(main)
    assert read_all(disk) == []


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope in front of the n-th step that any task takes."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.scope: trio.CancelScope | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.scope is not None:
            self.step -= 1
            if self.step == 0:
                self.scope.cancel()


def test_cancelled_is_not_written_and_returned_is() -> None:
    """Cancelled in front of every step that any task takes while an append is under way."""
    outcomes: list[str] = []
    step = 0
    while not outcomes or outcomes[-1] != "never cancelled":
        step += 1
        disk = FakeDisk()
        outcomes.append(append_and_cancel(disk, CancelAtStep(step)))
    assert set(outcomes) == {"cancelled", "returned", "never cancelled"}


async def append_first(log: Log, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await log.append(group(1))


def append_and_cancel(disk: FakeDisk, instrument: CancelAtStep) -> str:
    returned: list[Record] = []

    async def offload(function: Callable[..., Any], *args: Any) -> Any:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        return function(*args)

    async def main() -> str:
        async with open_fake(disk, offload=offload) as log, trio.open_nursery() as nursery:
            # One in front of it, so that it has to wait in the queue first, and one behind.
            await nursery.start(append_first, log)
            with trio.CancelScope() as instrument.scope:
                returned.extend(await log.append(group(2, 2)))
            nursery.start_soon(log.append, group(3))
        instrument.scope.cancel()
        if instrument.step > 0:
            return "never cancelled"
        return "returned" if returned else "cancelled"

    result: str = trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[instrument])
    found = entries(read_all(disk))
    written = [*group(1), *group(2, 2), *group(3)] if returned else [*group(1), *group(3)]
    assert found == written
    return result


def test_a_cancelled_block_still_answers_what_the_writer_has_taken() -> None:
    disk = FakeDisk()
    returned: list[Record] = []

    async def main() -> None:
        gate = Gate()

        async def append() -> None:
            returned.extend(await log.append(group(1)))

        with trio.CancelScope() as scope:
            async with open_fake(disk, offload=gate.offload) as log, trio.open_nursery() as nursery:
                gate.shut()
                nursery.start_soon(append)
                await wait_all_tasks_blocked()
                scope.cancel()
                nursery.cancel_scope.shield = True
                await wait_all_tasks_blocked()
                gate.open()

    run(main)
    assert read_all(disk) == returned != []


def test_leaving_writes_what_is_queued_and_takes_nothing_more() -> None:
    disk = FakeDisk()
    results: list[str] = []

    async def main() -> None:
        gate = Gate()

        async def append(number: int) -> None:
            try:
                await log.append(group(number))
            except LogClosedError:
                results.append("closed")
            else:
                results.append("written")

        async with trio.open_nursery() as outside:
            async with open_fake(disk, offload=gate.offload) as log:
                gate.shut()
                outside.start_soon(append, 1)
                await wait_all_tasks_blocked()
                outside.start_soon(append, 2)
                await wait_all_tasks_blocked()
                gate.open()
            await append(3)

    run(main)
    assert sorted(results) == ["closed", "written", "written"]
    assert entries(read_all(disk)) == [*group(1), *group(2)]


def poisoned_by(disk: FakeDisk, fail_in: int, **options: Any) -> list[str]:
    """Two appends in progress and queued when an operation fails, and one after that."""
    results: list[str] = []

    async def main() -> None:
        gate = Gate()

        async def append(number: int) -> None:
            try:
                await log.append(group(number))
            except LogPoisonedError:
                results.append("poisoned")

        async with trio.open_nursery() as outside, open_fake(disk, offload=gate.offload, **options) as log:
            await log.append(group(1))
            gate.shut()
            for number in (3, 6):
                outside.start_soon(append, number)
                await wait_all_tasks_blocked()
            disk.fail_at = disk.operations + fail_in
            operations.append(disk.fail_at)
            gate.open()
            await trio.sleep_forever()

    operations: list[int] = []
    with pytest.RaisesGroup(pytest.RaisesGroup(LogPoisonedError)):
        run(main)
    # No second try of anything after the failure.
    assert disk.operations == operations[0]
    return results


@on_disk
@pytest.mark.parametrize("fail_in", [1, 2], ids=["write", "fdatasync"])
def test_a_failed_write_poisons(fail_in: int) -> None:
    disk = FakeDisk()
    assert poisoned_by(disk, fail_in) == ["poisoned", "poisoned"]
    assert disk.open_handles() == 0


@pytest.mark.parametrize("fail_in", range(1, 8), ids=lambda number: f"operation {number}")
def test_a_failed_rotation_poisons(fail_in: int) -> None:
    """Footer, its sync, and then the new segment: create, write, sync, rename, sync of the directory."""
    disk = FakeDisk()
    results = poisoned_by(disk, fail_in, segment_bytes_max=1200, batch_bytes_max=1000)
    assert results == ["poisoned", "poisoned"]
    assert disk.open_handles() == 0
    assert entries(read_all(disk)) == group(1)


@on_disk
def test_a_full_disk_poisons_and_the_log_recovers_when_there_is_space() -> None:
    disk = FakeDisk()

    async def fills() -> None:
        async with open_fake(disk) as log:
            await log.append(group(1))
            disk.capacity_bytes = 1500
            await log.append(group(3))

    with pytest.RaisesGroup(LogPoisonedError, LogPoisonedError):
        run(fills)
    disk.restart().capacity_bytes = None

    async def goes_on() -> None:
        async with open_fake(disk) as log:
            assert log.recovery.cut is not None
            await log.append(group(4))

    run(goes_on)
    assert entries(read_all(disk)) == [*group(1), *group(4)]


def test_a_failing_projection_poisons() -> None:
    disk = FakeDisk()

    def on_durable(records: Sequence[Record]) -> None:
        if records[-1].seq == 2:
            raise RuntimeError("the views are broken")

    async def main() -> None:
        async with open_fake(disk, on_durable=on_durable) as log:
            await log.append(group(1))
            with pytest.raises(LogPoisonedError):
                await log.append(group(2))
            assert log.poisoned
            with pytest.raises(LogPoisonedError):
                await log.append(group(3))

    with pytest.RaisesGroup(LogPoisonedError):
        run(main)


def test_projected_before_released() -> None:
    seen: list[int] = []

    async def main() -> None:
        async with open_fake(FakeDisk(), on_durable=lambda batch: seen.append(batch[-1].seq)) as log:
            for number in range(1, 4):
                await log.append(group(number))
                assert seen[-1] == log.last_seq == number

    run(main)


def test_recovered_before_the_first_append() -> None:
    disk = FakeDisk()
    caught_up: list[int] = []

    async def main() -> None:
        for number in (1, 2):
            async with open_fake(
                disk, on_recovered=lambda log: caught_up.extend(record.seq for record in log.reader.read(1))
            ) as log:
                await log.append(group(number))

    run(main)
    assert caught_up == [1]


def test_rotation_leaves_sealed_segments_that_stay_as_they_are() -> None:
    disk = FakeDisk()
    kept: dict[str, bytes] = {}

    async def main() -> None:
        async with open_fake(disk) as log:
            for number in range(1, 30):
                await log.append(group(number, 2))
                for info in log.reader.segments():
                    content = bytes(disk.file(DIRECTORY / info.file))
                    assert len(content) == info.bytes <= 6 << 10
                    if info.sealed:
                        assert kept.setdefault(info.file, content) == content
            infos = log.reader.segments()
        assert [info.sealed for info in infos] == [True] * (len(infos) - 1) + [False]
        assert sum(info.records for info in infos) == 58
        assert [info.first_seq for info in infos[1:]] == [info.last_seq + 1 for info in infos[:-1]]

    run(main)
    assert len(kept) > 3


def test_time_never_decreases_when_the_clock_does() -> None:
    disk = FakeDisk()
    times = iter([10, 500, 400, 300, 600, 1, 2, 3])

    async def main() -> None:
        for _ in range(2):
            async with open_fake(disk, clock=lambda: next(times)) as log:
                for number in range(1, 4):
                    await log.append(group(number))

    run(main)
    assert [record.time_us for record in read_all(disk)] == [500, 500, 500, 600, 600, 600]


def test_follow_is_gapless_across_rotations_and_slow_readers() -> None:
    disk = FakeDisk()
    total = 60
    followed: dict[str, list[Record]] = {"fast": [], "slow": [], "late": []}

    async def main() -> None:
        async def follow(name: str, from_seq: int, pause: float) -> None:
            async with aclosing(log.follow(from_seq)) as records:
                async for record in records:
                    assert record.seq <= log.last_seq
                    followed[name].append(record)
                    await trio.sleep(pause)

        async with trio.open_nursery() as outside, open_fake(disk) as log:
            outside.start_soon(follow, "fast", 1, 0)
            outside.start_soon(follow, "slow", 1, 10)
            for number in range(1, total + 1):
                await log.append(group(number))
                await trio.sleep(1)
            outside.start_soon(follow, "late", 40, 0)

    run(main)
    records = read_all(disk)
    assert followed == {"fast": records, "slow": records, "late": records[39:]}
    assert disk.open_handles() == 0


@on_disk
def test_follow_sees_the_last_durable_record_and_then_the_poison() -> None:
    disk = FakeDisk()
    followed: list[int] = []

    async def main() -> None:
        async def follow() -> None:
            with pytest.raises(LogPoisonedError):
                async for record in log.follow(1):
                    followed.append(record.seq)

        async with trio.open_nursery() as outside, open_fake(disk) as log:
            outside.start_soon(follow)
            await log.append(group(1))
            disk.fail_at = disk.operations + 2
            await log.append(group(2))

    with pytest.RaisesGroup(pytest.RaisesGroup(LogPoisonedError, LogPoisonedError)):
        run(main)
    assert followed == [1]


def test_an_impatient_append_is_told_when_the_disk_does_not_answer() -> None:
    gate = Gate()
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk, offload=gate.offload) as log:
            gate.shut()
            told: list[str] = []
            durable: list[int] = []

            async def impatient() -> None:
                with pytest.raises(LogStalledError):
                    await log.append([Entry(b"1", None)], patient=False)
                told.append("stalled")

            async def patient() -> None:
                durable.extend(record.seq for record in await log.append([Entry(b"2", None)]))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(impatient)
                await wait_all_tasks_blocked()
                nursery.start_soon(patient)
                await trio.sleep(2 * STALL_SECONDS)
                assert (told, durable) == (["stalled"], [])
                gate.open()
            # Nobody was told so, but it is there, and the log goes on.
            assert durable == [2]
            assert [record.skeleton for record in read_all(disk)] == [b"1", b"2"]

    run(main)


def test_an_append_taken_together_with_a_wanted_rotation_waits_no_longer_than_others() -> None:
    """The disk hangs while the segment is sealed, and what was taken before that is in nobody's hands yet."""

    async def main() -> None:
        gate = Gate()
        async with open_fake(FakeDisk(), offload=gate.offload) as log, trio.open_nursery() as nursery:
            await log.append(group(1))
            gate.shut()
            begun = trio.current_time()
            nursery.start_soon(log.rotate)
            told: list[float] = []

            async def append() -> None:
                with pytest.raises(LogStalledError):
                    await log.append(group(2), patient=False)
                told.append(trio.current_time() - begun)

            nursery.start_soon(append)
            await trio.sleep(9 * STALL_SECONDS)
            gate.open()
        assert told == [STALL_SECONDS]
        assert log.last_seq == 2

    trio.run(main, clock=MockClock(autojump_threshold=0))
