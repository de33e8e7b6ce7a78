"""Backups on a disk that loses power: after every operation, with any part of what was not synced.

Whatever a crash leaves, a backup that has a manifest is restored to exactly one of the two states that the run was
going between; the next run ends what was begun; and nothing that the log's readers see is ever different.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool import CorruptionError, LogReader, SpoolError
from spool.backup.backup import BackupReport, back_up
from spool.backup.format import MANIFEST_NAME, NEXT_SUFFIX, check_files, read_manifest
from spool.backup.restore import UNFINISHED_NAME, restore
from spool.directory import segment_seqs
from spool.errors import BackupError
from spool.files import TMP_SUFFIX
from spool.record import Record, crc32c, encode_record
from spool.segment import (
    Position,
    SegmentHeader,
    encode_footer,
    encode_segment_header,
    scan_segment,
    seal,
    segment_name,
)
from tests.world.disk import FakeDisk, State, surviving_subsets
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

DATA = Path("/")
BACKUP = Path("/backup")
RESTORED = Path("/restored")
LOG = DIRECTORY.name
#: As small as a header, a record and a footer allow: what is enumerated is what happens to files.
SEGMENT_BYTES_MAX = 500
CLOCK_US = 1_700_000_000_000_000


def append(disk: FakeDisk, numbers: range) -> None:
    async def main() -> None:
        async with open_fake(
            disk, segment_bytes_max=SEGMENT_BYTES_MAX, new_salt=lambda: numbers.stop.to_bytes(16, "big")
        ) as log:
            for number in numbers:
                await log.append(group(number, size=1, payload_bytes=20))

    run(main)


def write(disk: FakeDisk, path: Path, data: bytes) -> None:
    disk.make_directory(path.parent) if path.parent != DATA else None
    handle = disk.create(path)
    disk.write(handle, data, 0)
    disk.close(handle)


def data_directory() -> FakeDisk:
    """A log of several segments, a secret, a configuration."""
    disk = FakeDisk()
    append(disk, range(1, 7))
    write(disk, Path("/keys/old.pem"), b"an old key")
    write(disk, Path("/relay.toml"), b"as it was")
    return disk.copy()


def others(disk: FakeDisk) -> Callable[[], list[str]]:
    return lambda: [*(f"keys/{name}" for name in disk.list_names(Path("/keys"))), "relay.toml"]


def make_backup(disk: FakeDisk) -> BackupReport:
    return back_up(DATA, BACKUP, log=LOG, others=others(disk), disk=disk, clock=lambda: CLOCK_US)


def make_restored(disk: FakeDisk) -> None:
    restore(BACKUP, RESTORED, log=LOG, disk=disk)


def strip(disk: FakeDisk, first_seq: int, *, payloads: bool = False) -> None:
    """What retention does to a sealed segment: another file of the same name, without `payloads`."""
    path = DIRECTORY / segment_name(first_seq)
    scan = scan_segment(bytes(disk.file(path)), first_seq)
    assert scan.header is not None
    assert scan.footer is not None
    salt = hashlib.sha256(scan.header.salt).digest()[:16]
    header = SegmentHeader(first_seq, scan.header.created_us, salt, scan.header.previous_chain)
    pieces = [encode_segment_header(header)]
    for record in read_all(disk, first_seq)[: scan.footer.records]:
        if not payloads:
            record = record._replace(payload=None, stripped=record.stripped or record.payload is not None)
        pieces += encode_record(record, header.seed)
    data = b"".join(pieces)
    end = Position(first_seq, len(data), scan.end.next_seq, scan.footer.chain, scan.footer.last_time_us)
    footer = seal(end, crc32c(0, data))._replace(stripped=True)
    tmp = path.with_name(path.name + TMP_SUFFIX)
    write(disk, tmp, data + encode_footer(footer, header.seed))
    disk.rename(tmp, path)


def live_on(disk: FakeDisk) -> None:
    """What happens between two backups: new records, old personal data goes, keys come and go."""
    append(disk, range(6, 9))
    strip(disk, 1)
    disk.unlink(Path("/keys/old.pem"))
    write(disk, Path("/keys/new.pem"), b"a new key")
    write(disk, Path("/relay.toml"), b"as it is")


def records(disk: FakeDisk, directory: Path) -> list[Record]:
    with LogReader(directory, disk=disk) as reader:
        return list(reader.read(1))


def holds(disk: FakeDisk, directory: Path) -> dict[str, Any]:
    """A data directory, as far as a relay would see it."""
    found: dict[str, Any] = {"log": records(disk, directory / LOG)}
    for folder in ("", "keys"):
        for name in disk.list_names(directory / folder):
            if name.endswith((".pem", ".toml")):
                found[name] = bytes(disk.file(directory / folder / name))
    return found


def crashes(disk: FakeDisk, action: Callable[[FakeDisk], object]) -> list[FakeDisk]:
    """Every different disk that a crash during the action can leave, and the one that it leaves in the end."""
    found: dict[State, FakeDisk] = {}

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            found.setdefault(crashed.state(), crashed)

    disk.after_operation = crash_here
    action(disk)
    disk.after_operation = None
    assert disk.open_handles() == 0
    return list(found.values())


def restored(disk: FakeDisk) -> dict[str, Any]:
    disk = disk.copy()
    make_restored(disk)
    assert UNFINISHED_NAME not in disk.list_names(RESTORED)
    assert disk.open_handles() == 0
    return holds(disk, RESTORED)


def check_goes_on(disk: FakeDisk, expected: dict[str, Any]) -> None:
    """The next run ends what was begun, and leaves nothing of it."""
    make_backup(disk)
    assert restored(disk) == expected
    assert check_files(BACKUP, disk=disk) == []
    # Every file has its own name, so that it reads as any data directory does.
    assert holds(disk, BACKUP) == expected
    for folder in (BACKUP, BACKUP / LOG, BACKUP / "keys"):
        assert not [name for name in disk.list_names(folder) if name.endswith((NEXT_SUFFIX, TMP_SUFFIX))]
    assert make_backup(disk).copied == []


def test_a_first_backup_survives_every_crash() -> None:
    disk = data_directory()
    expected = holds(disk, DATA)
    finished = 0
    for crashed in crashes(disk, make_backup):
        assert holds(crashed, DATA) == expected
        if MANIFEST_NAME in crashed.list_names(BACKUP):
            finished += 1
            assert restored(crashed) == expected
        else:
            with pytest.raises(BackupError):
                make_restored(crashed.copy())
        check_goes_on(crashed, expected)
    assert finished > 5


def test_a_backup_is_good_whatever_interrupts_its_next_run() -> None:
    disk = data_directory()
    before = holds(disk, DATA)
    make_backup(disk)
    live_on(disk)
    disk = disk.copy()
    after = holds(disk, DATA)
    assert after["log"] != before["log"]
    seen = {"before": 0, "after": 0}
    for crashed in crashes(disk, make_backup):
        found = restored(crashed)
        assert found in (before, after)
        seen["before" if found == before else "after"] += 1
        check_goes_on(crashed, after)
    # The enumeration is worth something only if it sees both sides of the moment in which the backup changes.
    assert min(seen.values()) > 5


def killed(disk: FakeDisk, action: Callable[[FakeDisk], object]) -> Iterator[FakeDisk]:
    """The disk as it is when the process was killed before each operation: what is not synced is not lost yet."""
    whole = disk.copy()
    action(whole)
    for operation in range(1, whole.operations + 1):
        left = disk.copy()
        left.fail_at = operation
        with pytest.raises(OSError, match="told to fail"):
            action(left)
        yield left.restart()


def test_a_backup_is_good_whatever_kills_a_run_and_takes_the_power_from_the_next() -> None:
    """Found by the simulated world, seed 21583: files were put in place for a manifest that was not durable yet."""
    disk = data_directory()
    before = holds(disk, DATA)
    make_backup(disk)
    old_manifest = read_manifest(BACKUP, disk=disk)
    live_on(disk)
    disk = disk.copy()
    after = holds(disk, DATA)
    committed = 0
    for left in killed(disk, make_backup):
        # A kill before that moment is a crash that takes nothing, which is enumerated above.
        if read_manifest(BACKUP, disk=left) != old_manifest:
            committed += 1
            for crashed in crashes(left, make_backup):
                assert restored(crashed) in (before, after)
            assert restored(left) == after
    assert committed > 5


def check_restore(disk: FakeDisk, expected: dict[str, Any]) -> int:
    """Crash everywhere in a restore; returns how often it had not ended."""
    unfinished = 0
    for crashed in crashes(disk, make_restored):
        names = crashed.list_names(RESTORED)
        if "relay.toml" in names:
            # Where the configuration stands, a relay would start: all the rest must be there.
            assert holds(crashed, RESTORED) == expected
        if UNFINISHED_NAME in names or not set(names) - {UNFINISHED_NAME + TMP_SUFFIX}:
            unfinished += 1
            make_restored(crashed)
        assert holds(crashed, RESTORED) == expected
    return unfinished


def test_a_restore_survives_every_crash() -> None:
    disk = data_directory()
    make_backup(disk)
    disk = disk.copy()
    assert check_restore(disk, holds(disk, DATA)) > 5


def test_a_restore_survives_every_kill_and_then_the_loss_of_power() -> None:
    disk = data_directory()
    make_backup(disk)
    disk = disk.copy()
    expected = holds(disk, DATA)
    unfinished = [
        check_restore(left, expected)
        for left in killed(disk, make_restored)
        if UNFINISHED_NAME in left.list_names(RESTORED)
    ]
    assert len(unfinished) > 5


@pytest.mark.parametrize("action", [make_backup, make_restored], ids=["backup", "restore"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_leaves_nothing_half(action: Callable[[FakeDisk], object], error: int) -> None:
    start = data_directory()
    make_backup(start)
    before = holds(start, DATA)
    live_on(start)
    after = holds(start, DATA)
    fail_at = 0
    while True:
        disk = start.copy()
        fail_at += 1
        disk.fail_at, disk.error = fail_at, error
        try:
            action(disk)
        except OSError as failure:
            raised = failure.errno
        else:
            break
        assert raised == error
        disk.fail_at = 0
        assert disk.open_handles() == 0
        for folder in (BACKUP, BACKUP / LOG, RESTORED, RESTORED / LOG):
            left = [name for name in disk.list_names(folder) if name.endswith(TMP_SUFFIX)]
            # Only where removing it was what failed.
            assert not left or disk.log[-1].startswith("unlink"), disk.log[-1]
        if action is make_backup:
            assert restored(disk) in (before, after)
            make_backup(disk)
            assert restored(disk) == after
        elif UNFINISHED_NAME in disk.list_names(RESTORED):
            make_restored(disk)
            assert holds(disk, RESTORED) == before
    assert fail_at > 10


# ------------------------------------------------------------------------------------------------- incremental


def test_only_what_is_new_or_has_changed_is_copied() -> None:
    disk = data_directory()
    first = make_backup(disk)
    assert len(first.copied) == len(first.manifest.files)
    assert make_backup(disk).copied == []
    sealed = [segment.name for segment in first.manifest.segments if segment.sealed]
    assert len(sealed) >= 2
    live_on(disk)
    report = make_backup(disk)
    # The stripped one, the one that was open, and the new ones.
    assert report.copied[0] == sealed[0]
    assert not set(sealed[1:]) & set(report.copied)
    assert {"keys/new.pem", "relay.toml"} <= set(report.copied)
    assert report.manifest.removed == ("keys/old.pem",)
    assert report.kept == len(sealed) - 1
    assert [segment.stripped for segment in report.manifest.segments][:2] == [True, False]
    assert "old.pem" not in disk.list_names(BACKUP / "keys")


def test_what_was_erased_leaves_the_backup() -> None:
    disk = data_directory()
    make_backup(disk)
    payload = next(record.payload for record in read_all(disk) if record.payload)
    name = f"{LOG}/{segment_name(1)}"
    assert payload in disk.file(BACKUP / name)
    strip(disk, 1)
    assert make_backup(disk).copied == [name]
    assert payload not in disk.file(BACKUP / name)
    assert restored(disk)["log"] == read_all(disk)


def test_a_segment_of_the_same_size_and_story_but_other_bytes_is_copied() -> None:
    disk = data_directory()
    make_backup(disk)
    before = bytes(disk.file(DIRECTORY / segment_name(1)))
    strip(disk, 1, payloads=True)
    after = bytes(disk.file(DIRECTORY / segment_name(1)))
    assert len(after) == len(before)
    assert after != before
    make_backup(disk)
    assert disk.file(BACKUP / LOG / segment_name(1)) == after


def interrupted(action: Callable[[FakeDisk], object], disk: FakeDisk, operation: str) -> FakeDisk:
    """A copy of the disk on which the action failed at the first operation that begins so."""
    whole = disk.copy()
    action(whole)
    fail_at = next(number for number, name in enumerate(whole.log, 1) if name.startswith(operation))
    disk = disk.copy()
    disk.fail_at = fail_at
    with pytest.raises(OSError, match="told to fail"):
        action(disk)
    disk.fail_at = 0
    disk.log.clear()
    return disk


def test_an_interrupted_run_is_gone_on_with() -> None:
    disk = data_directory()
    names = [segment_name(seq) for seq in segment_seqs(disk, DIRECTORY)]
    assert len(names) >= 3
    disk = interrupted(make_backup, disk, f"write {names[2]}")
    report = make_backup(disk)
    assert report.copied[: len(names)] == [f"{LOG}/{name}" for name in names]
    written = [line.removeprefix("write ").partition(NEXT_SUFFIX)[0] for line in disk.log if "write" in line]
    assert names[2] in written
    assert not {names[0], names[1]} & set(written)
    assert restored(disk) == holds(disk, DATA)


def test_what_an_interrupted_run_has_left_is_not_taken_on_trust() -> None:
    disk = data_directory()
    expected = holds(disk, DATA)
    names = [segment_name(seq) for seq in segment_seqs(disk, DIRECTORY)]
    crashed = interrupted(make_backup, disk, f"write {names[2]}")
    crashed.file(BACKUP / LOG / (names[0] + NEXT_SUFFIX))[200] ^= 1
    make_backup(crashed)
    assert restored(crashed) == expected

    make_backup(disk)
    crashed = interrupted(make_restored, disk, f"write {names[2]}")
    crashed.file(RESTORED / LOG / names[0])[200] ^= 1
    make_restored(crashed)
    assert holds(crashed, RESTORED) == expected


def test_nothing_stays_of_a_run_that_was_not_gone_on_with() -> None:
    disk = data_directory()
    crashed = interrupted(make_backup, disk, "write manifest")
    assert f"old.pem{NEXT_SUFFIX}" in crashed.list_names(BACKUP / "keys")
    crashed.unlink(Path("/keys/old.pem"))
    write(crashed, Path("/keys/new.pem"), b"a new key")
    make_backup(crashed)
    assert crashed.list_names(BACKUP / "keys") == ["new.pem"]


# -------------------------------------------------------------------------------------------- what is refused


def test_the_backup_of_another_log_is_refused() -> None:
    disk = data_directory()
    make_backup(disk)
    held = restored(disk)
    for seq in segment_seqs(disk, DIRECTORY):
        disk.remove(DIRECTORY / segment_name(seq))

    async def another() -> None:
        async with open_fake(disk, segment_bytes_max=SEGMENT_BYTES_MAX) as log:
            for number in range(20, 40):
                await log.append(group(number, size=1, payload_bytes=20))

    run(another)
    with pytest.raises(BackupError, match="backup of another log"):
        make_backup(disk)
    assert restored(disk) == held


def test_a_log_that_went_another_way_is_refused() -> None:
    """It was restored from an older state: the same segments, the same salts, other records behind them."""
    disk = data_directory()
    older = disk.copy()
    append(disk, range(6, 9))
    make_backup(disk)
    held = records(disk, BACKUP / LOG)
    for seq in segment_seqs(disk, DIRECTORY):
        disk.remove(DIRECTORY / segment_name(seq))
    for seq in segment_seqs(older, DIRECTORY):
        write(disk, DIRECTORY / segment_name(seq), bytes(older.file(DIRECTORY / segment_name(seq))))
    with pytest.raises(BackupError, match="has not, or has otherwise"):
        make_backup(disk)
    append(disk, range(50, 60))
    with pytest.raises(BackupError, match="has not, or has otherwise"):
        make_backup(disk)
    assert records(disk, BACKUP / LOG) == held


def test_a_second_run_at_once_is_refused() -> None:
    disk = data_directory()
    refused = 0

    def second_run() -> None:
        nonlocal refused
        if any(path.name == "backup.lock" for path in disk._locks.values()):
            disk.after_operation = None
            with pytest.raises(BackupError, match="another backup into /backup is running"):
                make_backup(disk)
            refused += 1

    disk.after_operation = second_run
    make_backup(disk)
    assert refused == 1
    assert restored(disk) == holds(disk, DATA)


def test_directories_that_are_not_ours_are_left_alone() -> None:
    disk = data_directory()
    write(disk, BACKUP / "letters.txt", b"mine")
    before = disk.state()
    with pytest.raises(BackupError, match="not empty, and no backup"):
        make_backup(disk)
    assert disk.state() == before
    disk.remove(BACKUP / "letters.txt")
    make_backup(disk)
    write(disk, RESTORED / "letters.txt", b"mine")
    before = disk.state()
    with pytest.raises(BackupError, match="not empty"):
        make_restored(disk)
    assert disk.state() == before


def test_what_has_to_be_done_with_what_is_restored_is_done_before_it_is_restored() -> None:
    """And where that fails half-way it goes on with what it has done, not with the backup's files."""
    disk = data_directory()
    make_backup(disk)
    expected = holds(disk, DATA)
    tries: list[bytes] = []

    def finish() -> None:
        assert holds(disk, RESTORED) == expected
        assert UNFINISHED_NAME in disk.list_names(RESTORED)
        tries.append(bytes(disk.file(RESTORED / "relay.toml")))
        write(disk, RESTORED / "relay.toml", b"as finished")
        expected["relay.toml"] = b"as finished"
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, "no space")

    def go() -> None:
        restore(BACKUP, RESTORED, log=LOG, disk=disk, finish=finish)

    with pytest.raises(OSError, match="no space"):
        go()
    go()
    assert tries == [b"as it was", b"as finished"]
    assert UNFINISHED_NAME not in disk.list_names(RESTORED)
    with pytest.raises(BackupError, match="not empty"):
        go()


