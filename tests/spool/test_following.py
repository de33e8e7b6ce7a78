"""A log that follows: it takes what another machine appended, by the chain or not at all, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from hashlib import sha256

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import (
    DivergedError,
    Entry,
    LogClosedError,
    LogFollowsError,
    LogPoisonedError,
    Received,
    Record,
)
from spool.mark import read_mark
from spool.record import NO_DIGEST, make_record, next_chain
from tests.world.disk import FakeDisk
from tests.world.followers import appended_elsewhere, batches_of, follow_fake, placeless
from tests.world.gate import Gate
from tests.world.spool import DIRECTORY, SEGMENT_BYTES_MAX, group, open_fake, read_all, run


def test_what_is_received_is_the_same_log() -> None:
    records, batches = appended_elsewhere()
    disk = FakeDisk()
    seen: list[Record] = []
    followed: list[Record] = []

    async def main() -> None:
        async def follow() -> None:
            async with aclosing(log.follow(1)) as found:
                async for record in found:
                    followed.append(record)

        async with trio.open_nursery() as nursery, follow_fake(disk, on_durable=seen.extend) as log:
            nursery.start_soon(follow)
            assert log.follows
            for batch in batches[:10]:
                await log.receive([batch])
                assert log.last_seq == batch.last_seq == seen[-1].seq
                assert log.last_chain == batch.chain
                await wait_all_tasks_blocked()
                assert followed == seen
            await log.receive([])
            await log.receive(batches[10:])
            assert log.get(records[-1].seq) == records[-1]
            assert log.statistics().records == len(records)
            assert log.statistics().batches == len(batches)

    run(main)
    # The segments begin at the same places, since they are as large; their salts are this machine's own.
    assert read_all(disk) == records == seen == followed
    assert len({record.segment for record in records}) > 3


def test_segments_are_this_machines_own() -> None:
    records, batches = appended_elsewhere()
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk, segment_bytes_max=SEGMENT_BYTES_MAX // 2) as log:
            for number in range(0, len(batches), 5):
                await log.receive(batches[number : number + 5])
            infos = log.reader.segments()
        assert all(info.bytes <= SEGMENT_BYTES_MAX // 2 for info in infos)
        assert all(info.sealed for info in infos[:-1])

    run(main)
    assert [placeless(record) for record in read_all(disk)] == [placeless(record) for record in records]


def test_a_batch_that_is_larger_than_a_segment_or_than_what_is_appended_here_is_taken() -> None:
    elsewhere = FakeDisk()

    async def append() -> None:
        async with open_fake(elsewhere, batch_bytes_max=1 << 20) as log:
            await log.append(group(1))
            await log.append(group(2, 40))
            await log.append(group(3))

    run(append)
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk, batch_records_max=2) as log:
            await log.receive(batches_of(elsewhere))

    run(main)
    assert [placeless(record) for record in read_all(disk)] == [
        placeless(record) for record in read_all(elsewhere)
    ]


def test_on_durable_is_given_whole_batches_and_no_more_than_an_append_may_have() -> None:
    _, batches = appended_elsewhere()
    runs: list[Sequence[Record]] = []

    async def main() -> None:
        async with follow_fake(FakeDisk(), on_durable=runs.append, batch_records_max=4) as log:
            await log.receive(batches)

    run(main)
    assert all(len(run) <= 4 and run[-1].batch_end and run[0].batch_seq == run[0].seq for run in runs)
    assert [record.seq for run in runs for record in run] == list(range(1, batches[-1].last_seq + 1))
    assert len(runs) < len(batches)


# ------------------------------------------------------------------------------------------------ what is not believed


def remade(batch: Received, **changes: int) -> Received:
    """With the right chain value of what it says now."""
    chain = batch.previous_chain
    records = []
    for seq, record in enumerate(batch.records, batch.first_seq):
        record = record._replace(**changes)
        made = make_record(
            Entry(record.skeleton, record.payload),
            seq=seq,
            time_us=record.time_us,
            batch_seq=batch.first_seq,
            batch_end=seq == batch.last_seq,
            previous_chain=chain,
            segment=0,
            offset=0,
        )
        records.append(record)
        chain = made.chain
    return batch._replace(records=records, chain=chain)


def with_chains(batch: Received) -> Received:
    """As whoever has checked it hands it on."""
    records, chain, chains = batch.records, batch.previous_chain, []
    for seq, (skeleton, _, payload_sha256, time_us) in enumerate(records, batch.first_seq):
        ends = seq == batch.last_seq
        chain = next_chain(chain, seq, time_us, batch.first_seq, ends, skeleton, payload_sha256)
        chains.append(chain)
    return batch._replace(chains=chains)


def other_record(batch: Received, **changes: object) -> Received:
    return batch._replace(records=[batch.records[0]._replace(**changes), *batch.records[1:]])


WRONG: dict[str, Callable[[list[Received]], Received]] = {
    "one is missing in front of it": lambda batches: batches[6],
    "it is there already": lambda batches: batches[4],
    "it follows from another record": lambda batches: batches[5]._replace(previous_chain=bytes(32)),
    "another skeleton": lambda batches: other_record(batches[5], skeleton=b"another"),
    "another payload": lambda batches: other_record(
        batches[5], payload=b"another", payload_sha256=sha256(b"another").digest()
    ),
    "no payload": lambda batches: other_record(batches[5], payload=None, payload_sha256=NO_DIGEST),
    "another time": lambda batches: other_record(batches[5], time_us=batches[5].records[0].time_us + 1),
    "another chain value": lambda batches: batches[5]._replace(chain=bytes(32)),
    "one record less": lambda batches: batches[5]._replace(records=batches[5].records[:-1]),
    "two batches in one": lambda batches: batches[5]._replace(
        records=[*batches[5].records, *batches[6].records], chain=batches[6].chain
    ),
    "no records": lambda batches: batches[5]._replace(records=[], chain=batches[5].previous_chain),
    "a time before the record in front of it": lambda batches: remade(batches[5], time_us=1),
    "checked, and one is missing in front of it": lambda batches: with_chains(batches[6]),
    "checked, and it is there already": lambda batches: with_chains(batches[4]),
    "checked, and it follows from another record": lambda batches: with_chains(batches[5])._replace(
        previous_chain=bytes(32)
    ),
    "checked, and with other numbers": lambda batches: with_chains(batches[5])._replace(
        first_seq=batches[5].first_seq + 1
    ),
    "checked, and another chain value": lambda batches: with_chains(batches[5])._replace(chain=bytes(32)),
    "checked, and one record less": lambda batches: with_chains(batches[5])._replace(
        records=batches[5].records[:-1]
    ),
    "checked, and one record more": lambda batches: with_chains(batches[5])._replace(
        records=[*batches[5].records, batches[6].records[0]]
    ),
    "checked, and no records": lambda batches: batches[5]._replace(
        records=[], chains=[], chain=batches[5].previous_chain
    ),
    "checked, and a time before the record in front of it": lambda batches: with_chains(
        remade(batches[5], time_us=1)
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_follow_is_refused_and_nothing_of_the_call_is_written(wrong: str) -> None:
    records, batches = appended_elsewhere()
    disk = FakeDisk()
    seen: list[Record] = []

    async def main() -> None:
        async with follow_fake(disk, on_durable=seen.extend) as log:
            await log.receive(batches[:3])
            before = disk.state(), log.last_chain, len(seen)
            with pytest.raises(DivergedError) as caught:
                await log.receive([*batches[3:5], WRONG[wrong](batches), *batches[7:]])
            assert caught.value.seq == WRONG[wrong](batches).first_seq
            assert (disk.state(), log.last_chain, len(seen)) == before
            assert not log.poisoned
            # The right one is taken.
            await log.receive(batches[3:])

    run(main)
    assert read_all(disk) == records == seen


def test_what_was_checked_is_placed_as_what_was_not() -> None:
    records, batches = appended_elsewhere()
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log:
            await log.receive([with_chains(batch) for batch in batches])

    run(main)
    assert read_all(disk) == records


def test_the_changed_batches_are_wrong_for_what_they_say() -> None:
    """A batch that is made anew in the same way and not changed is the same."""
    _, batches = appended_elsewhere()
    assert [remade(batch) for batch in batches] == batches


# ------------------------------------------------------------------------------------------------ leading


def test_who_follows_appends_nothing() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log:
            for _ in range(2):
                with pytest.raises(LogFollowsError):
                    await log.append(group(1))
                with pytest.raises(LogFollowsError):
                    await log.rotate()
            assert log.statistics().queue_length == 0
        with pytest.raises(LogClosedError):
            await log.receive([])
        with pytest.raises(LogClosedError):
            await log.append(group(1))

    run(main)
    assert read_all(disk) == []


def test_receiving_is_not_cancelled_half_way() -> None:
    _, batches = appended_elsewhere()
    gate = Gate()

    async def main() -> None:
        async with follow_fake(FakeDisk(), offload=gate.offload, batch_records_max=4) as log:
            with trio.CancelScope() as before:
                before.cancel()
                await log.receive(batches)
            assert (before.cancelled_caught, log.last_seq) == (True, 0)
            gate.shut()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(log.receive, batches)
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    nursery.cancel_scope.shield = True
                    await wait_all_tasks_blocked()
                    assert log.last_seq == 0
                    gate.open()
            assert log.last_seq == batches[-1].last_seq

    run(main)


def test_leaving_ends_what_is_being_received() -> None:
    records, batches = appended_elsewhere()
    disk, gate = FakeDisk(), Gate()

    async def main() -> None:
        async with trio.open_nursery() as outside, follow_fake(disk, offload=gate.offload) as log:
            gate.shut()
            outside.start_soon(log.receive, batches)
            await wait_all_tasks_blocked()
            gate.open()

    run(main)
    assert read_all(disk) == records


@pytest.mark.parametrize("fail_in", range(1, 10))
def test_a_disk_that_fails_while_it_is_written_to_poisons(fail_in: int) -> None:
    """A write, and all that begins a new segment. What was taken before that is there."""
    records, batches = appended_elsewhere()
    disk = FakeDisk()
    operations = 0

    async def main() -> None:
        nonlocal operations
        async with follow_fake(disk) as log:
            disk.fail_at = operations = disk.operations + fail_in
            with pytest.raises(LogPoisonedError):
                await log.receive(batches)
            assert log.poisoned
            assert not log.deposed
            with pytest.raises(LogPoisonedError):
                await log.receive([])
            with pytest.raises(LogPoisonedError):
                await log.sync()
            await trio.sleep_forever()

    with pytest.RaisesGroup(LogPoisonedError):
        run(main)
    assert disk.operations == operations
    assert disk.open_handles() == 0
    found = read_all(disk)
    assert found == records[: len(found)]


def test_a_projection_that_fails_poisons() -> None:
    _, batches = appended_elsewhere()

    def on_durable(records: Sequence[Record]) -> None:
        raise RuntimeError("the views are broken")

    async def main() -> None:
        async with follow_fake(FakeDisk(), on_durable=on_durable) as log:
            with pytest.raises(LogPoisonedError):
                await log.receive(batches)

    with pytest.RaisesGroup(LogPoisonedError):
        run(main)


def test_payloads_are_erased_from_the_files_of_one_that_follows() -> None:
    records, batches = appended_elsewhere()
    disk = FakeDisk()
    erased = {record.seq for record in records if record.payload and record.seq % 2}

    async def main() -> None:
        async with follow_fake(disk) as log:
            await log.receive(batches[:-1])
            await log.erase_payloads({seq for seq in erased if seq <= log.last_seq})
            # It is not received again: what is rewritten is in front of the mark.
            mark = read_mark(disk, DIRECTORY)
            assert mark is not None
            assert mark.seq == log.last_seq
            await log.receive(batches[-1:])
            await log.erase_payloads(erased)

    run(main)
    found = read_all(disk)
    assert [record.chain for record in found] == [record.chain for record in records]
    assert {record.seq for record in found if record.stripped} == erased
