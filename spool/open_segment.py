"""The segment that is being written, and how the next one is begun.

The invariant: **a segment has its name only when its header is durable and everything in front of it is sealed,
durably.** So recovery may take a later segment for the proof that an earlier one had been finished, and a segment
without a header for damage.

It belongs to the log's writer, which has one batch under way at a time: `encode` it, `write` it in a thread that may
block, and `advance` behind it. Before that nobody is shown anything of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from spool.disk import Disk
from spool.files import TMP_SUFFIX
from spool.record import CHAIN_START, Entry, Record, crc32c, encode_record, make_record
from spool.recovery import Action, Plan
from spool.segment import (
    SALT_BYTES,
    Position,
    SegmentHeader,
    encode_footer,
    encode_segment_header,
    seal,
    segment_name,
    start_of,
)


class OpenSegment:
    """The end of the log in `directory`. Not to be used before `begin`."""

    def __init__(
        self, disk: Disk, directory: Path, *, clock: Callable[[], int], new_salt: Callable[[], bytes]
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._clock = clock
        self._new_salt = new_salt
        self._handle: int | None = None
        self._seed = 0
        self._file_crc = 0
        #: Where what was written last ends.
        self._written_offset = 0
        #: After the last durable batch.
        self.end: Position

    def begin(self, plan: Plan) -> None:
        """Go on where recovery has left the log: in its last segment, or in a new one."""
        tail = plan.tail
        if plan.row.action is Action.APPEND:
            assert tail is not None  # the table appends only to what is there
            assert tail.header is not None
            self._handle = self._disk.open_write(self._directory / segment_name(tail.first_seq))
            self._seed = tail.header.seed
            self._file_crc = tail.file_crc
            self.end = tail.end
        else:
            self.end = Position(1, 0, 1, CHAIN_START, 0) if tail is None else tail.end
            self._create()

    def close(self) -> None:
        if self._handle is not None:
            self._disk.close(self._handle)
            self._handle = None

    def encode(self, appends: Iterable[Sequence[Entry]]) -> tuple[list[Record], bytes]:
        """The next batch: the records of all these entries, in order, and their bytes."""
        segment, offset, seq, chain, last_time_us = self.end
        entries = [entry for append in appends for entry in append]
        # One time for the batch: it becomes true in one moment.
        time_us = max(last_time_us, self._clock())
        batch_seq, batch_end_seq = seq, seq + len(entries) - 1
        records: list[Record] = []
        pieces: list[bytes] = []
        for entry in entries:
            record = make_record(
                entry,
                seq=seq,
                time_us=time_us,
                batch_seq=batch_seq,
                batch_end=seq == batch_end_seq,
                previous_chain=chain,
                segment=segment,
                offset=offset,
            )
            pieces += encode_record(record, self._seed)
            records.append(record)
            seq += 1
            chain = record.chain
            offset = record.end_offset
        return records, b"".join(pieces)

    def encode_placed(self, records: Sequence[Record]) -> bytes:
        """The bytes of records whose place is here, behind the others."""
        assert (records[0].segment, records[0].offset) == self.end[:2]
        pieces: list[bytes] = []
        for record in records:
            pieces += encode_record(record, self._seed)
        return b"".join(pieces)

    def write(self, data: bytes) -> float:
        """Make a batch durable behind the others, and return the seconds that the sync took. May run in a thread."""
        assert self._handle is not None
        self._written_offset = self.end.offset + len(data)
        return _write_and_sync(self._disk, self._handle, data, self.end.offset)

    def write_unsynced(self, data: bytes) -> None:
        """Write what is durable elsewhere behind the others. May run in a thread."""
        assert self._handle is not None
        self._disk.write(self._handle, data, self.end.offset)
        self._written_offset = self.end.offset + len(data)

    def sync(self) -> None:
        """Make all that was written so far durable. May run in a thread, beside writes, and not beside `rotate`."""
        assert self._handle is not None
        self._disk.fdatasync(self._handle)

    def advance(self, last: Record, data: bytes) -> None:
        """What ends with this record is written, and durable, here or elsewhere: the next batch comes behind it."""
        assert self._written_offset == self.end.offset + len(data), "it is not in this machine's file"
        self.end = Position(
            self.end.segment, self.end.offset + len(data), last.seq + 1, last.chain, last.time_us
        )
        self._file_crc = crc32c(self._file_crc, data)

    def rotate(self) -> None:
        """Seal this segment, durably, and begin the next one. May run in a thread, while the writer waits for it."""
        assert self._handle is not None
        handle = self._handle
        footer = encode_footer(seal(self.end, self._file_crc), self._seed)
        self._disk.write(handle, footer, self.end.offset)
        self._disk.fsync(handle)
        self._create()
        self._disk.close(handle)

    def _create(self) -> None:
        """Begin the segment after `end`.

        Not by `write_durably`: where the disk fails nothing more is asked of it, and the next start clears up.
        """
        salt = self._new_salt()
        assert len(salt) == SALT_BYTES
        header = SegmentHeader(
            first_seq=self.end.next_seq,
            created_us=max(self.end.time_us, self._clock()),
            salt=salt,
            previous_chain=self.end.chain,
        )
        path = self._directory / segment_name(header.first_seq)
        tmp = path.with_name(path.name + TMP_SUFFIX)
        data = encode_segment_header(header)
        handle = self._disk.create(tmp)
        try:
            self._disk.write(handle, data, 0)
            self._disk.fsync(handle)
            self._disk.rename(tmp, path)
            self._disk.sync_directory(self._directory)
        except BaseException:
            self._disk.close(handle)
            raise
        self._handle = handle
        self._seed = header.seed
        self.end = start_of(header, self.end.time_us)
        self._file_crc = crc32c(0, data)


def _write_and_sync(disk: Disk, handle: int, data: bytes, offset: int) -> float:
    """Nothing but the system calls: the thread must not fight for the GIL."""
    disk.write(handle, data, offset)
    start = time.perf_counter()
    disk.fdatasync(handle)
    return time.perf_counter() - start