def test_a_restore_goes_on_with_its_own_backup_only() -> None:
    disk = data_directory()
    make_backup(disk)
    disk.fail_at = disk.operations + 12
    with pytest.raises(OSError, match="told to fail"):
        make_restored(disk)
    disk.fail_at = 0
    append(disk, range(6, 9))
    make_backup(disk)
    with pytest.raises(BackupError, match="unfinished restore of another backup"):
        make_restored(disk)


# ------------------------------------------------------------------------------------------------------- damage


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_flipped_bit_is_found_and_its_file_named(data: st.DataObject) -> None:
    disk = data_directory()
    make_backup(disk)
    file = data.draw(st.sampled_from(read_manifest(BACKUP, disk=disk).files))
    content = disk.file(BACKUP / file.name)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert [problem.name for problem in check_files(BACKUP, disk=disk)] == [file.name]
    with pytest.raises(BackupError, match=file.name):
        make_restored(disk)
    assert "relay.toml" not in disk.list_names(RESTORED)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_log_never_replaces_a_good_backup(data: st.DataObject) -> None:
    disk = data_directory()
    expected = holds(disk, DATA)
    seqs = segment_seqs(disk, DIRECTORY)
    earlier = data.draw(st.booleans())
    if earlier:
        make_backup(disk)
    seq = data.draw(st.sampled_from(seqs[:-1]))
    content = disk.file(DIRECTORY / segment_name(seq))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if not earlier:
        with pytest.raises(CorruptionError):
            make_backup(disk)
        assert MANIFEST_NAME not in disk.list_names(BACKUP)
    else:
        # What is not looked at again, the backup has from before.
        with suppress(CorruptionError, BackupError):
            make_backup(disk)
        assert restored(disk) == expected


