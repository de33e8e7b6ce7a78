"""Reading the log: from any process, on a live directory or on a copy.

The invariant: **a reader hands out whole batches only, in sequence, every byte verified.** What stands at
the end of the last segment and is no whole batch has not been written yet, as far as a reader is concerned:
the writer is at it, or a crash interrupted it. The same anywhere else is corruption.

Readers take no lock and write nothing. A reader belongs to one thread at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from spool.directory import segment_seqs
from spool.disk import Disk, RealDisk
from spool.errors import SequenceNotFoundError
from spool.record import HEADER_BYTES, DamagedError, Record, decode_header, decode_record
from spool.segment import (
    FOOTER_BYTES,
    SEGMENT_HEADER_BYTES,
    Fault,
    Footer,
    Position,
    SegmentHeader,
    Walk,
    corruption,
    decode_footer,
    decode_segment_header,
    find_later,
    segment_name,
    start_of,
)

Locate = Callable[[int], tuple[int, int] | None]
"""Where a sequence number stands: segment and offset, or None if that is not known."""

_CHUNK_BYTES: Final = 256 << 10
#: Of one record: most are all in it, and are read by one call.
_FIRST_BYTES: Final = 4 << 10
_OPEN_FILES_MAX: Final = 8


class SegmentInfo(NamedTuple):
    file: str
    first_seq: int
    last_seq: int
    """One less than `first_seq` if it has no record yet."""
    records: int
    bytes: int
    sealed: bool
    stripped: bool


class _File:
    """An open segment file and its verified header."""

    def __init__(self, disk: Disk, directory: Path, first_seq: int) -> None:
        self._disk = disk
        self.handle = disk.open_read(directory / segment_name(first_seq))
        try:
            self.header: SegmentHeader = decode_segment_header(self.read(SEGMENT_HEADER_BYTES, 0), first_seq)
        except DamagedError as damage:
            self.close()
            raise corruption(first_seq, Fault(0, first_seq, damage.part, damage.problem)) from None
        except BaseException:
            self.close()
            raise
        self.seed = self.header.seed

    def read(self, length: int, offset: int) -> bytes:
        return self._disk.read(self.handle, length, offset)

    def size(self) -> int:
        return self._disk.size(self.handle)

    def close(self) -> None:
        self._disk.close(self.handle)


class LogReader:
    """Reads the log in `directory`.

    `locate` makes finding a record O(1); without it, or where it does not know, the segment is walked.
    `limit` is the last sequence number that may be handed out: within the writer's process, the last durable
    one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk | None = None,
        locate: Locate | None = None,
        limit: Callable[[], int] | None = None,
    ) -> None:
        self.directory = directory
        self.disk: Disk = disk or RealDisk()
        self.locate = locate
        self.limit = limit
        self._files: OrderedDict[int, _File] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files it keeps open. It may be used again after that."""
        while self._files:
            self._files.popitem()[1].close()

    def read(self, from_seq: int, to_seq: int | None = None) -> Iterator[Record]:
        """The records from `from_seq` to `to_seq`, or to the last there is; both inclusive.

        Raises `CorruptionError` when it comes to damaged bytes, after everything before them has been handed
        out; what lies behind `to_seq` is not looked at.
        """
        for run in self.runs(from_seq, to_seq):
            yield from run

    def runs(self, from_seq: int, to_seq: int | None = None) -> Iterator[list[Record]]:
        """As `read`, some hundreds of records at a time, whole batches but for the ends; never none."""
        cursor = Cursor(self, from_seq)
        try:
            while records := cursor.advance():
                if to_seq is not None and records[-1].seq >= to_seq:
                    if wanted := records[: max(0, to_seq + 1 - records[0].seq)]:
                        yield wanted
                    return
                yield records
        finally:
            cursor.close()

    async def follow(self, from_seq: int, *, poll_seconds: float = 0.2) -> AsyncGenerator[Record, None]:
        """All records from `from_seq` on, without end, as another process writes them."""
        import trio  # takes longer than all the rest together, and only this wants it

        cursor = Cursor(self, from_seq)
        try:
            while True:
                records = await trio.to_thread.run_sync(cursor.advance)
                for record in records:
                    yield record
                if not records:
                    await trio.sleep(poll_seconds)
        finally:
            cursor.close()

    def get(self, seq: int) -> Record:
        """The record with this sequence number. Raises `SequenceNotFoundError` if there is none yet."""
        if self.limit is not None and seq > self.limit():
            raise SequenceNotFoundError(f"sequence {seq} has not been written yet")
        record = self._get_located(seq)
        if record is None:
            record = next(self.read(seq, seq), None)
        if record is None:
            raise SequenceNotFoundError(f"there is no sequence {seq} in the log")
        return record

    def first_seq(self) -> int:
        """The first sequence number that is kept; 1 where there is none yet."""
        return next(iter(segment_seqs(self.disk, self.directory)), 1)

    def segments(self) -> list[SegmentInfo]:
        """All segments in order. Walks the last one if it is not sealed, the others never."""
        return [self._info(first_seq) for first_seq in segment_seqs(self.disk, self.directory)]

    def check_headers(self) -> None:
        """Look at the header of each segment, and at nothing else: what whoever reads the views alone would not see.
        Raises CorruptionError for the first that is damaged."""
        for first_seq in segment_seqs(self.disk, self.directory):
            _File(self.disk, self.directory, first_seq).close()

    def misplaced(self, locate: Locate, until: int) -> Iterator[tuple[int, int]]:
        """First and last sequence number, none beyond `until`, of the stripped segments whose records `locate` would
        look for where they stood before.

        Looks at footers, and for the last such record of each stripped segment: it has moved if any has.
        """
        for first_seq in segment_seqs(self.disk, self.directory):
            if first_seq > until:
                return
            file = _File(self.disk, self.directory, first_seq)
            try:
                footer = _footer_at_end(file, file.size())
                if footer is None or not footer.stripped:
                    continue
                last_seq = min(footer.last_seq, until)
                place = locate(last_seq)
                if place is not None and _record_at(file, last_seq, place[1]) is not None:
                    continue
            finally:
                file.close()
            yield first_seq, last_seq

    def _get_located(self, seq: int) -> Record | None:
        """None if nobody knows where it is or if it is not there: a walk will find it, or say what is
        wrong."""
        place = self.locate(seq) if self.locate is not None else None
        if place is None:
            return None
        return self._get_at(seq, *place)

    def stands_at(self, seq: int, segment: int, offset: int) -> bool:
        """Whether the record is there, and whole."""
        return self._get_at(seq, segment, offset) is not None

    def _get_at(self, seq: int, segment: int, offset: int) -> Record | None:
        if segment in self._files:
            record = _record_at(self._files[segment], seq, offset)
            if record is not None:
                self._files.move_to_end(segment)
                return record
            # Stripping replaces the file: the place may be one in the new file.
            self._files.pop(segment).close()
        try:
            file = _File(self.disk, self.directory, segment)
        except FileNotFoundError:
            return None
        self._files[segment] = file
        if len(self._files) > _OPEN_FILES_MAX:
            self._files.popitem(last=False)[1].close()
        return _record_at(file, seq, offset)

    def _info(self, first_seq: int) -> SegmentInfo:
        file = _File(self.disk, self.directory, first_seq)
        try:
            size = file.size()
            footer = _footer_at_end(file, size)
        finally:
            file.close()
        if footer is None:
            # Not sealed: it ends where the whole batches do.
            last_seq, size = self._open_end(first_seq)
            stripped = False
        else:
            last_seq, stripped = footer.last_seq, footer.stripped
        return SegmentInfo(
            segment_name(first_seq),
            first_seq,
            last_seq,
            last_seq + 1 - first_seq,
            size,
            footer is not None,
            stripped,
        )

    def _open_end(self, first_seq: int) -> tuple[int, int]:
        last_seq, size = first_seq - 1, SEGMENT_HEADER_BYTES
        for record in self.read(first_seq):
            if record.segment != first_seq:
                break
            last_seq, size = record.seq, record.end_offset
        return last_seq, size


class Cursor:
    """One reader's place in the log: `seq` is the next that it will hand out."""

    def __init__(self, reader: LogReader, from_seq: int) -> None:
        self.seq = max(from_seq, 1)
        self._reader = reader
        self._segment: int | None = None
        self._file: _File | None = None
        self._walk: Walk | None = None
        #: What the walk has passed of a batch that it has not come to the end of.
        self._begun: list[Record] = []
        self._suspect: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file. The place is kept."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def advance(self) -> list[Record]:
        """The next records: whole batches, about a chunk of them. Empty if there are no more yet."""
        limit = self._reader.limit() if self._reader.limit is not None else None
        while limit is None or self.seq <= limit:
            file = self._file or self._open()
            if file is None:
                break
            assert self._walk is not None
            batches = _read_batches(file, self._walk, self._begun, limit)
            records = batches
            if batches and batches[0].seq < self.seq:
                records = batches[self.seq - batches[0].seq :]
            if records:
                self.seq = records[-1].seq + 1
                return records
            if not batches and not self._pass_end(file, self._walk):
                break
        # Whoever comes again comes later, and the file may have been replaced by then.
        self.close()
        return []

    def _open(self) -> _File | None:
        disk, directory = self._reader.disk, self._reader.directory
        if self._segment is None:
            seqs = segment_seqs(disk, directory)
            if not seqs:
                return None
            if self.seq < seqs[0]:
                problem = f"the log begins here; what was before sequence {seqs[0]} is missing"
                raise corruption(seqs[0], Fault(0, self.seq, "segment", problem))
            self._segment = seqs[bisect_right(seqs, self.seq) - 1]
        file = self._file = _File(disk, directory, self._segment)
        # The place is the same even if the file has been replaced by one without a torn tail. If it has been
        # stripped it is not, and `_pass_end` begins anew.
        place = self._walk.end if self._walk is not None else self._place_before(file)
        self._walk, self._begun = Walk(file.header, place), []
        return file

    def _place_before(self, file: _File) -> Position | None:
        """Where the batch with our next record begins, if the index knows. None is the start of the
        segment."""
        record = self._located(file, self.seq)
        if record is None or record.batch_seq == file.header.first_seq:
            return None
        before = self._located(file, record.batch_seq - 1)
        if before is None:
            return None
        return Position(before.segment, before.end_offset, record.batch_seq, before.chain, before.time_us)

    def _located(self, file: _File, seq: int) -> Record | None:
        place = self._reader.locate(seq) if self._reader.locate is not None else None
        if place is None or place[0] != file.header.first_seq:
            return None
        return _record_at(file, seq, place[1])

    def _pass_end(self, file: _File, walk: Walk) -> bool:
        """There is no whole batch at our place. True if it is worth another try, somewhere or somehow
        else."""
        size = file.size()
        fault = walk.finish(size)
        later = [seq for seq in segment_seqs(self._reader.disk, self._reader.directory) if seq > walk.segment]
        if walk.footer is not None and fault is None:
            return self._next_segment(walk, walk.footer, later)
        if fault is None:
            fault = Fault(walk.offset, walk.next_seq, "segment", "the segment ends here without a footer")
        if not later and self._reader.limit is None:
            data = file.read(size - walk.offset, walk.offset)
            if find_later(data, walk.offset, fault, walk.batch_seq, file.seed) is None:
                return False
        # It had been finished. But we may have looked at it while it was being written, or at a file that
        # has been replaced since: what is wrong must be wrong again in a file opened after we have seen the
        # proof.
        if self._suspect == (walk.segment, fault.offset):
            raise corruption(walk.segment, fault)
        self._suspect = (walk.segment, fault.offset)
        self.close()
        self._walk = Walk(walk.header)
        return True

    def _next_segment(self, walk: Walk, footer: Footer, later: list[int]) -> bool:
        if not later:
            return False
        if later[0] != walk.next_seq:
            problem = f"the segment begins with {later[0]} where {walk.next_seq} belongs"
            raise corruption(later[0], Fault(0, walk.next_seq, "segment", problem))
        self.close()
        file = self._file = _File(self._reader.disk, self._reader.directory, later[0])
        if file.header.previous_chain != footer.chain:
            problem = "its chain value does not follow from the segment before it"
            raise corruption(later[0], Fault(0, walk.next_seq, "segment-header", problem))
        self._segment = later[0]
        self._walk, self._begun = Walk(file.header, start_of(file.header, footer.last_time_us)), []
        return True


