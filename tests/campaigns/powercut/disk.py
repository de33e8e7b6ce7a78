"""A disk with a volatile write cache: what was written and not flushed may be gone when the power is.

The invariant: **an atom holds what was last written to it before the last flush, or something that was written to it
since; never anything else, and never half of one.** An atom is the piece that the disk writes whole: a sector of 512
octets, or of 4096 as all disks have had for years. That is what file systems ask of a disk. A write that has been
answered and not flushed may be lost, may survive in part, and may survive where an earlier one does not. (So the order
is free as well: two writes to one atom that reach the medium the other way round are the second one lost.)

Two images in memory, sparse: what the kernel is shown, and what stands on the medium. The writes since the last flush
are kept in a list; what a cut leaves of them is decided by dice that the caller throws.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

#: What becomes of the cache when the power goes.
FATES: Final = {
    "nothing": "nothing of the cache reaches the medium",
    "prefix": "all that was written up to some moment, and nothing after it; the last write may be torn",
    "writes": "each write is kept or lost, by dice",
    "atoms": "each atom of each write is kept or lost, by dice",
    "everything": "all of the cache reaches the medium; only what the kernel had not yet written is lost",
}
#: How often a write or an atom is kept, where each is by dice.
_SHARES: Final = (0.1, 0.5, 0.9)


class Write(NamedTuple):
    offset: int
    data: bytes


@dataclass
class Counts:
    """What the disk was asked."""

    reads: int = 0
    writes: int = 0
    flushes: int = 0
    bytes_written: int = 0


class Loss(NamedTuple):
    """What a cut did to the cache."""

    writes: int
    """That were in it."""
    bytes: int
    bytes_lost: int


class Image:
    """Bytes in memory; what was never written is zero and takes no room."""

    def __init__(self, size: int) -> None:
        self._handle = os.memfd_create("powercut")
        os.truncate(self._handle, size)

    def read(self, length: int, offset: int) -> bytes:
        return os.pread(self._handle, length, offset)

    def write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._handle, view, offset)
            view, offset = view[count:], offset + count

    def close(self) -> None:
        os.close(self._handle)


class Disk:
    """`lies`: it says that it has flushed, and has not. Such disks are sold; here they show what is seen of one."""

    def __init__(self, size: int, *, lies: bool = False) -> None:
        self.size = size
        self.counts = Counts()
        self._lies = lies
        self._shown = Image(size)
        self._medium = Image(size)
        self._cache: list[Write] = []

    def read(self, length: int, offset: int) -> bytes:
        self.counts.reads += 1
        return self._shown.read(length, offset)

    def write(self, data: bytes, offset: int) -> None:
        assert offset + len(data) <= self.size
        self.counts.writes += 1
        self.counts.bytes_written += len(data)
        self._shown.write(data, offset)
        self._cache.append(Write(offset, bytes(data)))

    def flush(self) -> None:
        self.counts.flushes += 1
        if not self._lies:
            self._empty(self._cache)

    def lose_power(self, fate: str, dice: random.Random, atom_bytes: int) -> Loss:
        """What is found afterwards is on the medium, and the cache is empty."""
        cache = self._cache
        total = sum(len(write.data) for write in cache)
        kept = list(surviving(cache, fate, dice, atom_bytes))
        self._empty(kept)
        for write in cache:
            self._shown.write(self._medium.read(len(write.data), write.offset), write.offset)
        return Loss(len(cache), total, total - sum(len(write.data) for write in kept))

    def _empty(self, writes: list[Write]) -> None:
        for write in writes:
            self._medium.write(write.data, write.offset)
        self._cache = []

    def close(self) -> None:
        self._shown.close()
        self._medium.close()


def surviving(cache: list[Write], fate: str, dice: random.Random, atom_bytes: int) -> Iterator[Write]:
    """The writes, or parts of them, that reach the medium, in their order. Parts are whole atoms."""
    share = dice.choice(_SHARES)
    if fate == "everything":
        yield from cache
    elif fate == "prefix":
        count = dice.randint(0, len(cache))
        yield from cache[:count]
        for torn in cache[count : count + 1]:
            atoms = list(_atoms(torn, atom_bytes))
            yield from atoms[: dice.randint(0, len(atoms))]
    elif fate == "writes":
        yield from (write for write in cache if dice.random() < share)
    elif fate == "atoms":
        for write in cache:
            yield from (atom for atom in _atoms(write, atom_bytes) if dice.random() < share)
    else:
        assert fate == "nothing", fate


def _atoms(write: Write, atom_bytes: int) -> Iterator[Write]:
    """Its pieces, cut where atoms begin."""
    start = 0
    while start < len(write.data):
        end = start + atom_bytes - (write.offset + start) % atom_bytes
        yield Write(write.offset + start, write.data[start:end])
        start = end
