"""How far this machine has removed payloads from its own files, of a log that several machines have.

The invariant: **what it says is done on this machine's disk, for records that this machine's disk has.** That payloads
go is a record, which all machines have; that they have gone is true of each machine's files by itself, and no record
can say it of all. So each keeps its own progress: every such record up to this sequence number has been carried out
here.

It is written after the files are. A crash in between makes the machine do some of it again, which changes nothing. It
is never beyond the end of the log: what a crash has cut there is received again, with all its payloads, and so the
progress goes back first (`Log` does that at its start, before anything is received).

It is a file `stripped` in the log's directory, put in the place of the old one by a rename. Whoever fills a machine's
log from elsewhere leaves it out: a log without one may have anything in it. 24 bytes, little-endian::

     0   8  magic "SPOOLSTR"
     8   4  version, 1
    12   4  CRC-32C of these 24 bytes with zero in this place
    16   8  the sequence number

One that is damaged, or of a version that is not known here, says nothing: all is done again.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from spool.disk import Disk
from spool.files import opened, write_durably
from spool.record import crc32c

STRIPPED_NAME: Final = "stripped"
_MAGIC: Final = b"SPOOLSTR"
_VERSION: Final = 1
_STRIPPED: Final = struct.Struct("<8sIIQ")


def encode_stripped(seq: int) -> bytes:
    def pack(crc: int) -> bytes:
        return _STRIPPED.pack(_MAGIC, _VERSION, crc, seq)

    return pack(crc32c(0, pack(0)))


def decode_stripped(data: bytes) -> int:
    """0: nothing is known."""
    if len(data) != _STRIPPED.size:
        return 0
    seq: int = _STRIPPED.unpack(data)[-1]
    return seq if encode_stripped(seq) == data else 0


def read_stripped(disk: Disk, directory: Path) -> int:
    """0: nothing is known."""
    try:
        with opened(disk, directory / STRIPPED_NAME) as handle:
            return decode_stripped(disk.read(handle, _STRIPPED.size + 1, 0))
    except FileNotFoundError:
        return 0


def write_stripped(disk: Disk, directory: Path, seq: int) -> None:
    """Returned: no crash brings the old one back."""
    write_durably(disk, directory / STRIPPED_NAME, [encode_stripped(seq)])
