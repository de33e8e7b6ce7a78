"""The mark of a log that several machines have: its bytes, when it moves, and what everybody makes of it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import (
    CorruptionError,
    Entry,
    Log,
    LogFollowsError,
    LogPoisonedError,
    Record,
    Witness,
    open_log,
    repair,
)
from spool.backup.backup import back_up
from spool.backup.restore import restore
from spool.mark import MARK_BYTES, MARK_NAME, decode_mark, encode_mark, read_mark
from spool.record import record_bytes
from spool.verify.verify import verify_log
from tests.world.agreed import InMemory
from tests.world.disk import FakeDisk
from tests.world.gate import Gate
from tests.world.spool import DIRECTORY, entries, group, open_fake, read_all, run

follow_fake = partial(open_fake, follows=True)
MARK = DIRECTORY / MARK_NAME


async def led(log: Log, appends: int = 3) -> list[Record]:
    """Led from here, since that is a short way to records; in the tests below nobody else has them."""
    log.lead(InMemory(log, []))
    records: list[Record] = []
    for number in range(1, appends + 1):
        records += await log.append(group(number))
    return records


def marked_log(appends: int = 3) -> FakeDisk:
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log:
            await led(log, appends)

    run(main)
    return disk


def marked_seq(disk: FakeDisk) -> int | None:
    mark = read_mark(disk, DIRECTORY)
    return None if mark is None else mark.seq


# ------------------------------------------------------------------------------------------------ its bytes


def test_it_is_read_as_it_was_written() -> None:
    mark = Witness(segment=17, end_offset=4096, seq=21)
    data = encode_mark(mark)
    assert len(data) == MARK_BYTES
    assert decode_mark(data) == mark
    assert data.startswith(b"SPOOLMRK\x01\x00\x00\x00")
    assert data[16:] == bytes([17, *[0] * 8, 16, *[0] * 6, 21, *[0] * 7])


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    data = encode_mark(Witness(1, 80, 0))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError):
            decode_mark(bytes(flipped))
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            decode_mark(data[:length])
    with pytest.raises(CorruptionError):
        decode_mark(data + b"\0")


def test_where_it_is_damaged_nothing_is_opened_and_nothing_changed() -> None:
    disk = marked_log()
    disk.file(MARK)[30] ^= 1
    before = disk.state()

    async def main() -> None:
        async with follow_fake(disk):
            pass

    with pytest.raises(CorruptionError, match="fill this directory again"):
        run(main)
    with pytest.raises(CorruptionError):
        repair(DIRECTORY, disk=disk)
    assert disk.state() == before


# ------------------------------------------------------------------------------------------------ when it moves


def test_it_moves_with_a_sync_and_when_the_log_is_closed() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log:
            assert marked_seq(disk) == 0
            records = await led(log)
            assert marked_seq(disk) == 0
            assert await log.sync() == 3
            assert read_mark(disk, DIRECTORY) == Witness(1, records[-1].end_offset, 3)
            operations = disk.operations
            assert await log.sync() == 3
            assert disk.operations == operations
            await log.append(group(4))

    run(main)
    assert marked_seq(disk) == 4
    assert len(read_all(disk.crash(frozenset()))) == 4


def test_it_moves_at_the_end_however_the_block_is_left() -> None:
    async def cancelled(disk: FakeDisk) -> None:
        with trio.CancelScope() as scope:
            async with follow_fake(disk) as log:
                await led(log)
                scope.cancel()
                await trio.lowlevel.checkpoint()

    async def raises(disk: FakeDisk) -> None:
        with pytest.RaisesGroup(KeyError):
            async with follow_fake(disk) as log:
                await led(log)
                raise KeyError

    for main in (cancelled, raises):
        disk = FakeDisk()
        run(partial(main, disk))
        assert marked_seq(disk) == 3


def test_a_sync_at_the_end_that_fails_is_told() -> None:
    disk = FakeDisk()
    logs: list[Log] = []

    async def main() -> None:
        async with follow_fake(disk) as log:
            logs.append(log)
            await led(log)
            disk.fail_at = disk.operations + 1

    with pytest.raises(LogPoisonedError):
        run(main)
    assert (logs[0].poisoned, logs[0].deposed) == (True, False)
    assert marked_seq(disk) == 0
    assert disk.open_handles() == 0


@pytest.mark.parametrize("fail_in", range(1, 8))
def test_a_sync_that_fails_poisons_and_is_not_tried_again(fail_in: int) -> None:
    """The sync itself, and then the mark's: create, write, sync, rename, sync of the directory; and none of these."""
    disk = FakeDisk()

    async def main() -> None:
        async with follow_fake(disk) as log:
            await led(log)
            disk.fail_at = disk.operations + fail_in
            if fail_in == 7:
                await log.sync()
                return
            with pytest.raises(LogPoisonedError):
                await log.sync()
            with pytest.raises(LogPoisonedError):
                await log.append(group(4))
            with pytest.raises(LogPoisonedError):
                await log.sync()
            await trio.sleep_forever()

    if fail_in == 7:
        run(main)
        return
    with pytest.RaisesGroup(LogPoisonedError):
        run(main)
    # Once when it was begun, by the name that it had then, and once now.
    assert disk.log.count("sync 00000000000000000001.seg.tmp") == 2
    assert marked_seq(disk.crash(frozenset())) in (0, 3)
    assert disk.open_handles() == 0


