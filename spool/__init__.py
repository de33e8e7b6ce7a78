"""A durable, append-only log in a directory of files. It knows nothing of what is in the records.

It imports nothing of `relay` and `tools`, and must never know what a mail is. `interface` says what a log is to those
who use it, and `log` is one. `record`, `segment` and `recovery` are the bytes and what start-up makes of them;
`repair`, `open_segment`, `strip` and `erasure` change files, `reader` only reads them. What is made from a log has
rooms of its own: `views`, `backup`, `verify`. Who may import whom stands in pyproject.toml.

This is the layout of the bytes, in enough detail to write a reader from it. All integers are unsigned and
little-endian; everything begins at a multiple of 8; all checksums are CRC-32C (Castagnoli).

Directory::

    00000000000000000001.seg    segments, named by the sequence number of their first record
    00000000000000008124.seg
    lock                        locked (flock) by the writing process, holds its pid
    mark                        up to where the files are synced, of a log that several machines have: see `spool.mark`
    torn/                       copies of torn tails that were cut: SEGMENT-OFFSET.bytes
    *.tmp                       files that were not finished; no part of the log

A *sequence number* counts records from 1, without gaps. A *batch* is what was made durable by one write and
one fdatasync, and is the unit of recovery: all of it counts, or nothing.

A segment is a header, then records, then, if it is *sealed*, a footer. Only the last segment may be unsealed.
Nothing follows a footer.

Segment header, 80 bytes::

     0   8  magic "SPOOLSEG"
     8   4  version, 1
    12   4  checksum of these 80 bytes with zero in this place
    16   8  sequence number of the first record, as in the file's name
    24   8  time of creation, µs since 1970
    32  16  salt, random
    48  32  chain value of the last record of the segment before; zeros in the first segment

The *seed* of a segment is the checksum of its salt. It takes the place of the usual start value (zero) in all
checksums of the records and the footer, so that bytes from elsewhere never pass for a record of this segment.

Record: header, 112 bytes, then the skeleton, then the payload, each padded with zeros to a multiple of 8::

     0   4  checksum, seeded, of the rest of this header (bytes 4 to 111)
     4   2  magic, F7 FB
     6   1  kind, 1
     7   1  flags: 1 it has a payload, 2 its payload has been stripped, 4 it is the last of its batch
     8   4  length of the skeleton, without padding
    12   4  length of the payload, without padding; 0 if it has none
    16   4  checksum, seeded, of the skeleton with its padding
    20   4  checksum, seeded, of the payload with its padding
    24   8  sequence number
    32   8  time, µs since 1970, never less than that of the record before
    40   8  sequence number of the first record of its batch
    48  32  SHA-256 of the payload; stays when the payload is stripped; zeros if there never was one
    80  32  chain value

The chain value of a record is the SHA-256 of: the chain value of the record before (zeros for the first),
its sequence number (8 bytes), time (8), first of its batch (8), 1 if it is the last of its batch or else 0
(1), the length of its skeleton (4), the skeleton, the SHA-256 of the payload as in the header.

Footer, 88 bytes::

     0   4  checksum, seeded, of the rest of this footer
     4   2  magic, F7 FB
     6   1  kind, 2
     7   1  flags: 1 payloads have been stripped from this segment
     8   4  checksum, not seeded, of all bytes of the file before the footer
    12   4  zero
    16   8  number of records
    24   8  sequence number of the first record
    32   8  sequence number of the last record
    40   8  offset of this footer
    48   8  time of the last record
    56  32  chain value of the last record

A reader takes records from the front as long as each is whole and follows from the one before. If the last
segment is unsealed, what comes after its last whole batch is a write in progress, or one that a crash
interrupted, and was never acknowledged, unless there is proof to the contrary: see `spool.recovery`.
"""

from typing import TYPE_CHECKING, Any

from spool.disk import Disk, RealDisk
from spool.errors import (
    CorruptionError,
    DivergedError,
    LockedError,
    LogClosedError,
    LogDeposedError,
    LogFollowsError,
    LogPoisonedError,
    LogStalledError,
    SequenceNotFoundError,
    SpoolError,
)
from spool.interface import DurableLog, ErasedSegment, LogStatistics
from spool.reader import LogReader, SegmentInfo
from spool.received import PlainRecord, Received
from spool.record import Entry, Record
from spool.recovery import Witness
from spool.repair import Cut, Dropped, RecoveryReport, repair
from spool.strip import Stripped, strip_segment

if TYPE_CHECKING:
    from spool.log import Log, open_log

__all__ = [
    "CorruptionError",
    "Cut",
    "Disk",
    "DivergedError",
    "Dropped",
    "DurableLog",
    "Entry",
    "ErasedSegment",
    "LockedError",
    "Log",
    "LogClosedError",
    "LogDeposedError",
    "LogFollowsError",
    "LogPoisonedError",
    "LogReader",
    "LogStalledError",
    "LogStatistics",
    "PlainRecord",
    "RealDisk",
    "Received",
    "Record",
    "RecoveryReport",
    "SegmentInfo",
    "SequenceNotFoundError",
    "SpoolError",
    "Stripped",
    "Witness",
    "open_log",
    "repair",
    "strip_segment",
]


def __getattr__(name: str) -> Any:
    """The writer is loaded when it is first wanted (PEP 562): it needs trio, and whoever only reads does not."""
    if name not in ("Log", "open_log"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spool import log

    return getattr(log, name)
