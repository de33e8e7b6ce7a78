"""How commands print: JSON where asked for, else aligned columns for people.

A table on a terminal fits its width, `WIDTH_UNKNOWN` where that is not known. What does not fit whole has relative
times and shortened DIDs, and says below what shows the rest: `--wide`. In a pipe, a file and with `--wide` a table is
whole, whatever its width. JSON is always complete. Colour is as `tools.colour` says.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools import colour, streams
from tools.naming import DirectoryArgument

if TYPE_CHECKING:
    import trio

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
directory_argument = click.argument(
    "directory", cls=DirectoryArgument, type=click.Path(file_okay=False, path_type=Path)
)


def print_json(value: Any) -> None:
    """On one line, with letters as they are. What does not print as itself is escaped as JSON escapes it: a program
    reads the same, and what a stranger wrote does nothing to a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    click.echo(text)


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


def report_line(report: Mapping[str, Any]) -> str:
    """One of a message's `reports`: who said what, and what to do. (When it came, whoever prints it says.)"""
    said = [str(report[name]) for name in ("code", "enhanced") if report.get(name) is not None]
    said += [f'"{report["diagnostic"]}"'] if report.get("diagnostic") else []
    what = report.get("reportedAction") or report.get("kind")
    told = " ".join([report.get("reportingMta") or "the receiver", "reported", f"{what}:", *said])
    return f"{told.rstrip(':')}; to do: {report.get('advice')}"


def reply_line(reply: Mapping[str, Any] | None) -> str | None:
    """What a receiver answered, as it said it."""
    if reply is None:
        return None
    return " ".join(str(reply[part]) for part in ("code", "enhanced", "text") if reply[part] is not None)


#: Of a cell that a stranger filled.
_STRANGERS_CELL_MAX = 160


def strangers_cell(text: str | None) -> str | None:
    """What strangers wrote may neither move the cursor nor fill the screen."""
    return None if text is None else printable(text[:_STRANGERS_CELL_MAX])


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


#: Of a terminal that does not say, and the least that is laid out for.
WIDTH_UNKNOWN, _WIDTH_MIN = 80, 40
#: A column keeps as much of its cells, where it stands in the row and not below it; the first says whose row it is.
_COLUMN_MIN, _FIRST_COLUMN_MIN = 12, 18
#: What stands below a row has so many lines.
_BELOW_LINES_MAX = 3
#: Instead of titles that are wider than what stands below them once that is short.
_SHORT_TITLES = {
    "acceptedAt": "accepted",
    "acceptedLastDay": "accepted 1 d",
    "acceptedLastHour": "accepted 1 h",
    "addedAt": "added",
    "bouncedLastDay": "bounced 1 d",
    "complaintsLastDay": "complaints 1 d",
    "connections": "open",
    "failingSince": "since",
    "finalAt": "final",
    "finalLastDay": "final 1 d",
    "forwardTo": "forward to",
    "giveUpAt": "give up",
    "inFlight": "trying",
    "issuedAt": "issued",
    "nextAttemptAt": "next",
    "oldestAcceptedAt": "oldest",
    "revokedAt": "revoked",
}
_CUT = "…"
_SPACE = "  "
_NOTHING = "-"

_WIDE = "tools.output.wide"


def _note_wide(context: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    context.meta[_WIDE] = is_wanted


#: For every command that prints a table.
wide_option = click.option(
    "--wide",
    is_flag=True,
    expose_value=False,
    callback=_note_wide,
    help="Tables whole, however wide; as they always are in a pipe.",
)


def print_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str, beside_max: int | None = None
) -> None:
    """One line a row, the columns aligned; `empty` is said where there are none. Where the table does not fit whole, at
    most `beside_max` columns stand beside each other: what is read as a sentence stands below its row."""
    if not rows:
        click.echo(empty)
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    width = _terminal_width()
    with_colour = colour.is_wanted()
    if width is None or max(map(_width, _aligned(columns, cells, False))) <= width:
        lines = _aligned(columns, cells, with_colour)
    else:
        lines = _fitted(columns, cells, width, time.time(), with_colour, beside_max or len(columns))
        lines.append("(shortened; --wide shows all)")
    for line in lines:
        click.echo(line)


def print_prose(text: str) -> None:
    """A sentence or some, in lines that fit the terminal; what follows the first is indented as it is, and a little
    more."""
    width = _terminal_width()
    if width is None:
        click.echo(text)
        return
    import textwrap

    indent = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(text, width, subsequent_indent=indent + _SPACE, break_on_hyphens=False)
    click.echo("\n".join(lines))


