"""`log cat` and `log tail`: the events."""

from __future__ import annotations

from pathlib import Path

import click

from spool.reader import LogReader
from tools.log.directory import log_directory
from tools.log.event_text import Shown, as_json, as_line, show
from tools.log.selection import EventSelection, select, selection_options
from tools.output import directory_argument, json_option, quiet_when_nobody_reads, wait_until_nobody_reads


@click.command("cat")
@directory_argument
@selection_options
@json_option
def cat_command(directory: Path, selection: EventSelection, as_json: bool) -> None:
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
            import trio

            try:
                trio.run(_follow, reader, next_seq, as_json)
            except* KeyboardInterrupt:
                pass  # that is how it is meant to end


async def _follow(reader: LogReader, from_seq: int, as_json: bool) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_until_nobody_reads, nursery.cancel_scope)
        async for record in reader.follow(from_seq):
            _print_event(show(record), as_json)


def _print_event(event: Shown, json: bool) -> None:
    click.echo(as_json(event) if json else as_line(event))
