"""One record: how it becomes bytes, and how bytes become a record again or are refused.

The invariant: **every bit of a record is covered by a checksum that is verified before the bit is
believed.** The header has its own CRC-32C, which covers the lengths. (Where a length is outside the
checksum, one flipped bit in it makes a record look cut short, and recovery then cuts off data that had been
acknowledged.) The checksums of the two parts cover their padding as well.

The checksums are seeded with a random salt that each segment draws for itself. Payloads are written by
strangers, and a stranger who does not know the salt cannot put bytes into a payload that pass for a record.

The chain value ties each record to all before it. It covers the skeleton and the *digest* of the payload,
not the payload, so that a payload can be stripped years later and the chain still holds. See the package's
docstring for the layout.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import google_crc32c

HEADER_BYTES: Final = 112
NO_DIGEST: Final = bytes(32)
CHAIN_START: Final = bytes(32)

# Two bytes that valid UTF-8 never contains, so that the search for records inside damaged bytes seldom
# stumbles over text.
MAGIC: Final = b"\xf7\xfb"
# Where the magic stands in a header, and the kind after it, which tells a record from a footer.
MAGIC_AT: Final = 4
KIND_AT: Final = 6
KIND_RECORD: Final = 1
KIND_FOOTER: Final = 2

_PAYLOAD: Final = 1
_STRIPPED: Final = 2
_BATCH_END: Final = 4

# kind, flags, lengths of skeleton and payload, their checksums, seq, time, batch, payload digest, chain. In
# front of it stands the checksum over it.
_FIELDS: Final = "2sBBIIIIQQQ32s32s"
_HEADER: Final = struct.Struct("<" + _FIELDS)
_CRC: Final = struct.Struct("<I")
_CRC_AND_HEADER: Final = struct.Struct("<I" + _FIELDS)
# What the chain covers besides the parts: seq, time, batch, batch end, length of the skeleton.
_CHAINED: Final = struct.Struct("<QQQBI")
_PADDING: Final = tuple(bytes(n) for n in range(8))


class DamagedError(Exception):
    """These bytes are not what was once written: which part, and why."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(problem)
        self.part = part
        self.problem = problem


class Entry(NamedTuple):
    """What a caller appends: bytes that are kept for good, and bytes that may one day be stripped."""

    skeleton: bytes
    payload: bytes | None = None


class Record(NamedTuple):
    """An entry with its place in the log. A tuple, because hundreds of thousands a second are made."""

    seq: int
    time_us: int
    batch_seq: int
    """The first sequence number of the batch it was written in."""
    batch_end: bool
    skeleton: bytes
    payload: bytes | None
    payload_sha256: bytes
    """Stays when the payload is stripped; zeros if there never was a payload."""
    chain: bytes
    stripped: bool
    segment: int
    """The first sequence number of the segment it stands in, which is the segment's name."""
    offset: int

    @property
    def size(self) -> int:
        return record_bytes(len(self.skeleton), 0 if self.payload is None else len(self.payload))

    @property
    def end_offset(self) -> int:
        payload = self.payload
        return self.offset + record_bytes(len(self.skeleton), 0 if payload is None else len(payload))


class RecordHeader(NamedTuple):
    flags: int
    skeleton_len: int
    payload_len: int
    skeleton_crc: int
    payload_crc: int
    seq: int
    time_us: int
    batch_seq: int
    payload_sha256: bytes
    chain: bytes

    @property
    def size(self) -> int:
        return record_bytes(self.skeleton_len, self.payload_len)


#: To begin with a copy costs half of what a new one does: OpenSSL looks that up by its name each time.
_SHA256: Final = hashlib.sha256()

#: CRC-32C of data, going on from a seed. The C function itself: every record is checked by three calls.
crc32c: Final[Callable[[int, bytes], int]] = google_crc32c.extend


def sha256(data: bytes) -> bytes:
    digest = _SHA256.copy()
    digest.update(data)
    return digest.digest()


def padded(length: int) -> int:
    """Up to the next multiple of 8, where everything in a segment begins."""
    return (length + 7) & ~7


def record_bytes(skeleton_len: int, payload_len: int) -> int:
    return HEADER_BYTES + ((skeleton_len + 7) & ~7) + ((payload_len + 7) & ~7)


def entry_bytes(entry: Entry) -> int:
    """What the entry will occupy on disk."""
    return record_bytes(len(entry.skeleton), 0 if entry.payload is None else len(entry.payload))


def make_record(
    entry: Entry,
    *,
    seq: int,
    time_us: int,
    batch_seq: int,
    batch_end: bool,
    previous_chain: bytes,
    segment: int,
    offset: int,
) -> Record:
    """Give the entry its place in the log and its link in the chain."""
    skeleton, payload = entry
    payload_sha256 = NO_DIGEST if payload is None else sha256(payload)
    return Record(
        seq,
        time_us,
        batch_seq,
        batch_end,
        skeleton,
        payload,
        payload_sha256,
        next_chain(previous_chain, seq, time_us, batch_seq, batch_end, skeleton, payload_sha256),
        False,
        segment,
        offset,
    )


