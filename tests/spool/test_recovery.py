"""The decision table, and the evidence it is given: one test a row, and all situations at once."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from spool import CorruptionError, Entry, Witness, repair
from spool.recovery import TABLE, Action, Found, Memory, judge, matches
from spool.repair import inspect
from tests.world.disk import FakeDisk
from tests.world.spool import DIRECTORY, open_fake, read_all, run

FIRST = DIRECTORY / "00000000000000000001.seg"
SECOND = DIRECTORY / "00000000000000000004.seg"
THIRD = DIRECTORY / "00000000000000000007.seg"


def log_of_three_segments(content: int = 0) -> FakeDisk:
    """Two sealed ones with three records each, and an open one with two."""
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk, segment_bytes_max=1500, batch_bytes_max=1300) as log:
            for size in (3, 3, 1, 1):
                await log.append([Entry(b"skeleton", bytes([content]) * 300)] * size)

    run(main)
    names = [name for name in disk.list_names(DIRECTORY) if name.endswith(".seg")]
    assert names == [FIRST.name, SECOND.name, THIRD.name]
    return disk


def refusal(disk: FakeDisk, witness: Witness | None = None) -> CorruptionError:
    """Opening is refused, and nothing on the disk is changed by that."""
    before = disk.state()

    async def main() -> None:
        async with open_fake(disk, witness=witness):
            pass

    with pytest.raises(CorruptionError) as caught:
        run(main)
    assert disk.state() == before
    return caught.value


def test_every_situation_has_exactly_one_row() -> None:
    for found, last, followed, memory in product(Found, (True, False), (True, False), Memory):
        rows = [row for row in TABLE if matches(row, found, last, followed, memory)]
        assert len(rows) == 1
        assert judge(found, last=last, followed=followed, memory=memory) is rows[0]
    assert [row.letter for row in TABLE] == [chr(ord("A") + number) for number in range(len(TABLE))]


def test_no_row_cuts_what_had_been_acknowledged() -> None:
    for row in TABLE:
        if row.action is Action.CUT:
            assert row.last is True
            assert row.followed is False
            assert row.memory is not Memory.BEYOND


def test_all_segments_missing() -> None:
    disk = FakeDisk()
    disk.make_directory(DIRECTORY)
    error = refusal(disk, Witness(1, 512, 3))
    assert (error.file, error.offset, error.seq) == (FIRST.name, 512, 3)


@pytest.mark.parametrize(
    ("missing", "file", "seq"), [(FIRST, SECOND.name, 1), (SECOND, THIRD.name, 4)], ids=["first", "second"]
)
def test_a_segment_is_missing(missing: Path, file: str, seq: int) -> None:
    disk = log_of_three_segments()
    disk.remove(missing)
    error = refusal(disk)
    assert (error.file, error.seq) == (file, seq)
    with pytest.raises(CorruptionError) as caught:
        read_all(disk)
    assert (caught.value.file, caught.value.seq) == (file, seq)


def test_the_last_segment_is_missing() -> None:
    disk = log_of_three_segments()
    disk.remove(THIRD)
    assert refusal(disk, Witness(7, 700, 8)).seq == 7
    assert not inspect(disk, DIRECTORY, None).loss_ruled_out


def test_a_segment_of_another_log() -> None:
    disk, other = log_of_three_segments(), log_of_three_segments(content=1)
    disk.file(SECOND)[:] = other.file(SECOND)
    error = refusal(disk)
    assert (error.file, error.part) == (SECOND.name, "segment-header")
    with pytest.raises(CorruptionError, match=SECOND.name):
        read_all(disk)


def test_whole_batches_missing_below_the_witness() -> None:
    disk = log_of_three_segments()
    last = read_all(disk)[-1]
    del disk.file(THIRD)[last.offset :]
    error = refusal(disk, Witness(last.segment, last.end_offset, last.seq))
    assert (error.file, error.offset, error.seq) == (THIRD.name, last.offset, last.seq)


def test_a_leftover_tmp_is_removed() -> None:
    disk = log_of_three_segments()
    handle = disk.create(DIRECTORY / "00000000000000000009.seg.tmp")
    disk.write(handle, b"half a header", 0)
    disk.close(handle)

    async def main() -> None:
        async with open_fake(disk):
            pass

    run(main)
    assert not [name for name in disk.list_names(DIRECTORY) if name.endswith(".tmp")]


def test_repair_does_what_opening_would_and_only_once() -> None:
    disk = log_of_three_segments()
    records = read_all(disk)
    del disk.file(THIRD)[-10:]
    report = repair(DIRECTORY, disk=disk)
    assert report.row == "L"
    assert report.cut is not None
    assert (report.cut.file, report.cut.seq) == (THIRD.name, records[-1].seq)
    again = repair(DIRECTORY, disk=disk)
    assert again.cut is None
    assert again.last_seq == report.last_seq == records[-1].seq - 1
    assert read_all(disk) == records[:-1]
    assert disk.open_handles() == 0


def test_a_second_tear_at_the_same_place_does_not_overwrite_the_first_copy() -> None:
    disk = log_of_three_segments()
    torn = bytes(disk.file(THIRD)[-40:])
    del disk.file(THIRD)[-10:]
    repair(DIRECTORY, disk=disk.copy())
    kept = DIRECTORY / "torn"
    disk.make_directory(kept)
    name = f"{THIRD.name.removesuffix('.seg')}-{read_all(disk)[-1].end_offset}"
    handle = disk.create(kept / f"{name}.bytes")
    disk.write(handle, torn, 0)
    disk.close(handle)
    report = repair(DIRECTORY, disk=disk)
    assert report.cut is not None
    assert report.cut.kept == f"torn/{name}.2.bytes"
    assert bytes(disk.file(kept / f"{name}.bytes")) == torn
