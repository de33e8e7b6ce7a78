"""Stripping a segment: power fails after every operation, and what is not a payload stays as it was, whatever happens.

After each crash the log is opened again: every record is there, and each is what it was, or what it was without a
payload that was to go.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool import CorruptionError, LogClosedError, LogPoisonedError, Record, Stripped, Witness, strip_segment
from spool.directory import segment_seqs
from spool.disk import Disk
from spool.segment import segment_name
from spool.verify.verify import verify_log
from tests.world.disk import FakeDisk, State, surviving_subsets
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run, salts

#: Two segments full, and a third one open.
APPENDS = 18

pytestmark = pytest.mark.usefixtures("form")


def make_log(disk: FakeDisk, appends: int = APPENDS) -> list[Record]:
    async def main() -> list[Record]:
        async with open_fake(disk) as log:
            for number in range(1, appends + 1):
                await log.append(group(number, 1 + number % 2))
            return list(log.reader.read(1))

    records: list[Record] = run(main)
    assert len(segment_seqs(disk, DIRECTORY)) >= 3
    return records


def strip(disk: Disk, first_seq: int, seqs: Collection[int], directory: Path = DIRECTORY) -> Stripped:
    return strip_segment(disk, directory, first_seq, seqs, salts_of_another_run())


def salts_of_another_run() -> Callable[[], bytes]:
    new_salt = salts()
    return lambda: new_salt()[::-1]


def without_places(records: list[Record]) -> list[Record]:
    return [record._replace(offset=0) for record in records]


def expected_of(records: list[Record], seqs: Collection[int]) -> list[Record]:
    return without_places(
        [
            record._replace(payload=None, stripped=True)
            if record.seq in seqs and record.payload is not None
            else record
            for record in records
        ]
    )


def test_only_the_payloads_go(tmp_path: Path) -> None:
    disk = FakeDisk()
    records = make_log(disk)
    first = segment_seqs(disk, DIRECTORY)[0]
    inside = [record for record in records if record.segment == first]
    seqs = {record.seq for record in inside[1:4]}
    size = len(disk.file(DIRECTORY / segment_name(first)))
    old_heads = [bytes(disk.file(DIRECTORY / segment_name(seq))) for seq in segment_seqs(disk, DIRECTORY)]

    stripped = strip(disk, first, seqs)
    assert stripped.payloads == sum(record.payload is not None for record in inside[1:4]) > 0
    after = read_all(disk)
    assert without_places(after) == expected_of(records, seqs)
    left = [record for record in after if record.segment == first]
    assert list(stripped.offsets) == [record.offset for record in left]
    assert stripped.end_offset == left[-1].end_offset
    assert size - len(disk.file(DIRECTORY / segment_name(first))) == stripped.bytes_freed > 0
    assert disk.open_handles() == 0
    raw = bytes(disk.file(DIRECTORY / segment_name(first)))
    for record in inside[1:4]:
        assert not record.payload or record.payload not in raw  # nothing of it is left

    again = strip(disk, first, seqs)
    assert (again.payloads, again.bytes_freed, again.offsets) == (0, 0, stripped.offsets)
    copy_to(disk, tmp_path)
    assert verify_log(tmp_path).problems == []
    salts_there = {bytes(data[32:48]) for data in (raw, *old_heads)}
    assert len(salts_there) == 1 + len(old_heads)


def copy_to(disk: FakeDisk, folder: Path) -> None:
    """To a real disk, where `verify` looks."""
    for name in disk.list_names(DIRECTORY):
        if name.endswith(".seg"):
            (folder / name).write_bytes(disk.file(DIRECTORY / name))


@settings(derandomize=True, max_examples=60)
@given(st.lists(st.sets(st.integers(1, 30)), min_size=1, max_size=4))
def test_any_subset_in_any_order(steps: list[set[int]]) -> None:
    disk = FakeDisk()
    records = make_log(disk)
    gone: set[int] = set()
    *sealed, last = segment_seqs(disk, DIRECTORY)
    for seqs in steps:
        for first in sealed:
            strip(disk, first, seqs)
        gone |= {seq for seq in seqs if seq < last}
        assert without_places(read_all(disk)) == expected_of(records, gone)

    async def goes_on() -> None:
        async with open_fake(disk, witness=Witness(last, 1 << 40, records[-1].seq)) as log:
            await log.append(group(99))

    run(goes_on)
    assert without_places(read_all(disk)[: len(records)]) == expected_of(records, gone)


def crashes(disk: FakeDisk, first: int, seqs: Collection[int]) -> list[tuple[str, FakeDisk]]:
    """Every different disk that a crash during the strip can leave."""
    found: dict[State, tuple[str, FakeDisk]] = {}

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            found.setdefault(crashed.state(), (disk.log[-1], crashed))

    disk.after_operation = crash_here
    strip(disk, first, seqs)
    crash_here()
    return list(found.values())


def check(disk: FakeDisk, records: list[Record], seqs: Collection[int]) -> bool:
    """Whether the payloads were gone after the crash. The strip that is done again must come to its end."""

    async def main() -> bool:
        async with open_fake(disk, witness=Witness(1, 0, records[-1].seq)) as log:
            found = without_places(list(log.reader.read(1)))
            before, after = without_places(records), expected_of(records, seqs)
            assert found in (before, after)
            strip(disk, records[0].segment, seqs)
            log.reader.close()
            assert without_places(list(log.reader.read(1))) == after
            await log.append(group(99))
            return found == after

    gone: bool = run(main)
    assert not [name for name in disk.list_names(DIRECTORY) if name.endswith(".tmp")]
    return gone


def test_every_crash_leaves_the_old_segment_or_the_new_one() -> None:
    disk = FakeDisk()
    records = make_log(disk)
    seqs = {1, 3, 4, 6}
    found = crashes(disk.copy(), 1, seqs)
    assert len(found) > 25
    outcomes = {check(crashed, records, seqs) for _, crashed in found}
    assert outcomes == {True, False}
    # When it has returned, no crash brings the payloads back.
    strip(disk, 1, seqs)
    assert all(
        check(disk.crash(surviving), records, seqs) for surviving in surviving_subsets(len(disk.pending))
    )


class RenamesUnsynced(FakeDisk):
    """A strip that gives the new segment the name before its bytes are durable."""

    def fsync(self, handle: int) -> None:
        pass


class TrustsTheRename(FakeDisk):
    """A strip that returns before the name is durable: a crash brings the payloads back."""

    def sync_directory(self, directory: Path) -> None:
        pass


@pytest.mark.parametrize("planted", [RenamesUnsynced, TrustsTheRename])
def test_planted_bugs_are_found(planted: type[FakeDisk]) -> None:
    clean = FakeDisk()
    records = make_log(clean)
    disk = planted()
    disk.root = clean.copy().root
    failures = 0
    for _, crashed in crashes(disk, 1, {1, 3, 4, 6}):
        try:
            check(crashed, records, {1, 3, 4, 6})
        except Exception:  # noqa: BLE001 (any failure is what we want)
            failures += 1
    for surviving in surviving_subsets(len(disk.pending)):
        crashed = disk.crash(surviving)
        try:
            failures += not check(crashed, records, {1, 3, 4, 6})
        except Exception:  # noqa: BLE001
            failures += 1
    assert failures > 0


def test_what_was_interrupted_before_it_was_durable_is_durable_when_it_is_done_again() -> None:
    disk = FakeDisk()
    records = make_log(disk)
    seqs = {1, 3, 4, 6}
    whole = disk.copy()
    strip(whole, 1, seqs)
    (at,) = (number for number, name in enumerate(whole.log, 1) if name == f"sync {DIRECTORY.name}/")
    disk = disk.copy()
    disk.fail_at = at
    with pytest.raises(OSError, match="told to fail"):
        strip(disk, 1, seqs)
    assert strip(disk, 1, seqs).payloads == 0
    assert check(disk.crash(frozenset()), records, seqs)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_leaves_the_old_segment(error: int) -> None:
    disk = FakeDisk()
    records = make_log(disk)
    begin = disk.operations
    strip(disk.copy(), 1, {1})
    operations = 5  # create, write, write, sync, rename
    for number in range(1, operations + 1):
        failing = disk.copy()
        failing.error, failing.fail_at = error, number
        with pytest.raises(OSError, match="told to fail"):
            strip(failing, 1, {1})
        assert failing.open_handles() == 0
        assert read_all(failing) == records
        assert failing.list_names(DIRECTORY) == disk.list_names(DIRECTORY)
    assert begin == disk.operations


def test_a_full_disk_leaves_the_old_segment() -> None:
    disk = FakeDisk()
    records = make_log(disk)
    used = sum(len(disk.file(DIRECTORY / name)) for name in disk.list_names(DIRECTORY))
    disk.capacity_bytes = used + 1000
    with pytest.raises(OSError, match="no space left"):
        strip(disk, 1, {1})
    assert read_all(disk) == records
    assert not [name for name in disk.list_names(DIRECTORY) if name.endswith(".tmp")]


def test_verify_tells_stripped_from_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk()
    make_log(disk)
    copy_to(disk.copy(), tmp_path)
    assert (verify_log(tmp_path).problems, verify_log(tmp_path).stripped) == ([], 0)
    good = disk.copy()
    strip(good, 1, {1, 4})
    copy_to(good, tmp_path)
    assert (verify_log(tmp_path).problems, verify_log(tmp_path).stripped) == ([], 2)

    # A payload that is gone in silence is damage, however right all checksums are.
    silent = disk.copy()
    monkeypatch.setattr("spool.record._STRIPPED", 0)
    strip(silent, 1, {1, 4})
    monkeypatch.undo()
    copy_to(silent, tmp_path)
    assert [(problem.seq, problem.part) for problem in verify_log(tmp_path).problems] == [
        (1, "payload"),
        (4, "payload"),
    ]

    # And so is a stripped record in a segment that says it is as it was written.
    unsaid = disk.copy()
    monkeypatch.setattr("spool.segment._FOOTER_STRIPPED", 0)
    strip(unsaid, 1, {1, 4})
    monkeypatch.undo()
    copy_to(unsaid, tmp_path)
    (problem,) = verify_log(tmp_path).problems
    assert problem.part == "footer"
    assert "stripped" in problem.problem


def test_damage_is_not_written_anew() -> None:
    disk = FakeDisk()
    make_log(disk)
    path = DIRECTORY / segment_name(1)
    good = bytes(disk.file(path))
    for position in range(0, len(good), 97):
        damaged = disk.copy()
        damaged.file(path)[position] ^= 1
        before = bytes(damaged.file(path))
        with pytest.raises(CorruptionError):
            strip(damaged, 1, {1})
        assert bytes(damaged.file(path)) == before
    *_, last = segment_seqs(disk, DIRECTORY)
    with pytest.raises(CorruptionError, match="without a footer"):
        strip(disk, last, {last})


def test_rotate_seals_what_there_is() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk) as log:
            assert await log.rotate() == 1  # nothing to seal yet
            first = await log.append(group(1))
            assert await log.rotate() == 2
            assert await log.rotate() == 2
            (second,) = await log.append(group(2))
            assert (first[0].segment, second.segment) == (1, 2)
            assert [info.sealed for info in log.reader.segments()] == [True, False]
            assert list(log.reader.read(1)) == [*first, second]
        with pytest.raises(LogClosedError):
            await log.rotate()

    run(main)
    assert segment_seqs(disk, DIRECTORY) == [1, 2]


def test_rotate_on_a_failing_disk_poisons() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk) as log:
            await log.append(group(1))
            disk.fail_at = disk.operations + 1
            await log.rotate()

    with pytest.RaisesGroup(LogPoisonedError, LogPoisonedError):
        run(main)