@pytest.mark.parametrize("fails", [False, True])
def test_a_sync_waits_for_a_new_segment_that_has_been_begun(fails: bool) -> None:
    """The file that it would sync is being closed; and where its last sync has failed, another means nothing."""
    disk, gate = FakeDisk(), Gate()
    synced: list[int | None] = []
    meanwhile: list[int | None] = []

    async def main() -> None:
        async def rotate() -> None:
            with suppress(LogPoisonedError):
                await log.rotate()

        async def sync() -> None:
            try:
                synced.append(await log.sync())
            except LogPoisonedError:
                synced.append(None)

        async with follow_fake(disk) as log, trio.open_nursery() as nursery:
            await led(log, 1)
            log._writer._beside = gate.offload
            gate.shut()
            nursery.start_soon(rotate)
            await wait_all_tasks_blocked()
            nursery.start_soon(sync)
            await wait_all_tasks_blocked()
            meanwhile.append(marked_seq(disk))
            if fails:
                disk.fail_at = disk.operations + 2  # the sync of what was written, behind the footer
            gate.open()

    if fails:
        with pytest.RaisesGroup(LogPoisonedError):
            run(main)
    else:
        run(main)
    assert meanwhile == [0]
    assert synced == [None if fails else 1]
    assert marked_seq(disk) == (0 if fails else 1)


def test_appends_go_on_beside_a_sync_and_a_new_segment_waits_for_it() -> None:
    disk, gate = FakeDisk(), Gate()
    done: list[str] = []

    async def main() -> None:
        async def sync() -> None:
            assert await log.sync() == 1
            done.append("sync")

        async def rotate() -> None:
            await log.rotate()
            done.append("rotate")

        async def append(number: int) -> None:
            await log.append(group(number))
            done.append(f"append {number}")

        async with follow_fake(disk) as log, trio.open_nursery() as nursery:
            await led(log, 1)
            log._offload = gate.offload  # the writer has its own way to the disk
            gate.shut()
            nursery.start_soon(sync)
            await wait_all_tasks_blocked()
            await append(2)
            nursery.start_soon(rotate)
            await wait_all_tasks_blocked()
            nursery.start_soon(append, 3)
            await wait_all_tasks_blocked()
            assert done == ["append 2"]
            gate.open()
        assert done[1] == "sync"
        assert sorted(done[2:]) == ["append 3", "rotate"]

    run(main)
    assert entries(read_all(disk)) == [*group(1), *group(2), *group(3)]


def test_syncs_take_turns() -> None:
    disk, gate = FakeDisk(), Gate()
    synced: list[int] = []

    async def main() -> None:
        async def sync() -> None:
            synced.append(await log.sync())

        async with follow_fake(disk) as log, trio.open_nursery() as nursery:
            await led(log, 1)
            log._offload = gate.offload
            gate.shut()
            nursery.start_soon(sync)
            await wait_all_tasks_blocked()
            await log.append(group(2))
            nursery.start_soon(sync)
            await wait_all_tasks_blocked()
            gate.open()

    run(main)
    assert synced == [1, 2]


# ------------------------------------------------------------------------------------------------ one machine's, or not


def test_what_several_machines_have_is_not_opened_as_one_machines() -> None:
    disk = marked_log()
    before = disk.state()

    async def main() -> None:
        async with open_fake(disk):
            pass

    with pytest.raises(LogFollowsError, match="several machines"):
        run(main)
    assert disk.state() == before
    assert disk.open_handles() == 0


