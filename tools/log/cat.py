"""`log inspect`, `log cat` and `log tail`: what the log holds."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
import trio

from relay.store import LOG_DIRECTORY
from spool.reader import LogReader, SegmentInfo
from tools.log.events import Shown, as_json, as_line, show
from tools.log.select import Bound, Selection, parse_bound, select
from tools.output import counted, directory_argument, json_option, print_json, print_table


def log_directory(directory: Path) -> Path:
    """Where the log of a data directory is. Refuses with a sentence where there is none."""
    log = directory / LOG_DIRECTORY
    if not log.is_dir():
        raise click.ClickException(
            f"{directory} holds no log. Is it a data directory? A relay makes its log when it first runs."
        )
    return log


@contextmanager
def quiet_when_nobody_reads() -> Iterator[None]:
    """`log cat | head` is no error."""
    try:
        yield
        sys.stdout.flush()
    except* BrokenPipeError:  # from a nursery it comes in a group
        # Python would try to write what is left when it exits, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.command("inspect")
@directory_argument
@json_option
def inspect_command(directory: Path, as_json: bool) -> None:
    """List the segments: their files, sizes and sequence numbers."""
    segments = LogReader(log_directory(directory)).segments()
    rows = [_segment_row(segment) for segment in segments]
    total_records = sum(segment.records for segment in segments)
    total_bytes = sum(segment.bytes for segment in segments)
    if as_json:
        print_json({"segments": rows, "records": total_records, "bytes": total_bytes})
        return
    columns = ("file", "firstSeq", "lastSeq", "records", "bytes", "sealed", "stripped")
    table = [{**row, "sealed": _yes(row["sealed"]), "stripped": _yes(row["stripped"])} for row in rows]
    print_table(table, columns, empty="The log has no segments.")
    click.echo(
        f"{counted(len(segments), 'segment')}, {counted(total_records, 'record')}, {total_bytes:,} bytes"
    )


def _segment_row(segment: SegmentInfo) -> dict[str, object]:
    return {
        "file": segment.file,
        "firstSeq": segment.first_seq,
        "lastSeq": segment.last_seq,
        "records": segment.records,
        "bytes": segment.bytes,
        "sealed": segment.sealed,
        "stripped": segment.stripped,
    }


def _yes(value: object) -> str:
    return "yes" if value else "no"


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which events: the command gets it as `selection`."""

    @wraps(command)
    def with_selection(
        *arguments: Any,
        begin: Bound | None,
        end: Bound | None,
        types: tuple[str, ...],
        did: str | None,
        message_id: int | None,
        **options: Any,
    ) -> None:
        selection = Selection(begin or Bound(), end or Bound(), types, did, message_id)
        command(*arguments, selection=selection, **options)

    for option in reversed(_SELECTION_OPTIONS):
        option(with_selection)
    return with_selection


_SELECTION_OPTIONS = (
    click.option("--from", "begin", type=parse_bound, metavar="SEQ|TIME", help="The first event, or when."),
    click.option(
        "--to", "end", type=parse_bound, metavar="SEQ|TIME", help="The last event, or when; inclusive."
    ),
    click.option(
        "--type", "types", multiple=True, metavar="TYPE", help="Only this event type; may be repeated."
    ),
    click.option("--did", metavar="DID", help="Only this member's events."),
    click.option(
        "--message", "message_id", type=int, metavar="ID", help="Only this message's, with its send."
    ),
)


@click.command("cat")
@directory_argument
@selection_options
@json_option
def cat_command(directory: Path, selection: Selection, as_json: bool) -> None:
    """Print the events, one a line, the oldest first."""
    with quiet_when_nobody_reads(), LogReader(log_directory(directory)) as reader:
        for event in select(reader, selection):
            _print_event(event, as_json)


@click.command("tail")
@directory_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with new events as they are written, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="How many events."
)
@json_option
def tail_command(directory: Path, follow: bool, lines: int, as_json: bool) -> None:
    """Print the last events."""
    with quiet_when_nobody_reads(), LogReader(log_directory(directory)) as reader:
        segments = reader.segments()
        next_seq = segments[-1].last_seq + 1 if segments else 1
        from_seq = max(next_seq - lines, 1)
        for record in reader.read(from_seq, next_seq - 1):
            _print_event(show(record), as_json)
        if follow:
            try:
                trio.run(_follow, reader, next_seq, as_json)
            except* KeyboardInterrupt:
                pass  # that is how it is meant to end


async def _follow(reader: LogReader, from_seq: int, as_json: bool) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_until_nobody_reads, nursery.cancel_scope)
        async for record in reader.follow(from_seq):
            _print_event(show(record), as_json)


async def wait_until_nobody_reads(cancel_scope: trio.CancelScope) -> None:
    """End with the reader of a pipe, rather than at the next event, which may be hours away."""
    if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        # Nothing can ever be read from it: it becomes ready when the other end is closed.
        await trio.lowlevel.wait_readable(sys.stdout.fileno())
        cancel_scope.cancel()


def _print_event(event: Shown, json: bool) -> None:
    click.echo(as_json(event) if json else as_line(event))
