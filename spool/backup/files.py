"""What runs of a backup and of a restore do with files, beside what `spool.files` does.

The invariant: **one run at a time works on a directory, and no file that comes from elsewhere fills the memory.**
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from spool.disk import Disk
from spool.errors import BackupError, LockedError
from spool.files import opened

_FILE_BYTES_MAX: Final = 256 << 20
"""Of a file that is read in one piece: a manifest, or one of the others beside the log."""


@contextmanager
def locked(disk: Disk, path: Path, otherwise: str) -> Iterator[None]:
    """Hold the lock until the block ends. Raises `BackupError`, which says `otherwise`, where another process does."""
    try:
        lock = disk.lock(path)
    except LockedError:
        raise BackupError(f"{otherwise}; nothing was changed") from None
    try:
        yield
    finally:
        disk.close(lock)


def read_file(disk: Disk, path: Path) -> bytes:
    """All of a file that is to fit into memory. Raises `BackupError` where it is too large, `FileNotFoundError`."""
    with opened(disk, path) as handle:
        size = disk.size(handle)
        if size > _FILE_BYTES_MAX:
            raise BackupError(f"{path} has {size} bytes, which is more than such a file ever has")
        return disk.read(handle, size, 0)
