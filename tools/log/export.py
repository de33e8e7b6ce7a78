"""`log export`: the events as JSON lines, in a file that can be gone on with.

The lines are those of `log cat --json`, so whatever reads the one reads the other. The file is its own record of how
far it has come: the last whole line says which event it was, and that it was this log's. A line that was not finished
is written anew.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from spool.reader import LogReader
from tools.log.directory import log_directory
from tools.log.event_text import as_json
from tools.log.selection import Bound, EventSelection, select, selection_options
from tools.meter import open_meter
from tools.output import directory_argument, quiet_when_nobody_reads

_CHUNK_BYTES = 64 << 10
#: A batch of the log is smaller than this, whatever JSON makes of it.
_LINE_BYTES_MAX = 128 << 20


@click.command("export")
@directory_argument
@selection_options
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, and where it is there already, go on behind its last line.",
)
def export_command(directory: Path, selection: EventSelection, output: Path | None) -> None:
    """Write the events as JSON lines, as `log cat --json` does.

    With --output, broken off, run the same command again: it goes on, as it does for what was logged meanwhile. Exit
    status 0 says that the file holds all that was selected. It holds personal data, so it is for its owner only.
    """
    log = log_directory(directory)
    if output is None:
        with quiet_when_nobody_reads(), LogReader(log) as reader:
            for event in select(reader, selection):
                click.echo(as_json(event))
        return
    with _open_for_us(output) as file, LogReader(log) as reader, open_meter() as meter:
        last_seq = max((segment.last_seq for segment in reader.segments()), default=0)
        seq, lines = _go_on(file, output, reader, selection), 0
        begin = selection.begin if seq is None else Bound(seq=seq + 1)
        for event in select(reader, selection._replace(begin=begin)):
            file.write(as_json(event).encode() + b"\n")
            lines += 1
            meter("exporting", event.seq, last_seq)
        file.flush()
        os.fsync(file.fileno())
    click.echo(f"{output}: {lines:,} event{'' if lines == 1 else 's'} written.", err=True)


@contextmanager
def _open_for_us(path: Path) -> Iterator[BinaryIO]:
    """The file, for its owner only, also where it was there for others as well; nobody else writes to it meanwhile.

    Never what a symbolic link points to: who could lay one there would choose which file of ours is written.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise click.ClickException(f"{path} is a symbolic link; name the file itself") from None
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            os.close(handle)
            raise click.ClickException(f"{path} is no file of our own with one name; nothing was changed")
        os.fchmod(handle, 0o600)
        with os.fdopen(handle, "r+b") as file:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise click.ClickException(f"another export writes to {path}") from None
            yield file
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(path)  # a full disk does not say which one it is
        raise


def _go_on(file: BinaryIO, path: Path, reader: LogReader, selection: EventSelection) -> int | None:
    """Place the file behind its last whole line and cut what follows; the sequence number of that line."""
    line, end = _last_line(file)
    seq = None
    if line is not None:
        seq = _seq_of(line)
        if seq is None or not _is_ours(line, seq, reader, selection):
            raise click.ClickException(
                f"{path} does not end with an event of this log that is selected here; nothing was changed. "
                "Go on with the options that it was begun with, or name another file"
            )
    file.truncate(end)
    file.seek(end)
    return seq


def _last_line(file: BinaryIO) -> tuple[bytes | None, int]:
    """The last line that has its line end, and where it ends; None, 0 if there is none."""
    start = file.seek(0, os.SEEK_END)
    tail = b""
    while start > 0 and tail.count(b"\n") < 2 and len(tail) < _LINE_BYTES_MAX:
        count = min(start, max(_CHUNK_BYTES, len(tail)))
        start -= count
        file.seek(start)
        tail = file.read(count) + tail
    before, newline, _ = tail.rpartition(b"\n")
    if newline:
        return before.rpartition(b"\n")[2], start + len(before) + 1
    if start > 0 or (tail and not tail.startswith(b"{")):
        # Some other file, of which nothing is cut.
        return tail, start + len(tail)
    return None, 0


def _seq_of(line: bytes) -> int | None:
    try:
        seq = json.loads(line)["seq"]
    except (ValueError, KeyError, TypeError):
        return None
    return seq if isinstance(seq, int) and seq > 0 else None


def _is_ours(line: bytes, seq: int, reader: LogReader, selection: EventSelection) -> bool:
    """Whether an export of this log with these options has this line. Personal data may be gone from it since."""
    event = next(select(reader, selection._replace(begin=Bound(seq=seq))), None)
    return event is not None and without_personal_data(as_json(event)) == without_personal_data(line)


def without_personal_data(line: str | bytes) -> Any:
    """What retention leaves."""
    value = json.loads(line)
    value.pop("stripped", None)
    data = value.get("data")
    if isinstance(data, dict):
        data.pop("personal", None)
    return value
