"""All that the log asks of a disk, and the real one.

The invariant: **every call returns only when it has done all it was asked, or raises.** Short writes are
finished here, interrupted calls are repeated by Python, and nothing but `fdatasync`, `fsync` and
`sync_directory` is taken to make anything durable.

Reads are `pread`, not `mmap`: a bad sector then is an `OSError` that names the file and not a SIGBUS that
ends the process, and a file cut or replaced by another process cannot pull the memory away from under a
reader.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from spool.errors import LockedError

Offload = Callable[..., Awaitable[Any]]
"""`await offload(f, *args)` is f(*args), run where it may block: in another thread."""


class Disk(Protocol):
    """Handles are small integers, as the kernel's are. Errors are `OSError`."""

    def make_directory(self, directory: Path) -> None:
        """Create it, for its owner only (0700), unless it is there. Durable after its parent is synced."""

    def list_names(self, directory: Path) -> Sequence[str]:
        """The names in it, sorted; none if there is no such directory."""

    def sync_directory(self, directory: Path) -> None:
        """Make the names in it durable."""

    def create(self, path: Path) -> int:
        """Open a new, empty file for writing, for its owner only (0600), in place of any that is there."""

    def open_write(self, path: Path) -> int:
        """Open a file that is there for reading and writing."""

    def open_read(self, path: Path) -> int: ...

    def close(self, handle: int) -> None: ...

    def size(self, handle: int) -> int: ...

    def read(self, handle: int, length: int, offset: int) -> bytes:
        """So many bytes from there, or all up to the end of the file if that comes first."""

    def write(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of it, there."""

    def fdatasync(self, handle: int) -> None:
        """Make the bytes and the length of the file durable. After a failure the bytes cannot be trusted."""

    def fsync(self, handle: int) -> None:
        """The same with everything else about the file: for what happens seldom."""

    def truncate(self, handle: int, size: int) -> None: ...

    def rename(self, source: Path, target: Path) -> None:
        """Atomic. Durable after the directory is synced."""

    def unlink(self, path: Path) -> None: ...

    def lock(self, path: Path) -> int:
        """Keep every other process out until the handle is closed. Raises `LockedError`."""

    def free_bytes(self, directory: Path) -> int:
        """What is left for us to write on the file system."""


class RealDisk:
    """The operating system's."""

    def make_directory(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)

    def list_names(self, directory: Path) -> Sequence[str]:
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return ()

    def sync_directory(self, directory: Path) -> None:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def create(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileExistsError:
            # Not opened: it may be a link to somewhere else, or others may read it.
            os.unlink(path)
        return os.open(path, flags, 0o600)

    def open_write(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def open_read(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, handle: int) -> None:
        os.close(handle)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def read(self, handle: int, length: int, offset: int) -> bytes:
        data = os.pread(handle, length, offset)
        if len(data) in (0, length):
            return data
        # Linux reads at most 2 GiB at once, and a signal may cut a read short.
        pieces = [data]
        while data:
            length -= len(data)
            offset += len(data)
            data = os.pread(handle, length, offset)
            pieces.append(data)
        return b"".join(pieces)

    def write(self, handle: int, data: bytes, offset: int) -> None:
        written = os.pwrite(handle, data, offset)
        while written < len(data):
            written += os.pwrite(handle, memoryview(data)[written:], offset + written)

    def fdatasync(self, handle: int) -> None:
        os.fdatasync(handle)

    def fsync(self, handle: int) -> None:
        os.fsync(handle)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def lock(self, path: Path) -> int:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise LockedError(str(path.parent), holder) from None
        # Only for the message above; the lock itself is the kernel's and dies with the process.
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return handle

    def free_bytes(self, directory: Path) -> int:
        status = os.statvfs(directory)
        return status.f_bavail * status.f_frsize
