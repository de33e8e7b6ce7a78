"""Backups on a disk that loses power: after every operation, with any part of what was not synced.

Whatever a crash leaves, a backup that has a manifest is restored to exactly one of the two states that the run was
going between; the next run ends what was begun; and nothing that the log's readers see is ever different.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spool.backup.format import MANIFEST_NAME, NEXT_SUFFIX, check_files, read_manifest
from spool.backup.restore import UNFINISHED_NAME
from spool.errors import BackupError
from spool.files import TMP_SUFFIX
from tests.world.backup import (
    BACKUP,
    DATA,
    LOG,
    RESTORED,
    data_directory,
    holds,
    live_on,
    make_backup,
    make_restored,
    restored,
)
from tests.world.disk import FakeDisk, State, surviving_subsets


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
