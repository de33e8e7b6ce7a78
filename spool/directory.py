"""What stands in a log's directory, by its names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spool.disk import Disk
from spool.segment import segment_seq

LOCK_NAME: Final = "lock"
TORN_NAME: Final = "torn"


def segment_seqs(disk: Disk, directory: Path) -> list[int]:
    """The first sequence numbers of the segments there, in order."""
    seqs = (segment_seq(name) for name in disk.list_names(directory))
    return sorted(seq for seq in seqs if seq is not None)
