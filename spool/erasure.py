"""Erasing payloads from a log that is open, beside its writer.

The invariant: **what a call says is gone is gone for good, and every record can still be found.** A segment is
rewritten by `spool.strip`, whole or not at all. Its records stand elsewhere then, so the index is corrected, and the
log's own reader lets go of the old file, before the next segment's turn comes.

The writer only ever touches the open segment, and only sealed ones are rewritten here. A crash between the rewriting
and the end of the correction leaves an index that knows old places. That does no harm, because a reader looks whether
the record is there, and the next start corrects it (`Index.correct_index`).
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from spool.directory import TORN_NAME, segment_seqs
from spool.disk import Disk, Offload
from spool.files import opened
from spool.interface import ErasedSegment
from spool.reader import LogReader
from spool.segment import segment_name
from spool.strip import Stripped, strip_segment


class Index(Protocol):
    """Where records stand, as somebody outside the log remembers it: the views do (`spool.views`)."""

    def locate(self, seq: int) -> tuple[int, int] | None:
        """First sequence number of its segment, and offset; None if that is not known."""

    def move(self, segment: int, offsets: Sequence[int], end_offset: int) -> Iterator[None]:
        """The segment's records stand at these offsets now. Done when iterated to the end, in short pieces."""

    def correct_index(self, reader: LogReader) -> None:
        """As `move`, for all segments of which it is not certain where their records stand."""


class Erasure:
    """Of one log. `reader` is the log's own."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        *,
        reader: LogReader,
        index: Index | None,
        new_salt: Callable[[], bytes],
        offload: Offload,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._reader = reader
        self._index = index
        self._new_salt = new_salt
        self._offload = offload
        #: By all that was erased so far.
        self.bytes_freed = 0

    async def erase_payloads(self, seqs: Collection[int], *, alone: bool = False) -> list[ErasedSegment]:
        """Remove the payloads of these records, all of which stand in sealed segments. See `DurableLog`."""
        firsts = segment_seqs(self._disk, self._directory)
        by_segment: dict[int, set[int]] = defaultdict(set)
        for seq in seqs:
            by_segment[firsts[bisect_right(firsts, seq) - 1]].add(seq)
        erased: list[ErasedSegment] = []
        for first_seq, wanted in sorted(by_segment.items()):
            stripped = await self._strip(first_seq, wanted, _go_on if alone else _let_others_work)
            erased.append(ErasedSegment(segment_name(first_seq), stripped.payloads, stripped.bytes_freed))
        return erased

    async def _strip(self, first_seq: int, seqs: set[int], pause: Callable[[], None]) -> Stripped:
        try:
            stripped: Stripped = await self._offload(
                partial(strip_segment, pause=pause),
                self._disk,
                self._directory,
                first_seq,
                seqs,
                self._new_salt,
            )
        except OSError:
            # If only the last step has failed, the new file is there.
            self._reader.close()
            if self._index is not None:
                self._index.correct_index(self._reader)
            raise
        # It may have the old file open, and would find there what was removed.
        self._reader.close()
        self.bytes_freed += stripped.bytes_freed
        if self._index is not None:
            # To its end, a second at most, so that a process that stops in order leaves an index that is right.
            with trio.CancelScope(shield=True):
                for _ in self._index.move(first_seq, stripped.offsets, stripped.end_offset):
                    await trio.lowlevel.checkpoint()
        return stripped

    async def remove_torn_copies(self, is_meant: Callable[[str, bytes], bool]) -> int:
        """See `DurableLog`."""
        removed: int = await self._offload(_remove_torn_copies, self._disk, self._directory, is_meant)
        return removed


def _let_others_work() -> None:
    """There is no hurry, and appends wait for the interpreter meanwhile."""
    time.sleep(0.001)


def _go_on() -> None:
    """Nobody waits for the interpreter."""


def _remove_torn_copies(disk: Disk, directory: Path, is_meant: Callable[[str, bytes], bool]) -> int:
    folder = directory / TORN_NAME
    removed = 0
    for name in disk.list_names(folder):
        with opened(disk, folder / name) as handle:
            data = disk.read(handle, disk.size(handle), 0)
        if is_meant(name, data):
            disk.unlink(folder / name)
            removed += 1
    if removed:
        disk.sync_directory(folder)
    return removed
