"""Putting a backup back: a data directory is made from it.

The invariant: **until it is finished, a directory that is being restored says so, and from which backup.** The mark is
durable before the first file is there, and goes when all files are durable and `finish` has returned. Whoever opens
data directories refuses one that has the mark, and only a restore of the same backup, with the same manifest, goes on
with it. A directory that holds anything else is not touched.

Beside what is restored there is, until then::

    restore.unfinished    the mark: SHA-256 of the manifest that it is restored from, and whether all files are there
    restore.lock          locked (flock) while a restore is at work
    *.tmp                 a file that was not finished; written anew
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from spool.backup.files import locked, read_file
from spool.backup.format import (
    BackupFile,
    Manifest,
    decode_manifest,
    find_file,
    holds,
    read_manifest_bytes,
)
from spool.disk import Disk, RealDisk
from spool.errors import BackupError
from spool.files import TMP_SUFFIX, opened, read_chunks, write_durably, write_whole
from spool.interface import Progress
from spool.reader import LogReader
from spool.record import CHAIN_START
from spool.repair import inspect

UNFINISHED_NAME: Final = "restore.unfinished"
RESTORE_LOCK_NAME: Final = "restore.lock"
_ALL_THERE: Final = b" all files are there"


def restore(
    backup: Path,
    directory: Path,
    *,
    log: str,
    finish: Callable[[], None] = lambda: None,
    disk: Disk | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make `directory`, which is not there or empty, from a backup.

    Every file is compared with the manifest as it is copied, and the log is read from end to end before the files
    that are not the log are put beside it. Then `finish` does with it what must be done before it is used: until that
    has returned, UNFINISHED_NAME stands there. It is called once more where it was interrupted, and may have changed
    the files by then. Raises `BackupError` and names the file, `CorruptionError`, `OSError`. After an interruption,
    run it again: it goes on.
    """
    disk = disk or RealDisk()
    manifest_bytes = read_manifest_bytes(disk, backup)
    manifest = decode_manifest(manifest_bytes, backup)
    source = hashlib.sha256(manifest_bytes).hexdigest().encode()
    mark = directory / UNFINISHED_NAME
    disk.make_directory(directory)
    disk.sync_directory(directory.parent)
    _begun(disk, directory, source)  # before there is even a lock file in a directory that is not ours
    with locked(disk, directory / RESTORE_LOCK_NAME, f"another restore into {directory} is running"):
        begun = _begun(disk, directory, source)
        if begun is None:
            write_whole(disk, mark, [source])
        # Also where it stands there: a run that was killed may not have come to this.
        disk.sync_directory(directory)
        if begun != source + _ALL_THERE:
            _restore_files(disk, backup, directory, log, manifest, progress)
            write_durably(disk, mark, [source + _ALL_THERE])
        finish()
        disk.unlink(directory / RESTORE_LOCK_NAME)
        disk.unlink(mark)
        disk.sync_directory(directory)
    return manifest


def _begun(disk: Disk, directory: Path, source: bytes) -> bytes | None:
    """What the restore from this backup has said here, None if it has not begun. Raises `BackupError` if anything else
    has."""
    names = set(disk.list_names(directory))
    if UNFINISHED_NAME in names:
        said = read_file(disk, directory / UNFINISHED_NAME)
        if said not in (source, source + _ALL_THERE):
            raise BackupError(
                f"{directory} holds an unfinished restore of another backup, or of this one before its last run. "
                "Nothing was changed. Name a new directory"
            )
        return said
    if names - {RESTORE_LOCK_NAME, UNFINISHED_NAME + TMP_SUFFIX}:
        raise BackupError(f"{directory} is not empty; nothing was changed. Name a new directory")
    return None


def _restore_files(
    disk: Disk, backup: Path, directory: Path, log: str, manifest: Manifest, progress: Progress | None
) -> None:
    total = sum(file.size for file in manifest.files)
    done = 0
    folders = {directory}

    def make_folders(folder: Path) -> None:
        if folder not in folders:
            make_folders(folder.parent)
            disk.make_directory(folder)
            disk.sync_directory(folder.parent)
            folders.add(folder)

    def restore_files(files: Sequence[BackupFile]) -> None:
        nonlocal done
        for file in files:
            path = directory / file.name
            make_folders(path.parent)
            if not holds(disk, path, file):
                _restore_file(disk, backup, path, file)
            done += file.size
            if progress is not None:
                progress("restoring", done, total)
        for folder in sorted({(directory / file.name).parent for file in files}):
            disk.sync_directory(folder)

    restore_files(manifest.segments)
    _check_log(disk, directory / log, manifest)
    # The last of them, its configuration, makes a data directory of it: all the rest is durable before it is there.
    restore_files(manifest.others[:-1])
    restore_files(manifest.others[-1:])


def _restore_file(disk: Disk, backup: Path, path: Path, file: BackupFile) -> None:
    """Copy whichever file of the backup is the one that the manifest means."""
    source = find_file(disk, backup, file)
    sha256 = hashlib.sha256()

    def chunks(handle: int) -> Iterator[bytes]:
        for chunk in read_chunks(disk, handle, file.size):
            sha256.update(chunk)
            yield chunk

    def check(_handle: int) -> None:
        if sha256.hexdigest() != file.sha256:
            raise BackupError(f"{path.name} has changed while it was copied; run this again")

    with opened(disk, source) as handle:
        write_whole(disk, path, chunks(handle), check=check)


def _check_log(disk: Disk, folder: Path, manifest: Manifest) -> None:
    """Read the log as its readers do, and judge it as start-up does."""
    inspect(disk, folder, None)
    last_seq, chain = 0, CHAIN_START
    with LogReader(folder, disk=disk) as reader:
        for record in reader.read(1):
            last_seq, chain = record.seq, record.chain
    if (last_seq, chain.hex()) != (manifest.last_seq, manifest.chain):
        raise BackupError(f"the log ends with sequence {last_seq}; its manifest says {manifest.last_seq}")