def test_one_machines_log_becomes_one_of_several_by_todays_rules() -> None:
    """All that it has it had acknowledged itself: what is torn is kept, and what is corrupt is refused."""
    disk = FakeDisk()

    async def append() -> None:
        async with open_fake(disk) as log:
            for number in range(1, 4):
                await log.append(group(number))

    run(append)
    records = read_all(disk)
    first = DIRECTORY / "00000000000000000001.seg"
    damaged = disk.copy()
    damaged.file(first)[records[1].offset + 20] ^= 1
    torn = disk.copy()
    del torn.file(first)[-9:]

    async def follow(disk: FakeDisk, witness: Witness | None = None) -> None:
        async with follow_fake(disk, witness=witness) as log:
            assert log.last_seq == log.recovery.last_seq == marked_seq(disk)
            assert log.recovery.dropped is None

    with pytest.raises(CorruptionError):
        run(partial(follow, damaged))
    last = records[-1]
    with pytest.raises(CorruptionError):
        run(partial(follow, torn.copy(), Witness(last.segment, last.end_offset, last.seq)))
    run(partial(follow, torn))
    assert torn.list_names(DIRECTORY / "torn")
    run(partial(follow, disk))
    assert read_all(disk) == records


# ------------------------------------------------------------------------------------------------ the tools


def test_repair_cuts_what_is_behind_it_and_keeps_no_copy() -> None:
    disk = marked_log()
    records = read_all(disk)
    handle = disk.open_write(DIRECTORY / "00000000000000000001.seg")
    disk.write(handle, bytes(200), disk.size(handle))
    disk.close(handle)
    report = repair(DIRECTORY, disk=disk, witness=Witness(1, 10_000, 5))  # the views were ahead
    assert report.cut is None
    assert report.dropped is not None
    assert (report.dropped.seq, report.dropped.size) == (4, 200)
    assert report.last_seq == 3
    assert read_all(disk) == records
    assert "torn" not in disk.list_names(DIRECTORY)
    assert repair(DIRECTORY, disk=disk).dropped is None


def test_repair_refuses_what_is_in_front_of_it() -> None:
    disk = marked_log()
    del disk.file(DIRECTORY / "00000000000000000001.seg")[-9:]
    with pytest.raises(CorruptionError, match="sequence 3 had been durable"):
        repair(DIRECTORY, disk=disk)


def real_log(directory: Path) -> Path:
    async def main() -> None:
        async with open_log(directory, follows=True) as log:
            log.lead(InMemory(log, []))
            for number in range(1, 4):
                await log.append([Entry(b"skeleton %d" % number, bytes(600))])

    trio.run(main)
    return directory


def test_verify_counts_it_as_a_witness(tmp_path: Path) -> None:
    log = real_log(tmp_path / "log")
    segment = log / "00000000000000000001.seg"
    whole = segment.read_bytes()
    assert verify_log(log).problems == []

    segment.write_bytes(whole[: -record_bytes(len(b"skeleton 3"), 600)])
    (problem,) = verify_log(log).problems
    assert "the mark says that sequence 3 had been durable" in problem.problem
    assert "received again" not in problem.problem

    segment.write_bytes(whole + b"half a record")
    (problem,) = verify_log(log).problems
    assert problem.seq == 4
    assert "are not whole; this machine's file was synced up to sequence 3" in problem.problem
    assert "received again" in problem.problem
    assert "never acknowledged" not in problem.problem

    segment.unlink()
    (problem,) = verify_log(log).problems
    assert "as the mark says" in problem.problem

    segment.write_bytes(whole)
    (log / MARK_NAME).write_bytes(b"?" * MARK_BYTES)
    (problem,) = verify_log(log).problems
    assert (problem.file, problem.part) == ("mark", "mark")


def test_a_backup_has_the_log_and_not_the_mark(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    real_log(directory / "log")
    (directory / "relay.toml").write_text("")
    back_up(directory, tmp_path / "backup", log="log", others=lambda: ["relay.toml"])
    restore(tmp_path / "backup", tmp_path / "restored", log="log")
    assert not (tmp_path / "restored" / "log" / MARK_NAME).exists()

    async def main() -> None:
        async with open_log(tmp_path / "restored" / "log", follows=True) as log:
            assert log.last_seq == 3

    trio.run(main)