def _terminal_width() -> int | None:
    """None: the table is to be whole."""
    context = click.get_current_context(silent=True)
    if not sys.stdout.isatty() or (context is not None and context.meta.get(_WIDE)):
        return None
    return max(os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH_UNKNOWN, _WIDTH_MIN)


def _fitted(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    now: float,
    with_colour: bool,
    beside_max: int,
) -> list[str]:
    """The same in lines of at most `width`. Columns that say nothing are left out. Those that have no room beside the
    others stand below their row, each with its title."""
    short = [[_shortened(cell, now) for cell in row] for row in rows]
    telling = [at for at in range(len(columns)) if at == 0 or any(row[at] != _NOTHING for row in short)]
    titles = [_SHORT_TITLES.get(columns[at], columns[at]) for at in telling]
    short = [[row[at] for at in telling] for row in short]
    widths = [max(map(_width, cells)) for cells in zip(titles, *short, strict=True)]
    beside = min(_beside(widths, width), sum(at < beside_max for at in telling))
    room = width - len(_SPACE) * (beside - 1)
    widths = widths[:beside]
    while sum(widths) > room:
        # The widest gives; of equals the last, which says less whose row it is.
        widest = max(range(beside), key=lambda at: (widths[at], at))
        widths[widest] -= 1
    lines = [_titles_line(titles[:beside], widths, with_colour)]
    for row in short:
        lines.append(_line(row[:beside], widths, with_colour))
        for title, cell in zip(titles[beside:], row[beside:], strict=True):
            if cell != _NOTHING:
                lines.extend(_below(f"{title}: {cell}", width))
    return lines


def _below(text: str, width: int) -> list[str]:
    """A few lines: a receiver's reason is worth more than one."""
    import textwrap

    lines = textwrap.wrap(
        text,
        width,
        initial_indent="    ",
        subsequent_indent="      ",
        max_lines=_BELOW_LINES_MAX,
        placeholder=_CUT,
        break_on_hyphens=False,
    )
    return [_cut(line, width) for line in lines]  # wide characters take more places than textwrap knows


def _beside(widths: Sequence[int], room: int) -> int:
    """How many columns stand beside each other, if none is cut below its least."""
    used = 0
    for at, width in enumerate(widths):
        used += min(width, _COLUMN_MIN if at else _FIRST_COLUMN_MIN) + (len(_SPACE) if at else 0)
        if used > room:
            return at
    return len(widths)


def _aligned(titles: Sequence[str], rows: Sequence[Sequence[str]], with_colour: bool) -> list[str]:
    widths = [max(map(_width, cells)) for cells in zip(titles, *rows, strict=True)]
    return [
        _titles_line(titles, widths, with_colour),
        *(_line(row, widths, with_colour) for row in rows),
    ]


def _titles_line(titles: Sequence[str], widths: Sequence[int], with_colour: bool) -> str:
    line = _line(titles, widths, False)
    return colour.bold(line) if with_colour else line


def _line(cells: Sequence[str], widths: Sequence[int], with_colour: bool) -> str:
    line = ""
    for cell, width in zip(cells, widths, strict=True):
        cut = _cut(cell, width)
        shown = colour.painted(cell, cut) if with_colour else cut
        line += shown + " " * (width - _width(cut)) + _SPACE
    return line.rstrip()


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[:-1]
    return text + _CUT


def _width(text: str) -> int:
    """How many places a terminal gives it: East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(one) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def _shortened(cell: str, now: float) -> str:
    from relay.times import time_in

    if cell.startswith("did:") and len(cell) > _FIRST_COLUMN_MIN:
        return f"{cell[:12]}{_CUT}{cell[-5:]}"
    time_us = time_in(cell) if cell[-1:] == "Z" else None
    return cell if time_us is None else relative(time_us / 1_000_000 - now)


def relative(seconds: float) -> str:
    """A time that is so far from now: `5 min ago`, `in 3 h`."""
    away = int(abs(seconds))
    if away < 1:
        return "now"
    # 47 hours say more than 1 day.
    units = ((86_400, "d"), (3_600, "h"), (60, "min"))
    of, unit = next(((of, unit) for of, unit in units if away >= 2 * of), (1, "s"))
    text = f"{away // of} {unit}"
    return f"{text} ago" if seconds < 0 else f"in {text}"


def _cell(value: Any) -> str:
    if value is None:
        return _NOTHING
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