def _read_batches(file: _File, walk: Walk, begun: list[Record], limit: int | None) -> list[Record]:
    """The next whole batches, about a chunk of them; none if the file has no whole batch there.

    `begun` has the records that the walk has passed behind the last whole batch, before and after: none of a batch that
    is longer than a chunk is verified twice. But that there is no whole batch is said after one look at all of it: what
    was passed before may have been cut since.
    """
    if begun:
        if whole := _go_on(file, walk, begun, limit):
            return whole
        walk.rewind()
        begun.clear()
    return _go_on(file, walk, begun, limit)


def _go_on(file: _File, walk: Walk, begun: list[Record], limit: int | None) -> list[Record]:
    start_seq = walk.end.next_seq
    while True:
        at = walk.offset
        length = max(_CHUNK_BYTES, walk.wanted)
        data = file.read(length, at)
        found = walk.records(data, at)
        if limit is not None and walk.next_seq <= limit:
            # What lies beyond may be half written, and is nobody's business yet.
            found = islice(found, limit + 1 - walk.next_seq)
        begun += found
        end_seq = walk.end.next_seq
        if end_seq > start_seq or len(data) < length or walk.fault or walk.footer:
            break
    if end_seq == start_seq:
        return []
    whole = begun[: end_seq - start_seq]
    del begun[: end_seq - start_seq]
    if walk.fault:
        # Whoever comes next meets it anew.
        walk.rewind()
        begun.clear()
    return whole


def _record_at(file: _File, seq: int, offset: int) -> Record | None:
    """The record, if it is there and whole."""
    try:
        data = file.read(_FIRST_BYTES, offset)
        if len(data) < HEADER_BYTES:
            return None
        header = decode_header(data, 0, file.seed)
        if len(data) < header.size:
            data = file.read(header.size, offset)
        if header.seq != seq or len(data) < header.size:
            return None
        return decode_record(data, 0, file.seed, file.header.first_seq, offset, header)
    except DamagedError:
        return None


def _footer_at_end(file: _File, size: int) -> Footer | None:
    end = size - FOOTER_BYTES
    if end < SEGMENT_HEADER_BYTES:
        return None
    try:
        footer = decode_footer(file.read(FOOTER_BYTES, end), 0, file.seed)
    except DamagedError:
        return None
    return footer if footer.end_offset == end else None
