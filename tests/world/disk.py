"""A disk in memory that forgets, at a crash, whatever it was not made to keep.

What a real disk may do and this one does: lose any 512-byte sector of what was written since the last sync
of the file, and keep any other; keep the new length of a file and none of the bytes; lose a name that was
given, and keep one that was taken away, until the directory is synced; drop the pages of a failed fsync,
show them as if nothing had happened, and let the next fsync succeed without them.

`surviving_subsets` enumerates what a crash may leave. Nothing here is random.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from spool.errors import LockedError

SECTOR_BYTES = 512


@dataclass(eq=False)
class File:
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)


@dataclass(eq=False)
class Directory:
    content: dict[str, File | Directory] = field(default_factory=dict)
    durable: dict[str, File | Directory] = field(default_factory=dict)


class Unit:
    """The smallest change that a crash keeps or loses."""

    target: File | Directory

    def apply(self, to: bytearray | dict[str, File | Directory]) -> None:
        raise NotImplementedError


@dataclass(eq=False)
class Sector(Unit):
    target: File
    offset: int
    data: bytes

    def apply(self, to: bytearray) -> None:  # type: ignore[override]
        end = self.offset + len(self.data)
        if len(to) < end:
            to.extend(bytes(end - len(to)))
        to[self.offset : end] = self.data


@dataclass(eq=False)
class Length(Unit):
    """The file ends here now; `cut` tells a truncation from a write that made the file longer."""

    target: File
    size: int
    cut: bool

    def apply(self, to: bytearray) -> None:  # type: ignore[override]
        if self.cut:
            del to[self.size :]
        if len(to) < self.size:
            to.extend(bytes(self.size - len(to)))


@dataclass(eq=False)
class Name(Unit):
    """A name given to a file or directory, or taken away (`entry` is None); `source` is a name taken with
    it."""

    target: Directory
    name: str
    entry: File | Directory | None
    source: str | None = None

    def apply(self, to: dict[str, File | Directory]) -> None:  # type: ignore[override]
        if self.source is not None:
            to.pop(self.source, None)
        if self.entry is None:
            to.pop(self.name, None)
        else:
            to[self.name] = self.entry


State = tuple[tuple[str, object], ...]


class FakeDisk:
    """`after_operation` is called after every operation that changes something: a place for a crash.

    The operation numbered `fail_at` (from 1) fails with `error` and each one before it is done.
    `capacity_bytes` is how much all files together may hold.
    """

    def __init__(self) -> None:
        self.root = Directory()
        self.pending: list[Unit] = []
        self.operations = 0
        self.log: list[str] = []
        self.after_operation: Callable[[], None] | None = None
        self.fail_at = 0
        self.error = errno.EIO
        self.capacity_bytes: int | None = None
        #: Operations that failed, by the name of the error.
        self.failures: Counter[str] = Counter()
        self._handles: dict[int, tuple[File, Path]] = {}
        self._next_handle = 3
        self._locks: dict[int, Path] = {}

    # What the log asks for.

    def make_directory(self, directory: Path) -> None:
        parent = self._directory(directory.parent)
        if directory.name not in parent.content:
            with self._operation(f"mkdir {directory.name}"):
                self._do(Name(parent, directory.name, Directory()))

    def list_names(self, directory: Path) -> Sequence[str]:
        try:
            return sorted(self._directory(directory).content)
        except FileNotFoundError:
            return ()

    def sync_directory(self, directory: Path) -> None:
        with self._operation(f"sync {directory.name}/"):
            self._sync(self._directory(directory))

    def create(self, path: Path) -> int:
        with self._operation(f"create {path.name}"):
            file = File()
            self._do(Name(self._directory(path.parent), path.name, file))
        return self._open(file, path)

    def open_write(self, path: Path) -> int:
        return self._open(self._file(path), path)

    def open_read(self, path: Path) -> int:
        return self._open(self._file(path), path)

    def close(self, handle: int) -> None:
        if handle in self._locks:
            del self._locks[handle]
        else:
            del self._handles[handle]

    def size(self, handle: int) -> int:
        return len(self._handles[handle][0].content)

    def read(self, handle: int, length: int, offset: int) -> bytes:
        return bytes(self._handles[handle][0].content[offset : offset + length])

    def write(self, handle: int, data: bytes, offset: int) -> None:
        file, path = self._handles[handle]
        with self._operation(f"write {path.name}"):
            room = len(file.content) + self.free_bytes(path.parent) - offset
            full = len(data) > room
            data = data[: max(room, 0)]
            end = offset + len(data)
            if end > len(file.content):
                self._do(Length(file, end, cut=False))
            while data:
                step = SECTOR_BYTES - offset % SECTOR_BYTES
                self._do(Sector(file, offset, data[:step]))
                offset, data = offset + step, data[step:]
            if full:
                self.failures["ENOSPC"] += 1
                raise OSError(errno.ENOSPC, "no space left on the fake disk")

    def fdatasync(self, handle: int) -> None:
        file, path = self._handles[handle]
        with self._operation(f"sync {path.name}", forget=file):
            self._sync(file)

    fsync = fdatasync

    def truncate(self, handle: int, size: int) -> None:
        file, path = self._handles[handle]
        with self._operation(f"truncate {path.name}"):
            self._do(Length(file, size, cut=True))

    def rename(self, source: Path, target: Path) -> None:
        directory = self._directory(source.parent)
        assert source.parent == target.parent
        with self._operation(f"rename {source.name}"):
            self._do(Name(directory, target.name, directory.content[source.name], source.name))

    def unlink(self, path: Path) -> None:
        with self._operation(f"unlink {path.name}"):
            self._do(Name(self._directory(path.parent), path.name, None))

    def lock(self, path: Path) -> int:
        if path in self._locks.values():
            raise LockedError(str(path.parent), "1")
        handle = self._next_handle
        self._next_handle += 1
        self._locks[handle] = path
        return handle

    def free_bytes(self, directory: Path) -> int:
        if self.capacity_bytes is None:
            return 1 << 40
        return max(0, self.capacity_bytes - self.used_bytes())

    # What tests ask for.

    def used_bytes(self) -> int:
        return _total_bytes(self.root)

    def crash(self, surviving: frozenset[int]) -> FakeDisk:
        """The disk that is found after a power loss that of `pending` only these units survive."""
        survivors: dict[int, list[Unit]] = {}
        for number, unit in enumerate(self.pending):
            if number in surviving:
                survivors.setdefault(id(unit.target), []).append(unit)
        disk = type(self)()
        disk.root = _survive_directory(self.root, survivors)
        return disk

    def restart(self) -> FakeDisk:
        """The disk that the next process finds after this one has died and the machine has not."""
        self._handles.clear()
        self._locks.clear()
        self.after_operation = None
        self.fail_at = 0
        return self

    def state(self) -> State:
        """All names and bytes, to tell one disk from another."""
        return _state(self.root)

    def file(self, path: Path) -> bytearray:
        """The bytes of the file, to be damaged at will. Durable at once."""
        file = self._file(path)
        file.durable = file.content
        return file.content

    def remove(self, path: Path) -> None:
        """As if the file had never been there."""
        directory = self._directory(path.parent)
        del directory.content[path.name]
        directory.durable.pop(path.name, None)

    def copy(self) -> FakeDisk:
        """A disk of its own with the same contents, all of them durable."""
        return self.crash(frozenset(range(len(self.pending))))

    def open_handles(self) -> int:
        return len(self._handles) + len(self._locks)

    def _operation(self, name: str, forget: File | None = None) -> _Operation:
        return _Operation(self, name, forget)

    def _do(self, unit: Unit) -> None:
        unit.apply(unit.target.content)
        self.pending.append(unit)

    def _sync(self, target: File | Directory) -> None:
        for unit in self.pending:
            if unit.target is target:
                unit.apply(target.durable)
        self.forget(target)

    def forget(self, target: File | Directory) -> None:
        self.pending = [unit for unit in self.pending if unit.target is not target]

    def _open(self, file: File, path: Path) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = (file, path)
        return handle

    def _directory(self, path: Path) -> Directory:
        found: File | Directory = self.root
        for name in path.parts[1:]:
            if not isinstance(found, Directory) or name not in found.content:
                raise FileNotFoundError(errno.ENOENT, "no such directory", str(path))
            found = found.content[name]
        assert isinstance(found, Directory)
        return found

    def _file(self, path: Path) -> File:
        file = self._directory(path.parent).content.get(path.name)
        if not isinstance(file, File):
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return file


class _Operation:
    """Counts an operation, fails it if its turn has come, and tells whoever waits for places to crash."""

    def __init__(self, disk: FakeDisk, name: str, forget: File | None) -> None:
        self._disk = disk
        self._name = name
        self._forget = forget

    def __enter__(self) -> None:
        disk = self._disk
        disk.operations += 1
        disk.log.append(self._name)
        if disk.operations == disk.fail_at:
            if self._forget is not None:
                # A failed fsync: the pages stay readable, count as clean, and never reach the disk.
                disk.forget(self._forget)
            disk.failures[errno.errorcode[disk.error]] += 1
            raise OSError(disk.error, f"the fake disk was told to fail: {self._name}")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._disk.after_operation is not None and kind is None:
            self._disk.after_operation()


def surviving_subsets(count: int) -> Iterator[frozenset[int]]:
    """Which of so many unsynced units survive: all combinations of few; of many, the ones that break things.

    Those are: none, all, each alone, all but one, and every beginning and end.
    """
    everything = range(count)
    if count <= 6:
        for size in range(count + 1):
            yield from map(frozenset, combinations(everything, size))
        return
    yield frozenset()
    yield frozenset(everything)
    for number in everything:
        yield frozenset((number,))
        yield frozenset(everything) - {number}
        yield frozenset(everything[:number])
        yield frozenset(everything[number:])


def _survive_directory(directory: Directory, survivors: dict[int, list[Unit]]) -> Directory:
    names = dict(directory.durable)
    for unit in survivors.get(id(directory), ()):
        unit.apply(names)
    found: dict[str, File | Directory] = {}
    for name, entry in names.items():
        if isinstance(entry, Directory):
            found[name] = _survive_directory(entry, survivors)
        else:
            content = bytearray(entry.durable)
            for unit in survivors.get(id(entry), ()):
                unit.apply(content)
            found[name] = File(content, bytearray(content))
    return Directory(found, dict(found))


def _state(directory: Directory) -> State:
    return tuple(
        (name, _state(entry) if isinstance(entry, Directory) else bytes(entry.content))
        for name, entry in sorted(directory.content.items())
    )


def _total_bytes(directory: Directory) -> int:
    return sum(
        _total_bytes(entry) if isinstance(entry, Directory) else len(entry.content)
        for entry in directory.content.values()
    )
