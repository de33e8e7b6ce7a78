"""Whether the files of one of several machines still have what the log says is gone."""

from __future__ import annotations

from pathlib import Path

from relay.codec import decode_raw
from relay.config_nodes import NODE_FILE
from relay.events import PayloadErased
from relay.file_names import LOG_DIRECTORY
from spool.disk import RealDisk
from spool.mark import MARK_NAME
from spool.reader import LogReader
from spool.stripped import read_stripped


def stripped_through(directory: Path) -> int | None:
    """This machine has removed all that events up to this one erase. None: the log is this one's alone, and says so
    itself."""
    log = directory / LOG_DIRECTORY
    # One that was filled, and not started since, has no mark.
    if not (log / MARK_NAME).exists() and not (directory / NODE_FILE).exists():
        return None
    return read_stripped(RealDisk(), log)


def first_owed(log: Path, through: int, last_seq: int) -> int | None:
    """The first event behind `through` and up to `last_seq` that erases something; None: there is none."""
    mark = PayloadErased.TYPE.encode()
    with LogReader(log) as reader:
        for record in reader.read(through + 1, last_seq):
            if mark in record.skeleton and decode_raw(record)["type"] == PayloadErased.TYPE:
                return record.seq
    return None
