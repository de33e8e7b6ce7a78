"""Whole files on a disk: read in pieces, written durably or not at all, removed.

The invariant: **a file has its name only when all of it is durable.** Until then it is `NAME.tmp`, which is no part of
anything; whatever a crash leaves of it is overwritten by the next try, or removed at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from spool.disk import Disk

TMP_SUFFIX: Final = ".tmp"
CHUNK_BYTES: Final = 1 << 20


@contextmanager
def opened(disk: Disk, path: Path) -> Iterator[int]:
    """The handle of a file that is there, to read it until the block ends. Raises `FileNotFoundError`."""
    handle = disk.open_read(path)
    try:
        yield handle
    finally:
        disk.close(handle)


def read_chunks(disk: Disk, handle: int, end: int, *, start: int = 0) -> Iterator[bytes]:
    """The bytes from `start` to `end`, which are there, a piece at a time."""
    for offset in range(start, end, CHUNK_BYTES):
        yield disk.read(handle, min(CHUNK_BYTES, end - offset), offset)


def write_durably(
    disk: Disk, path: Path, chunks: Iterable[bytes], *, check: Callable[[int], None] = lambda _handle: None
) -> None:
    """Write the file, in the place of any that is there. When this has returned, no crash takes it away again.

    `check` may read it back, by its handle, when its bytes are durable and it has no name yet. Where `check`, `chunks`
    or the disk raises, nothing of the new file stays, and one that was there stays as it was. (If only the last step,
    the sync of the directory, failed, either may be there after a crash of the machine.)
    """
    write_whole(disk, path, chunks, check=check)
    disk.sync_directory(path.parent)


def write_whole(
    disk: Disk, path: Path, chunks: Iterable[bytes], *, check: Callable[[int], None] = lambda _handle: None
) -> None:
    """As `write_durably`, but that the name is durable only after its directory is synced: for many files at once."""
    tmp = path.with_name(path.name + TMP_SUFFIX)
    try:
        handle = disk.create(tmp)
        try:
            offset = 0
            for chunk in chunks:
                disk.write(handle, chunk, offset)
                offset += len(chunk)
            disk.fsync(handle)
            check(handle)
        finally:
            disk.close(handle)
        disk.rename(tmp, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say which one it is
        # A disk that fails may fail at this as well.
        with suppress(OSError):
            disk.unlink(tmp)
        raise


def unlink_if_there(disk: Disk, path: Path) -> None:
    """For what an interrupted run may have removed already. Durable after the directory is synced."""
    with suppress(FileNotFoundError):
        disk.unlink(path)
