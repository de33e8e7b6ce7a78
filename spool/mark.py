"""The mark: up to where this machine's file is synced, of a log that several machines have.

The invariant: **what the mark says is on this machine's disk, and stays.** It is moved after the sync that it speaks
of, never before, and never back. Behind it the file may have anything after a crash: whole batches, halves, or
nothing.

It is a file `mark` in the log's directory, put in the place of the old one by a rename. That a log has one says that it
is not this machine's alone. 40 bytes, little-endian::

     0   8  magic "SPOOLMRK"
     8   4  version, 1
    12   4  CRC-32C of these 40 bytes with zero in this place
    16   8  segment: its first sequence number
    24   8  offset behind the last synced record
    32   8  the sequence number of that record; 0: there is none

What counts is the sequence number. Where the records stand may have changed since, if the segment is sealed by now and
payloads were stripped from it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from spool.disk import Disk
from spool.errors import CorruptionError
from spool.files import opened, write_durably
from spool.record import crc32c
from spool.recovery import Witness

MARK_NAME: Final = "mark"
MARK_BYTES: Final = 40
_MAGIC: Final = b"SPOOLMRK"
_VERSION: Final = 1
_MARK: Final = struct.Struct("<8sIIQQQ")


def encode_mark(mark: Witness) -> bytes:
    def pack(crc: int) -> bytes:
        return _MARK.pack(_MAGIC, _VERSION, crc, *mark)

    return pack(crc32c(0, pack(0)))


def decode_mark(data: bytes) -> Witness:
    """Raises `CorruptionError`: what had been synced cannot be known, and a person has to look."""
    if len(data) == MARK_BYTES:
        *_, segment, offset, seq = _MARK.unpack(data)
        mark = Witness(segment, offset, seq)
        if encode_mark(mark) == data:
            return mark
    problem = (
        "the mark, which says how far this machine's copy of the log is synced, is damaged, or of a version that is "
        "not known here; fill this directory again from another machine's"
    )
    raise CorruptionError(file=MARK_NAME, offset=0, seq=0, part="mark", problem=problem)


def read_mark(disk: Disk, directory: Path) -> Witness | None:
    """None: the log is this machine's alone. Raises `CorruptionError`."""
    if MARK_NAME not in disk.list_names(directory):
        return None
    with opened(disk, directory / MARK_NAME) as handle:
        return decode_mark(disk.read(handle, MARK_BYTES + 1, 0))


def write_mark(disk: Disk, directory: Path, mark: Witness) -> None:
    """Move it. What it speaks of is synced. Returned: no crash brings the old one back."""
    write_durably(disk, directory / MARK_NAME, [encode_mark(mark)])


def remove_mark(disk: Disk, directory: Path) -> None:
    """Make the log this machine's alone. Only for whoever has it open, has synced it (`spool.log.Log.sync`), and knows
    that no other machine appends to it any more. Done again, it changes nothing."""
    if MARK_NAME in disk.list_names(directory):
        disk.unlink(directory / MARK_NAME)
        disk.sync_directory(directory)
