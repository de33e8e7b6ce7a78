"""A batch that is known to be nowhere is encoded anew, of what somebody still waits for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import Log, LogStalledError, Received
from spool.durability import Verdict
from spool.interface import STALL_SECONDS
from tests.world.agreed import InMemory
from tests.world.disk import FakeDisk
from tests.world.spool import entries, group, open_fake, read_all, run


@asynccontextmanager
async def leading(
    disk: FakeDisk, agreed: list[Received], *answers: Verdict | Exception, **options: Any
) -> AsyncIterator[tuple[Log, InMemory]]:
    async with open_fake(disk, follows=True, **options) as log:
        durability = InMemory(log, agreed, answers)
        log.lead(durability)
        await wait_all_tasks_blocked()  # the writer is waiting
        yield log, durability


def test_it_is_tried_again_with_a_new_time_until_it_is_there() -> None:
    disk = FakeDisk()
    agreed: list[Received] = []

    async def main() -> None:
        async with leading(disk, agreed, *[Verdict.ABSENT] * 3) as (log, durability):
            records = await log.append(group(1, 2))
            assert len(durability.asked) == 4
            times = [batch.records[0].time_us for batch in durability.asked]
            assert times == sorted(set(times))
            assert [batch.records[0].seq for batch in durability.asked] == [1] * 4
            assert list(durability.asked[-1].records) == list(records)
            assert log.statistics().batches == 1
            await log.append(group(2))

    run(main)
    assert entries(read_all(disk)) == [*group(1, 2), *group(2)]
    assert [batch.first_seq for batch in agreed] == [1, 3]


def test_who_has_been_told_that_it_takes_too_long_is_left_out() -> None:
    disk = FakeDisk()
    agreed: list[Received] = []
    told: list[str] = []

    async def main() -> None:
        async def impatient(number: int) -> None:
            with pytest.raises(LogStalledError):
                await log.append(group(number), patient=False)
            told.append(f"{number} stalled")

        async def patient(number: int) -> None:
            records = await log.append(group(number))
            assert entries(list(records)) == group(number)
            told.append(f"{number} is {records[0].seq}")

        async with leading(disk, agreed) as (log, durability):
            await log.append(group(1))
            durability.shut()
            durability.answers += [Verdict.DURABLE, Verdict.ABSENT]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(patient, 2)
                await wait_all_tasks_blocked()
                for number, kind in ((3, impatient), (4, patient), (5, impatient), (6, patient)):
                    nursery.start_soon(kind, number)
                    await wait_all_tasks_blocked()
                # The batch with 2 is durable, the next one hangs.
                durability.opened.set()
                durability.shut()
                await wait_all_tasks_blocked()
                assert [len(batch.records) for batch in durability.asked] == [1, 1, 4]
                await trio.sleep(2 * STALL_SECONDS)
                assert sorted(told) == ["2 is 2", "3 stalled", "5 stalled"]
                durability.opened.set()
            assert sorted(told[3:]) == ["4 is 3", "6 is 4"]

    run(main)
    assert entries(read_all(disk)) == [entry for number in (1, 2, 4, 6) for entry in group(number)]


def test_where_nobody_is_left_nothing_is_written_and_what_is_in_doubt_is_settled() -> None:
    disk = FakeDisk()
    agreed: list[Received] = []
    settled: list[float] = []

    async def main() -> None:
        async def settle() -> None:
            await log.settle()
            settled.append(trio.current_time())

        async with leading(disk, agreed, Verdict.ABSENT) as (log, durability):
            durability.shut()
            async with trio.open_nursery() as nursery:
                with pytest.raises(LogStalledError):
                    await log.append(group(1), patient=False)
                nursery.start_soon(settle)
                await wait_all_tasks_blocked()
                assert not settled
                durability.opened.set()
            assert settled
            assert log.last_seq == 0
            assert len(durability.asked) == 1
            # And the log goes on, its watch over the next batch as well.
            durability.shut()
            with pytest.raises(LogStalledError):
                await log.append(group(2), patient=False)
            durability.opened.set()
            await log.settle()
            assert log.last_seq == 1

    run(main)
    assert entries(read_all(disk)) == group(2)
    assert len(agreed) == 1


def test_who_was_cancelled_meanwhile_is_let_go_and_not_written() -> None:
    disk = FakeDisk()
    agreed: list[Received] = []
    told: list[str] = []

    async def main() -> None:
        async def append(number: int, scope: trio.CancelScope) -> None:
            with scope:
                await log.append(group(number))
            told.append(f"{number} {'cancelled' if scope.cancelled_caught else 'written'}")

        async with leading(disk, agreed, Verdict.ABSENT) as (log, durability):
            durability.shut()
            scopes = {number: trio.CancelScope() for number in (1, 2, 3)}
            async with trio.open_nursery() as nursery:
                for number, scope in scopes.items():
                    nursery.start_soon(append, number, scope)
                scopes[1].cancel()
                await wait_all_tasks_blocked()
                scopes[3].cancel()
                await wait_all_tasks_blocked()
                assert told == ["1 cancelled"]  # before it was taken
                durability.opened.set()
            assert sorted(told) == ["1 cancelled", "2 written", "3 cancelled"]

    run(main)
    assert entries(read_all(disk)) == group(2)


def test_who_was_cancelled_is_answered_where_it_is_there_after_all() -> None:
    disk = FakeDisk()
    agreed: list[Received] = []
    written: list[int] = []

    async def main() -> None:
        async with leading(disk, agreed) as (log, durability):
            durability.shut()

            async def append() -> None:
                written.extend(record.seq for record in await log.append(group(1)))

            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(append)
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    nursery.cancel_scope.shield = True
                    await wait_all_tasks_blocked()
                    durability.opened.set()
            assert written == [1]

    run(main)


def test_a_time_that_was_used_in_vain_holds_nobody_back() -> None:
    """The clock was ahead, and set back before the batch was tried again: what counts is what is there."""
    disk = FakeDisk()
    times = iter([1, 900, 500, 600])

    async def main() -> None:
        async with leading(disk, [], Verdict.ABSENT, clock=lambda: next(times)) as (log, _):
            await log.append(group(1))
            await log.append(group(2))

    run(main)
    assert [record.time_us for record in read_all(disk)] == [500, 600]
