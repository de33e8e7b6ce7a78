"""What is in a backup, and which of its files its manifest means.

The invariant: **what belongs to a backup is what its manifest says, by size and SHA-256.** A run of `backup`
stages a file as `NAME.next`, and gives it its name only after the manifest that speaks of it is in place. A crash in
between leaves both, so whoever reads a backup takes the one of the two that the manifest means.

What is in a backup::

    manifest.json    what belongs to it: names, sizes, SHA-256, the last sequence number, its chain value
    log/…            the segments; of the one that is being written, its whole batches
    …                other files of the data directory, as they were
    backup.begun     says that all that is here is ours
    backup.lock      locked (flock) while a run is at work
    *.next, *.tmp    of a run that was interrupted; the next one goes on with the whole ones (`.next`)
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import msgspec

from spool.backup.files import read_file
from spool.disk import Disk, RealDisk
from spool.errors import BackupError
from spool.files import opened, read_chunks
from spool.interface import Progress

FORMAT: Final = 1
MANIFEST_NAME: Final = "manifest.json"
BEGUN_NAME: Final = "backup.begun"
LOCK_NAME: Final = "backup.lock"
NEXT_SUFFIX: Final = ".next"


class BackupFile(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    """Its path in the backup and in the data directory."""
    size: int
    sha256: str


class BackupSegment(BackupFile, frozen=True, rename="camel"):
    first_seq: int
    last_seq: int
    """One less than `first_seq` if it has no record yet."""
    chain: str
    """The chain value of its last record, or of the one before it if it has none; in hex."""
    sealed: bool
    stripped: bool


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    format: int
    made_at: str
    last_seq: int
    chain: str
    segments: tuple[BackupSegment, ...]
    others: tuple[BackupFile, ...]
    removed: tuple[str, ...] = ()
    """What the run before had and this one has not; should a file of that name be there, it is to go."""

    @property
    def files(self) -> tuple[BackupFile, ...]:
        return (*self.segments, *self.others)


def read_manifest(backup: Path, *, disk: Disk | None = None) -> Manifest:
    """What belongs to the backup. Raises `BackupError` where it is no (finished) backup."""
    return decode_manifest(read_manifest_bytes(disk or RealDisk(), backup), backup)


def read_manifest_bytes(disk: Disk, backup: Path) -> bytes:
    try:
        return read_file(disk, backup / MANIFEST_NAME)
    except FileNotFoundError:
        begun = BEGUN_NAME in disk.list_names(backup)
        problem = "its first run never ended; run `log backup` again" if begun else "it has no manifest"
        raise BackupError(f"{backup} is no backup that can be used: {problem}") from None


def decode_manifest(data: bytes, backup: Path) -> Manifest:
    path = backup / MANIFEST_NAME
    try:
        version = msgspec.json.decode(data).get("format")
        if version != FORMAT:
            raise BackupError(f"{path}: format {version!r} is not known here")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, AttributeError) as error:
        raise BackupError(f"{path} is damaged: {error}") from None
    for name in (*(file.name for file in manifest.files), *manifest.removed):
        # It may come from anywhere by now: nothing is written or read outside of the two directories.
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\0" in name:
            raise BackupError(f"{path} is damaged: {name!r} is no name of a file in a backup")
    return manifest


class FileProblem(NamedTuple):
    name: str
    problem: str


def check_files(
    backup: Path, *, disk: Disk | None = None, progress: Progress | None = None
) -> list[FileProblem]:
    """Compare every file of a backup with its manifest. Raises `BackupError` where there is no manifest."""
    disk = disk or RealDisk()
    manifest = read_manifest(backup, disk=disk)
    total = sum(file.size for file in manifest.files)
    done = 0
    problems = []
    for file in manifest.files:
        try:
            find_file(disk, backup, file)
        except (BackupError, OSError) as error:
            problems.append(FileProblem(file.name, str(error)))
        done += file.size
        if progress is not None:
            progress("checking the backup", done, total)
    return problems


def find_file(disk: Disk, backup: Path, file: BackupFile) -> Path:
    """The file that the manifest means. Raises `BackupError`, which names it, where there is none."""
    path = backup / file.name
    for candidate in (path, next_path(path)):
        if holds(disk, candidate, file):
            return candidate
    try:
        with opened(disk, path) as handle:
            size = disk.size(handle)
    except FileNotFoundError:
        raise BackupError(f"{path} is missing from the backup") from None
    if size != file.size:
        raise BackupError(f"{path} is damaged: it has {size} bytes, the manifest says {file.size}")
    raise BackupError(f"{path} is damaged: its SHA-256 is not the one in the manifest")


def holds(disk: Disk, path: Path, file: BackupFile) -> bool:
    """Whether the file is there and is this one."""
    sha256 = hashlib.sha256()
    try:
        with opened(disk, path) as handle:
            if disk.size(handle) != file.size:
                return False
            for chunk in read_chunks(disk, handle, file.size):
                sha256.update(chunk)
    except FileNotFoundError:
        return False
    return sha256.hexdigest() == file.sha256


def next_path(path: Path) -> Path:
    return path.with_name(path.name + NEXT_SUFFIX)
