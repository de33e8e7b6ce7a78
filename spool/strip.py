"""Stripping: a sealed segment is written anew without some of its payloads.

The invariant: **at every moment one whole segment has the name, the old one or the new one**, and the two differ in
nothing but payloads: same sequence numbers, times, batches, skeletons, payload digests and chain. The new one is
written beside the old one under a name that no reader looks for, synced, read back and compared, and only then takes
the name, by a rename whose directory is synced. A crash leaves the old segment and some bytes that the next start
deletes, or the new one.

A stripped segment draws a salt of its own: of two files with the same seed, the checksums of one would pass in the
other. Its footer says that it was stripped, and each record without its payload that it had one, with its SHA-256: so
stripped and damaged are told apart.

A damaged segment is not rewritten. That would make new checksums for what nobody wrote.

Nobody else writes to a sealed segment, so all of this may run in another thread beside the log's writer. Whoever has
the old file open goes on reading it. Offsets behind the first removed payload change: `Stripped.offsets` has the new
ones for whoever keeps an index. The caller holds the log's lock, and strips one segment at a time.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from spool.disk import Disk
from spool.files import CHUNK_BYTES, opened, write_durably
from spool.record import DamagedError, Record, crc32c, encode_record
from spool.segment import (
    SEGMENT_HEADER_BYTES,
    Fault,
    Footer,
    SegmentHeader,
    Walk,
    corruption,
    decode_segment_header,
    encode_footer,
    encode_segment_header,
    segment_name,
)

#: About half a millisecond's work.
RECORDS_PER_PAUSE: Final = 32


class Stripped(NamedTuple):
    """What has become of a segment."""

    first_seq: int
    payloads: int
    """How many were removed now; 0: the file is as it was."""
    bytes_freed: int
    offsets: array[int]
    """Where each record stands now, the first one's first."""
    end_offset: int
    """Where the last one ends."""


def strip_segment(
    disk: Disk,
    directory: Path,
    first_seq: int,
    seqs: Container[int],
    new_salt: Callable[[], bytes],
    *,
    pause: Callable[[], None] = lambda: None,
) -> Stripped:
    """Remove the payloads of the records `seqs` from a sealed segment, durably. Doing it again changes nothing.

    `pause` is called every RECORDS_PER_PAUSE records: a thread that computes without end would keep the interpreter
    (the GIL) from the others for milliseconds, again and again.

    Raises `CorruptionError` where the segment is damaged or not sealed, and `OSError` where the disk is full or fails:
    then the old segment is there, unchanged. (If only the last step, the sync of the directory, failed, either may be
    there after a crash of the machine.)
    """
    path = directory / segment_name(first_seq)
    with opened(disk, path) as source:
        old = _Segment(disk, source, first_seq, pause)
        payloads = sum(record.seq in seqs and record.payload is not None for record in old.records())
        if not payloads:
            # Who was here before may have been killed between the rename and this.
            disk.sync_directory(directory)
            return Stripped(first_seq, 0, 0, old.offsets, old.footer.end_offset)
        old = _Segment(disk, source, first_seq, pause)
        written: list[_Segment] = []

        def read_back(target: int) -> None:
            written.append(_read_back(disk, target, old, pause))

        write_durably(disk, path, _without(old, seqs, new_salt), check=read_back)
        (new,) = written
        return Stripped(first_seq, payloads, old.size - new.size, new.offsets, new.footer.end_offset)


class _Segment:
    """A sealed segment on its way through memory, a chunk at a time, every byte verified."""

    def __init__(self, disk: Disk, handle: int, first_seq: int, pause: Callable[[], None]) -> None:
        self._disk = disk
        self._pause = pause
        self._handle = handle
        self._first_seq = first_seq
        self.size = disk.size(handle)
        try:
            self.header: SegmentHeader = decode_segment_header(
                disk.read(handle, SEGMENT_HEADER_BYTES, 0), first_seq
            )
        except DamagedError as damage:
            raise corruption(first_seq, Fault(0, first_seq, damage.part, damage.problem)) from None
        #: Of the records that have been handed out.
        self.offsets: array[int] = array("Q")
        #: There when `records` has come to its end.
        self.footer: Footer

    def records(self) -> Iterator[Record]:
        """All of them. Raises `CorruptionError` unless what they end with is the footer, and the end of the file."""
        walk = Walk(self.header)
        file_crc = crc32c(0, self._disk.read(self._handle, SEGMENT_HEADER_BYTES, 0))
        while walk.footer is None and walk.fault is None:
            at = walk.offset
            length = max(CHUNK_BYTES, walk.wanted)
            data = self._disk.read(self._handle, length, at)
            for record in walk.records(data, at):
                self.offsets.append(record.offset)
                yield record
                if len(self.offsets) % RECORDS_PER_PAUSE == 0:
                    self._pause()
            end = walk.offset if walk.footer is None else walk.footer.end_offset
            file_crc = crc32c(file_crc, data[: end - at])
            if walk.offset == at and len(data) < length:
                break
        fault = walk.finish(self.size)
        if fault is None and walk.footer is None:
            fault = Fault(walk.offset, walk.next_seq, "segment", "the segment ends here without a footer")
        if fault is None and walk.footer is not None and walk.footer.file_crc != file_crc:
            problem = "the checksum over the file does not match"
            fault = Fault(walk.footer.end_offset, walk.next_seq, "footer", problem)
        if fault is not None:
            raise corruption(self._first_seq, fault)
        assert walk.footer is not None
        self.footer = walk.footer


def _without(old: _Segment, seqs: Container[int], new_salt: Callable[[], bytes]) -> Iterator[bytes]:
    """The bytes of the segment that takes the place of the old one, a piece at a time."""
    header = old.header._replace(salt=new_salt())
    pieces = [encode_segment_header(header)]
    pending, offset, file_crc = len(pieces[0]), 0, 0

    def put_together() -> bytes:
        nonlocal pieces, pending, offset, file_crc
        data = b"".join(pieces)
        offset += len(data)
        file_crc = crc32c(file_crc, data)
        pieces, pending = [], 0
        return data

    for record in old.records():
        if record.payload is not None and record.seq in seqs:
            record = record._replace(payload=None, stripped=True)
        pieces += encode_record(record, header.seed)
        pending += record.size
        if pending >= CHUNK_BYTES:
            yield put_together()
    yield put_together()
    footer = old.footer._replace(end_offset=offset, file_crc=file_crc, stripped=True)
    yield encode_footer(footer, header.seed)


def _read_back(disk: Disk, target: int, old: _Segment, pause: Callable[[], None]) -> _Segment:
    """The new segment, which is about to be the only one that has these records."""
    new = _Segment(disk, target, old.header.first_seq, pause)
    for _ in new.records():
        pass
    same = ("records", "first_seq", "last_seq", "last_time_us", "chain")
    assert all(getattr(new.footer, name) == getattr(old.footer, name) for name in same)
    return new
