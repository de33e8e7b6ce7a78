"""What a run of a backup copies, what it and a restore refuse, and what they do with damage and unfinished files.

What a crash leaves of them, `test_backup_crashes` enumerates.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool import CorruptionError, SpoolError
from spool.backup.backup import back_up
from spool.backup.format import MANIFEST_NAME, NEXT_SUFFIX, check_files, read_manifest
from spool.backup.restore import UNFINISHED_NAME, restore
from spool.directory import segment_seqs
from spool.errors import BackupError
from spool.segment import segment_name
from tests.world.backup import (
    BACKUP,
    CLOCK_US,
    DATA,
    LOG,
    RESTORED,
    SEGMENT_BYTES_MAX,
    append,
    data_directory,
    holds,
    live_on,
    make_backup,
    make_restored,
    others,
    records,
    restored,
    strip,
    write,
)
from tests.world.disk import FakeDisk, surviving_subsets
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

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
@settings(max_examples=200)
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
@settings(max_examples=100)
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
