"""What stands in a log's directory, by its names.

The invariant: **only what is named like a segment is one.** A file that is being written, a lock, a copy of a torn tail
or something that a person has left there is never read as part of the log. (How a segment is named, and that the name
must agree with its header, `spool.segment` says.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spool.disk import Disk
from spool.files import opened
from spool.segment import segment_name, segment_seq

LOCK_NAME: Final = "lock"
TORN_NAME: Final = "torn"


def segment_seqs(disk: Disk, directory: Path) -> list[int]:
    """The first sequence numbers of the segments there, in order."""
    seqs = (segment_seq(name) for name in disk.list_names(directory))
    return sorted(seq for seq in seqs if seq is not None)


def segments_bytes(disk: Disk, directory: Path) -> int:
    """How large all segments there are together."""
    total = 0
    for first_seq in segment_seqs(disk, directory):
        with opened(disk, directory / segment_name(first_seq)) as handle:
            total += disk.size(handle)
    return total
