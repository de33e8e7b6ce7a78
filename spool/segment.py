"""One segment file: its header, its footer, and the walk from one to the other.

The invariant: **a walk yields a record only if everything before it in the segment was whole and in
sequence**, and when it stops, it says exactly where and why. Whether that stop is a torn tail or corruption
is not decided here but in `recovery`, which knows what else there is.

The footer makes a segment *sealed*: nothing follows it, ever. It carries a checksum over the whole file, so
that start-up checks a sealed segment as fast as memory allows and walks it only to name the culprit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from spool.errors import CorruptionError
from spool.record import (
    CHAIN_START,
    HEADER_BYTES,
    KIND_AT,
    KIND_FOOTER,
    MAGIC,
    MAGIC_AT,
    DamagedError,
    Record,
    chain_of,
    crc32c,
    decode_header,
    decode_record,
)

SEGMENT_MAGIC: Final = b"SPOOLSEG"
VERSION: Final = 1
SEGMENT_HEADER_BYTES: Final = 80
FOOTER_BYTES: Final = 88
SALT_BYTES: Final = 16

_CRC: Final = struct.Struct("<I")
_SEGMENT_HEADER: Final = struct.Struct("<8sIIQQ16s32s")
# kind, flags, checksum over the file, zero, count, first and last seq, end offset, last time, chain.
_FOOTER: Final = struct.Struct("<2sBBIIQQQQQ32s")
_FOOTER_STRIPPED: Final = 1


def segment_name(first_seq: int) -> str:
    return f"{first_seq:020d}.seg"


def segment_seq(name: str) -> int | None:
    """The first sequence number of the segment file of this name, or None if it is none."""
    stem, dot, suffix = name.partition(".")
    if len(stem) == 20 and stem.isascii() and stem.isdigit() and dot + suffix == ".seg":
        return int(stem)
    return None


class SegmentHeader(NamedTuple):
    first_seq: int
    created_us: int
    salt: bytes
    previous_chain: bytes
    """The chain value of the last record of the segment before."""

    @property
    def seed(self) -> int:
        """What every checksum in this segment starts from."""
        return crc32c(0, self.salt)


class Footer(NamedTuple):
    records: int
    first_seq: int
    last_seq: int
    end_offset: int
    """Where the footer itself begins."""
    last_time_us: int
    chain: bytes
    file_crc: int
    """CRC-32C, unsalted, over all bytes of the file before the footer."""
    stripped: bool = False
    """Payloads have been removed from this segment since it was sealed."""


class Position(NamedTuple):
    """A place between two batches, and all that is needed to go on from there."""

    segment: int
    offset: int
    next_seq: int
    chain: bytes
    time_us: int

    @property
    def records(self) -> int:
        """Records in this segment before this place."""
        return self.next_seq - self.segment


class Fault(NamedTuple):
    """Where a walk had to stop, and why."""

    offset: int
    seq: int
    part: str
    problem: str


def corruption(first_seq: int, fault: Fault) -> CorruptionError:
    """The error that tells of a fault in the segment of this name, where the bytes had been acknowledged."""
    return CorruptionError(
        file=segment_name(first_seq),
        offset=fault.offset,
        seq=fault.seq,
        part=fault.part,
        problem=fault.problem,
    )


def encode_segment_header(header: SegmentHeader) -> bytes:
    def pack(crc: int) -> bytes:
        return _SEGMENT_HEADER.pack(
            SEGMENT_MAGIC,
            VERSION,
            crc,
            header.first_seq,
            header.created_us,
            header.salt,
            header.previous_chain,
        )

    # The checksum is over the header with zero in the checksum's own place.
    return pack(crc32c(0, pack(0)))


def decode_segment_header(data: bytes, first_seq: int) -> SegmentHeader:
    """The header of the segment whose name says `first_seq`. Raises `DamagedError`."""
    part = "segment-header"
    if len(data) < SEGMENT_HEADER_BYTES:
        raise DamagedError(part, f"the file ends inside the segment header ({len(data)} bytes)")
    magic, version, _, *fields = _SEGMENT_HEADER.unpack_from(data)
    header = SegmentHeader(*fields)
    if magic != SEGMENT_MAGIC:
        raise DamagedError(part, "this is not a segment file")
    if version != VERSION:
        raise DamagedError(part, f"segment version {version} is not known here")
    if encode_segment_header(header) != data[:SEGMENT_HEADER_BYTES]:
        raise DamagedError(part, "the checksum of the segment header does not match")
    if header.first_seq != first_seq:
        raise DamagedError(part, f"the file is named {first_seq} but begins with {header.first_seq}")
    return header


def encode_footer(footer: Footer, seed: int) -> bytes:
    body = _FOOTER.pack(
        MAGIC,
        KIND_FOOTER,
        _FOOTER_STRIPPED if footer.stripped else 0,
        footer.file_crc,
        0,
        footer.records,
        footer.first_seq,
        footer.last_seq,
        footer.end_offset,
        footer.last_time_us,
        footer.chain,
    )
    return _CRC.pack(crc32c(seed, body)) + body


def decode_footer(data: bytes, position: int, seed: int) -> Footer:
    """The footer at `position`, which must be there in full. Raises `DamagedError`."""
    body = data[position + _CRC.size : position + FOOTER_BYTES]
    (crc,) = _CRC.unpack_from(data, position)
    if crc32c(seed, body) != crc:
        raise DamagedError("footer", "the checksum of the footer does not match")
    magic, kind, flags, file_crc, _, records, first_seq, last_seq, end_offset, time_us, chain = (
        _FOOTER.unpack(body)
    )
    if magic != MAGIC or kind != KIND_FOOTER:
        raise DamagedError("footer", "this is not a footer")
    stripped = flags & _FOOTER_STRIPPED != 0
    return Footer(records, first_seq, last_seq, end_offset, time_us, chain, file_crc, stripped)


def seal(position: Position, file_crc: int) -> Footer:
    """The footer for a segment that ends at `position`."""
    return Footer(
        records=position.records,
        first_seq=position.segment,
        last_seq=position.next_seq - 1,
        end_offset=position.offset,
        last_time_us=position.time_us,
        chain=position.chain,
        file_crc=file_crc,
    )


def start_of(header: SegmentHeader, time_us: int = 0) -> Position:
    """The place before the first record of a segment."""
    return Position(header.first_seq, SEGMENT_HEADER_BYTES, header.first_seq, header.previous_chain, time_us)


class Walk:
    """Reads one segment front to back, fed bytes by whoever has the file.

    `end` is the place after the last whole batch. After `records` has returned, exactly one of these holds:
    it wants more bytes (`wanted` of them from `offset`), `footer` is there, or `fault` says what is wrong.
    """

    def __init__(self, header: SegmentHeader, start: Position | None = None) -> None:
        self.header = header
        self._seed = header.seed
        self.segment = header.first_seq
        self.footer: Footer | None = None
        self.fault: Fault | None = None
        self.wanted = 0
        self.end = start or start_of(header)
        self.rewind()

    def rewind(self) -> None:
        """Back to the end of the last whole batch, forgetting what came after."""
        _, self.offset, self.next_seq, self._chain, self._time_us = self.end
        self._batch_seq: int | None = None
        self.fault = None

    @property
    def batch_seq(self) -> int:
        """The first sequence number of the batch that the walk stands in, or else of the next one."""
        return self.next_seq if self._batch_seq is None else self._batch_seq

    def records(self, data: bytes, at: int) -> Iterator[Record]:
        """The records in `data`, which are the bytes of the file from offset `at` on."""
        seed, segment, length = self._seed, self.segment, len(data)
        while self.footer is None:
            offset = self.offset
            position = offset - at
            try:
                if length - position > KIND_AT and data[position + KIND_AT] == KIND_FOOTER:
                    self.wanted = FOOTER_BYTES
                    if length - position >= FOOTER_BYTES:
                        self.footer = self._check_footer(decode_footer(data, position, seed))
                        self.offset += FOOTER_BYTES
                    return
                record = decode_record(data, position, seed, segment, offset)
                if record is None:
                    headed = length - position >= HEADER_BYTES
                    self.wanted = decode_header(data, position, seed).size if headed else HEADER_BYTES
                    return
                self._step(record)
            except DamagedError as damage:
                self.fault = Fault(self.offset, self.next_seq, damage.part, damage.problem)
                return
            yield record

    def finish(self, size: int) -> Fault | None:
        """Say what is wrong, if anything, with the file ending at offset `size`."""
        if self.fault is None:
            if self.footer is not None:
                if size != self.offset:
                    self.fault = Fault(self.offset, self.next_seq, "footer", "bytes follow the footer")
            elif size != self.offset:
                problem = f"the file ends at {size}, inside a record"
                self.fault = Fault(self.offset, self.next_seq, "header", problem)
            elif self._batch_seq is not None:
                problem = f"the file ends inside the batch that began with sequence {self._batch_seq}"
                self.fault = Fault(self.offset, self.next_seq, "header", problem)
        return self.fault

    def _step(self, record: Record) -> None:
        """Go on behind it, if it follows from what stands in front of it. Raises `DamagedError`."""
        seq, batch_seq = record.seq, self._batch_seq
        if batch_seq is None:
            batch_seq = self.next_seq
        if seq != self.next_seq:
            raise DamagedError("header", f"sequence {seq} stands where {self.next_seq} belongs")
        if record.batch_seq != batch_seq:
            raise DamagedError("header", f"batch {record.batch_seq} stands where batch {batch_seq} belongs")
        if record.time_us < self._time_us:
            raise DamagedError("header", "its time is before the time of the record in front of it")
        if record.chain != chain_of(record, self._chain):
            raise DamagedError("header", "its chain value does not follow from the record in front of it")
        self.offset = record.end_offset
        self.next_seq = seq + 1
        self._chain = record.chain
        self._time_us = record.time_us
        if record.batch_end:
            self._batch_seq = None
            self.end = Position(self.segment, self.offset, self.next_seq, self._chain, self._time_us)
        else:
            self._batch_seq = batch_seq

    def _check_footer(self, footer: Footer) -> Footer:
        found = (footer.records, footer.first_seq, footer.last_seq, footer.end_offset, footer.chain)
        expected = (self.next_seq - self.segment, self.segment, self.next_seq - 1, self.offset, self._chain)
        if self._batch_seq is not None or found != expected:
            raise DamagedError("footer", "the footer does not agree with the records before it")
        return footer


def find_later(data: bytes, at: int, fault: Fault, batch_seq: int, seed: int) -> int | None:
    """The offset of a valid header after the fault which says that batch `batch_seq` had been finished.

    That is a record of a later batch, or a footer: neither is written before the batch is durable. `data`
    are the bytes of the file from offset `at` on. A salted checksum of 32 bits alone would be met by chance
    once in four billion tries, so a sequence that so many bytes cannot have reached does not count either.
    """
    position = data.find(MAGIC, fault.offset - at + MAGIC_AT)
    while position >= 0:
        start = position - MAGIC_AT
        if start % 8 == 0 and _is_later(data, start, fault, start + at, batch_seq, seed):
            return start + at
        position = data.find(MAGIC, position + 1)
    return None


def _is_later(data: bytes, start: int, fault: Fault, offset: int, batch_seq: int, seed: int) -> bool:
    reachable_seq = fault.seq + (offset - fault.offset) // HEADER_BYTES
    try:
        if len(data) - start > KIND_AT and data[start + KIND_AT] == KIND_FOOTER:
            if len(data) - start < FOOTER_BYTES:
                return False
            footer = decode_footer(data, start, seed)
            return footer.end_offset == offset and batch_seq <= footer.last_seq
        if len(data) - start < HEADER_BYTES:
            return False
        header = decode_header(data, start, seed)
    except DamagedError:
        return False
    return batch_seq < header.batch_seq <= header.seq <= reachable_seq


class Scan(NamedTuple):
    """All that start-up needs to know about one segment."""

    first_seq: int
    header: SegmentHeader | None
    """None if it is damaged; then there is a fault."""
    size: int
    end: Position
    """After the last whole batch."""
    footer: Footer | None
    fault: Fault | None
    followed: bool = False
    """Behind the fault there is proof that what the fault hit had been acknowledged."""
    file_crc: int = 0
    """Over the bytes before `end`, to go on from there."""


def scan_segment(data: bytes, first_seq: int) -> Scan:
    """Walk the bytes of a whole segment file, verifying everything."""
    size = len(data)
    try:
        header = decode_segment_header(data, first_seq)
    except DamagedError as damage:
        nowhere = Position(first_seq, 0, first_seq, CHAIN_START, 0)
        fault = Fault(0, first_seq, damage.part, damage.problem)
        return Scan(first_seq, None, size, nowhere, None, fault)
    walk = Walk(header)
    for _ in walk.records(data, 0):
        pass
    file_crc = crc32c(0, data[: walk.end.offset])
    if not walk.finish(size) and walk.footer and walk.footer.file_crc != file_crc:
        problem = "the checksum over the file does not match"
        walk.fault = Fault(walk.end.offset, walk.next_seq, "footer", problem)
    footer = walk.footer if walk.fault is None else None
    followed = walk.fault is not None and (
        walk.footer is not None or find_later(data, 0, walk.fault, walk.batch_seq, header.seed) is not None
    )
    return Scan(first_seq, header, size, walk.end, footer, walk.fault, followed, file_crc)
