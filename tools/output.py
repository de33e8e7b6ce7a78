"""How commands print: JSON where asked for, else aligned columns for people."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools import streams

if TYPE_CHECKING:
    import trio

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
directory_argument = click.argument(
    "directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path)
)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def print_json_lists(head: Mapping[str, Any], lists: Iterable[tuple[str, Iterable[Any]]]) -> None:
    """One JSON object: the fields of `head`, then each list under its name. An item is written before the next is
    made, so that a list may be longer than memory."""
    write = sys.stdout.write
    write(json.dumps(dict(head))[:-1])
    comma = ", " if head else ""
    for name, items in lists:
        write(f"{comma}{json.dumps(name)}: [")
        comma = ""
        for item in items:
            write(comma + json.dumps(item))
            comma = ", "
        write("]")
        comma = ", "
    write("}\n")


def printable(text: str) -> str:
    """The text with everything escaped that does not print as itself: control and bidirectional characters, and the
    backslash, so that nobody can write an escape of ours."""
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character == "\\" or not character.isprintable():
        return character.encode("unicode_escape").decode("ascii")
    return character


def counted(count: int, noun: str) -> str:
    """`1 segment`, `1,024 segments`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """One line a row, the columns aligned; `empty` is said where there are none."""
    if not rows:
        click.echo(empty)
        return
    cells = [list(columns)] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[number]) for line in cells) for number in range(len(columns))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


# ------------------------------------------------------------------------------------------------ a reader that goes


@contextmanager
def quiet_when_nobody_reads() -> Iterator[None]:
    """`log cat | head` is no error."""
    try:
        yield
        sys.stdout.flush()
    except* BrokenPipeError:  # from a nursery it comes in a group
        streams.fall_silent()


async def wait_until_nobody_reads(cancel_scope: trio.CancelScope) -> None:
    """End with the reader of a pipe, rather than at the next event, which may be hours away."""
    import trio

    if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        # Nothing can ever be read from it: it becomes ready when the other end is closed.
        await trio.lowlevel.wait_readable(sys.stdout.fileno())
        cancel_scope.cancel()