def test_a_log_that_is_no_log_is_not_restored_whatever_its_manifest_says() -> None:
    for part, problem in (("sha256", "checksum"), ("lastSeq", "its manifest says 3")):
        disk = data_directory()
        make_backup(disk)
        manifest = json.loads(bytes(disk.file(BACKUP / MANIFEST_NAME)))
        if part == "sha256":
            content = disk.file(BACKUP / manifest["segments"][0]["name"])
            content[200] ^= 1
            manifest["segments"][0]["sha256"] = hashlib.sha256(content).hexdigest()
        else:
            manifest["lastSeq"] = 3
        write(disk, BACKUP / MANIFEST_NAME, json.dumps(manifest).encode())
        with pytest.raises(SpoolError, match=problem):
            make_restored(disk)
        assert "relay.toml" not in disk.list_names(RESTORED)


def test_a_manifest_cannot_reach_out_of_the_directory() -> None:
    for name in ("../etc/passwd", "/etc/passwd", "log/../../x", "", "a\0b"):
        disk = data_directory()
        make_backup(disk)
        manifest = json.loads(bytes(disk.file(BACKUP / MANIFEST_NAME)))
        manifest["others"][0]["name"] = name
        write(disk, BACKUP / MANIFEST_NAME, json.dumps(manifest).encode())
        with pytest.raises(BackupError, match="no name of a file"):
            make_restored(disk)
    for text in ("", "[]", "{}", '{"format": 2}', '{"format": 1}', "\xff"):
        write(disk, BACKUP / MANIFEST_NAME, text.encode("latin-1"))
        with pytest.raises(BackupError, match=r"damaged|not known"):
            read_manifest(BACKUP, disk=disk)


