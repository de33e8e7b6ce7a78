"""Files of a backup, and of what is restored from it, on the disk.

The invariant: **a file has its name only when all of it is durable.** Until then it is `NAME.tmp`, which is no part of
anything. That the name itself is durable, whoever writes it sees to, by syncing the directory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from spool.directory import TMP_SUFFIX
from spool.disk import Disk
from spool.errors import BackupError, LockedError

_CHUNK_BYTES: Final = 1 << 20
_FILE_BYTES_MAX: Final = 256 << 20
"""Of a file that is read in one piece: a manifest, or one of the others beside the log."""


@contextmanager
def locked(disk: Disk, path: Path, otherwise: str) -> Iterator[None]:
    try:
        lock = disk.lock(path)
    except LockedError:
        raise BackupError(f"{otherwise}; nothing was changed") from None
    try:
        yield
    finally:
        disk.close(lock)


def read_file(disk: Disk, path: Path) -> bytes:
    handle = disk.open_read(path)
    try:
        size = disk.size(handle)
        if size > _FILE_BYTES_MAX:
            raise BackupError(f"{path} has {size} bytes, which is more than such a file ever has")
        return disk.read(handle, size, 0)
    finally:
        disk.close(handle)


def read_chunks(disk: Disk, handle: int, size: int) -> Iterator[bytes]:
    for offset in range(0, size, _CHUNK_BYTES):
        yield disk.read(handle, min(_CHUNK_BYTES, size - offset), offset)


def write_durably(
    disk: Disk, path: Path, chunks: Sequence[bytes] | Iterator[bytes], *, sha256: str | None = None
) -> None:
    """The file gets its name when all of it is durable. The name is durable after its directory is synced.

    Where it cannot be finished (or is not what `sha256` says), nothing of it stays.
    """
    tmp = path.with_name(path.name + TMP_SUFFIX)
    found = hashlib.sha256()
    try:
        handle = disk.create(tmp)
        try:
            offset = 0
            for chunk in chunks:
                disk.write(handle, chunk, offset)
                offset += len(chunk)
                found.update(chunk)
            disk.fsync(handle)
        finally:
            disk.close(handle)
        if sha256 is not None and found.hexdigest() != sha256:
            raise BackupError(f"{path.name} has changed while it was copied; run this again")
        disk.rename(tmp, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say which one it is
        # A disk that fails may fail at this as well; what it leaves is overwritten by the next run.
        with suppress(OSError):
            disk.unlink(tmp)
        raise