def next_chain(
    previous: bytes,
    seq: int,
    time_us: int,
    batch_seq: int,
    batch_end: bool,
    skeleton: bytes,
    payload_sha256: bytes,
) -> bytes:
    """The chain value of a record. What stripping changes (payload, its length, the flags) is not in it."""
    chained = _CHAINED.pack(seq, time_us, batch_seq, batch_end, len(skeleton))
    return sha256(b"".join((previous, chained, skeleton, payload_sha256)))


def chain_of(record: Record, previous: bytes) -> bytes:
    """The chain value that this record should have behind one whose chain value is `previous`."""
    seq, time_us, batch_seq, batch_end, skeleton, _, payload_sha256, *_ = record
    return next_chain(previous, seq, time_us, batch_seq, batch_end, skeleton, payload_sha256)


def encode_record(record: Record, seed: int) -> tuple[bytes, ...]:
    """The record's bytes, in pieces, so that a batch is put together with one copy."""
    seq, time_us, batch_seq, batch_end, skeleton, payload, payload_sha256, chain, stripped, _, _ = record
    skeleton_padding = _PADDING[-len(skeleton) & 7]
    flags = _BATCH_END if batch_end else 0
    if payload is None:
        payload = payload_padding = b""
        payload_crc = seed
        flags |= _STRIPPED if stripped else 0
    else:
        payload_padding = _PADDING[-len(payload) & 7]
        payload_crc = crc32c(crc32c(seed, payload), payload_padding)
        flags |= _PAYLOAD
    header = _HEADER.pack(
        MAGIC,
        KIND_RECORD,
        flags,
        len(skeleton),
        len(payload),
        crc32c(crc32c(seed, skeleton), skeleton_padding),
        payload_crc,
        seq,
        time_us,
        batch_seq,
        payload_sha256,
        chain,
    )
    return (
        _CRC.pack(crc32c(seed, header)),
        header,
        skeleton,
        skeleton_padding,
        payload,
        payload_padding,
    )


def decode_header(data: bytes, position: int, seed: int) -> RecordHeader:
    """The header at `position`, which must be there in full. Raises `DamagedError`."""
    crc, magic, kind, *fields = _CRC_AND_HEADER.unpack_from(data, position)
    _check_header(data, position, seed, crc, magic, kind)
    return RecordHeader._make(fields)


def _check_header(data: bytes, position: int, seed: int, crc: int, magic: bytes, kind: int) -> None:
    if crc32c(seed, data[position + _CRC.size : position + HEADER_BYTES]) != crc:
        raise DamagedError("header", "the checksum of the record header does not match")
    if magic != MAGIC or kind != KIND_RECORD:
        raise DamagedError("header", "this is not a record header")


def decode_record(
    data: bytes, position: int, seed: int, segment: int, offset: int, header: RecordHeader | None = None
) -> Record | None:
    """The record at `position`; None where the data end before it does. Raises `DamagedError`.

    `header`: its own, for who has decoded that already. Where nobody has, none is made in between: whoever reads a
    whole log would spend a tenth of the time on it.
    """
    if len(data) - position < HEADER_BYTES:
        return None
    if header is None:
        crc, magic, kind, *fields = _CRC_AND_HEADER.unpack_from(data, position)
        _check_header(data, position, seed, crc, magic, kind)
    (
        flags,
        skeleton_len,
        payload_len,
        skeleton_crc,
        payload_crc,
        seq,
        time_us,
        batch_seq,
        payload_sha256,
        chain,
    ) = fields if header is None else header
    skeleton_start = position + HEADER_BYTES
    payload_start = skeleton_start + ((skeleton_len + 7) & ~7)
    payload_end = payload_start + ((payload_len + 7) & ~7)
    if len(data) < payload_end:
        return None
    if crc32c(seed, data[skeleton_start:payload_start]) != skeleton_crc:
        raise DamagedError("skeleton", "the checksum of the skeleton does not match")
    if crc32c(seed, data[payload_start:payload_end]) != payload_crc:
        raise DamagedError("payload", "the checksum of the payload does not match")
    payload = None
    if flags & _PAYLOAD:
        payload = data[payload_start : payload_start + payload_len]
        if sha256(payload) != payload_sha256:
            raise DamagedError("payload", "the SHA-256 of the payload does not match")
    # Half of what `Record(...)` costs.
    return tuple.__new__(
        Record,
        (
            seq,
            time_us,
            batch_seq,
            flags & _BATCH_END != 0,
            data[skeleton_start : skeleton_start + skeleton_len],
            payload,
            payload_sha256,
            chain,
            flags & _STRIPPED != 0,
            segment,
            offset,
        ),
    )