# --------------------------------------------------------------------------------------------- what is unfinished


def test_a_batch_that_is_not_whole_is_no_part_of_the_backup() -> None:
    whole = data_directory()
    expected = records(whole, DIRECTORY)
    last = DIRECTORY / segment_name(segment_seqs(whole, DIRECTORY)[-1])
    size = len(whole.file(last))
    async_append = whole.copy()
    append_one(async_append)
    after = bytes(async_append.file(last))
    assert len(after) > size
    for end in range(size, len(after)):
        disk = whole.copy()
        disk.file(last)[:] = after[:end]
        report = make_backup(disk)
        assert report.manifest.last_seq == expected[-1].seq
        assert len(disk.file(BACKUP / LOG / last.name)) == size
        assert restored(disk)["log"] == expected


def append_one(disk: FakeDisk) -> None:
    async def main() -> None:
        async with open_fake(disk, segment_bytes_max=1 << 20) as log:
            await log.append(group(77, size=2, payload_bytes=20))

    run(main)


def test_nothing_is_in_the_backup_that_power_loss_can_take_from_the_log() -> None:
    disk = data_directory()
    whole = disk.copy()
    append_one(whole)
    last = DIRECTORY / segment_name(segment_seqs(disk, DIRECTORY)[-1])
    # As the writer has left it between its write and its sync.
    handle = disk.open_write(last)
    size = disk.size(handle)
    disk.write(handle, bytes(whole.file(last))[size:], size)
    disk.close(handle)
    assert disk.pending
    make_backup(disk)
    held = records(disk, BACKUP / LOG)
    assert len(held) == len(records(disk, DIRECTORY))
    for surviving in surviving_subsets(len(disk.pending)):
        assert records(disk.crash(surviving), DIRECTORY) == held


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_the_log_goes_on_while_it_is_copied(first: bool) -> None:
    """Segments are finished and begun, and one that was copied already is stripped, again and again, for reasons that
    stand in segments which were not there when the run began: what the backup has is the log as it is then."""
    disk = data_directory()
    begun = len(segment_seqs(disk, DIRECTORY))
    if not first:
        make_backup(disk)
    payloads = [record.payload for record in read_all(disk, 1)[:2] if record.payload]
    assert payloads
    told = 0

    def live(what: str, done: int, total: int) -> None:
        nonlocal told
        told += 1
        if told in (1, begun, begun + 2):
            number = 6 + told
            append(disk, range(number, number + 2))
            strip(disk, 1, payloads=told == 1)

    report = back_up(
        DATA, BACKUP, log=LOG, others=others(disk), disk=disk, clock=lambda: CLOCK_US, progress=live
    )
    log = read_all(disk)
    # Else a relay that is restored from it would keep for good what its log calls removed.
    assert restored(disk)["log"] == log
    for path in (BACKUP / LOG / name for name in disk.list_names(BACKUP / LOG)):
        assert not any(payload in disk.file(path) for payload in payloads), path
    assert told > begun + 4
    assert report.manifest.last_seq == log[-1].seq
    assert len(set(report.copied)) == len(report.copied)
    assert len(report.copied) + report.kept == len(report.manifest.files)
    assert make_backup(disk).copied == []
