"""`log replay` and `log diff`: what the views said at another time, and what has changed in them since.

The views of then are folded anew from the log, by the projectors of the relay, in a temporary directory: whatever the
directory's own views hold is not looked at. Memory stays bounded, because everything is printed as it is read; the
temporary directory takes as much room as the views do. `diff` folds only once: it keeps a snapshot of the first moment
and folds on.

What was personal in the events of then, and has been removed since, is not there any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from relay.codec import Recorded
from relay.past.rows import VIEWS, Change, Moment, Row, differences
from relay.times import rfc3339
from relay.views import open_temporary_views
from spool.reader import LogReader
from spool.views import Views
from tools.log.directory import log_directory
from tools.log.selection import Bound, parse_bound, seq_at
from tools.meter import open_meter
from tools.naming import OneOf, one_message
from tools.output import (
    directory_argument,
    json_option,
    print_json_lists,
    print_table,
    printable,
    quiet_when_nobody_reads,
    wide_option,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Those of SPEC 11.
_SHOWN_BY_DEFAULT = ("messages", "suppressions", "counters", "members")
#: So that people see the beginning of each view; programs get everything.
_ROWS_MAX = 50

#: In `--help` the paragraph after the \b keeps its lines.
_VIEWS_HELP = "The views:\n\n\b\n" + "\n".join(f"{name:<13} {view.meaning}" for name, view in VIEWS.items())


def _view_option(what: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--view",
        "names",
        multiple=True,
        type=OneOf(tuple(VIEWS)),
        metavar="VIEW",
        help=f"Which view; may be repeated. {what}",
    )


_did_option = click.option("--did", metavar="DID", help="Only what belongs to this member.")
_message_option = one_message(required=False, about="Only this message.")


@click.command(
    "replay",
    help="Show the views as they were at an event or a time.\n\n"
    "That is right after the event; of a time, right after the last event up to it.\n\n" + _VIEWS_HELP,
)
@directory_argument
@click.option(
    "--until", type=parse_bound, metavar="SEQ|TIME", help="The last event, or when; else the log's end."
)
@_view_option(f"Otherwise: {', '.join(_SHOWN_BY_DEFAULT)}.")
@_did_option
@_message_option
@wide_option
@json_option
def replay_command(
    directory: Path,
    until: Bound | None,
    names: tuple[str, ...],
    did: str | None,
    message_id: int | None,
    as_json: bool,
) -> None:
    names = tuple(dict.fromkeys(names or _SHOWN_BY_DEFAULT))
    log = log_directory(directory)
    with LogReader(log) as reader:
        seq = _fold_until(reader, until or Bound())
    with _open_folded(log, seq) as fold, fold.moment() as moment, quiet_when_nobody_reads():
        chosen = ((name, _chosen(_rows(name, moment), did, message_id)) for name in names)
        if as_json:
            print_json_lists({"seq": moment.seq, "time": rfc3339(moment.time_us)}, chosen)
        else:
            click.echo(f"As of sequence {moment.seq}, {rfc3339(moment.time_us)}")
            for name, rows in chosen:
                _print_rows(name, rows)


@click.command(
    "diff",
    help="Show what changed in the views between two events or times.\n\n"
    "That is from right after the one to right after the other. A time is the last event up to it.\n\n"
    "Exit status 0, whether anything changed or not.\n\n" + _VIEWS_HELP,
)
@directory_argument
@click.argument("begin", type=parse_bound, metavar="SEQ1")
@click.argument("end", type=parse_bound, metavar="SEQ2")
@_view_option("Otherwise: all.")
@_did_option
@_message_option
@json_option
def diff_command(
    directory: Path,
    begin: Bound,
    end: Bound,
    names: tuple[str, ...],
    did: str | None,
    message_id: int | None,
    as_json: bool,
) -> None:
    names = tuple(dict.fromkeys(names or VIEWS))
    log = log_directory(directory)
    with LogReader(log) as reader:
        first, last = _fold_until(reader, begin), _fold_until(reader, end)
    if first > last:
        raise click.BadParameter(f"sequence {first} is after sequence {last}: give the earlier one first")
    with _open_folded(log, first, last) as fold, fold.moment() as before:
        fold.go_on(last)
        with fold.moment() as after, quiet_when_nobody_reads():
            changes = ((name, _changes(name, before, after, did, message_id)) for name in names)
            if as_json:
                print_json_lists(
                    {"from": first, "to": last},
                    ((name, (change._asdict() for change in found)) for name, found in changes),
                )
            else:
                _tell_changes(before, after, changes)


class _Fold(NamedTuple):
    """Views that were folded from a log so far, and that log."""

    views: Views[Recorded]
    reader: LogReader

    def go_on(self, until: int) -> None:
        """Refuses, as a wrong use, where the log does not come so far."""
        self.views.catch_up(self.reader, until=until)
        if self.views.position < until:
            raise click.BadParameter(f"there is no sequence {until}: the log has 1 to {self.views.position}")

    @contextmanager
    def moment(self) -> Iterator[Moment]:
        """The views as they are now. They stay so in here, even if the fold goes on."""
        with self.views.read() as view:
            yield Moment(view.position, self.reader.get(view.position).time_us, view)


def _fold_until(reader: LogReader, bound: Bound) -> int:
    """As `seq_at`. Whether there is such a sequence number the fold will find out: to look before it would be to read
    the last segment twice."""
    if bound.seq is None or bound.seq < 1 or next(reader.read(1, 1), None) is None:
        return seq_at(reader, bound)
    return bound.seq


@contextmanager
def _open_folded(log: Path, until: int, total: int | None = None) -> Iterator[_Fold]:
    """The views right after `until`. `total`: how far they will be brought in the end."""
    with (
        open_meter() as meter,
        open_temporary_views(meter.decoding("folding the log", total or until)) as views,
        LogReader(log, locate=views.locate) as reader,
    ):
        fold = _Fold(views, reader)
        fold.go_on(until)
        yield fold


def _rows(name: str, moment: Moment) -> Iterator[Row]:
    return (row for _, row in VIEWS[name].rows(moment))


def _is_chosen(row: Row, did: str | None, message_id: int | None) -> bool:
    """What belongs to nobody in particular is not chosen by asking for a member."""
    return (did is None or row.get("did") == did) and (
        message_id is None or row.get("messageId") == message_id
    )


def _chosen(rows: Iterator[Row], did: str | None, message_id: int | None) -> Iterator[Row]:
    return (row for row in rows if _is_chosen(row, did, message_id))


def _changes(
    name: str, before: Moment, after: Moment, did: str | None, message_id: int | None
) -> Iterator[Change]:
    rows = VIEWS[name].rows
    for change in differences(rows(before), rows(after)):
        if _is_chosen(change.after or change.before or {}, did, message_id):
            yield change


# ------------------------------------------------------------------------------------------------ for people


def _print_rows(name: str, rows: Iterator[Row]) -> None:
    columns = VIEWS[name].columns
    click.echo(f"\n{name}: {VIEWS[name].meaning}")
    shown = [{column: _cell(row[column]) for column in columns} for row in islice(rows, _ROWS_MAX)]
    print_table(shown, columns, empty="nothing")
    more = sum(1 for _ in rows)
    if more:
        click.echo(f"... and {more:,} more; --json prints them all")


def _tell_changes(before: Moment, after: Moment, changes: Iterable[tuple[str, Iterator[Change]]]) -> None:
    click.echo(
        f"From sequence {before.seq}, {rfc3339(before.time_us)}, to {after.seq}, {rfc3339(after.time_us)}"
    )
    anything = False
    for name, found in changes:
        for number, change in enumerate(found):
            if number == 0:
                click.echo(f"\n{name}: {VIEWS[name].meaning}")
            click.echo(_change_line(name, change))
            anything = True
    if not anything:
        click.echo("Nothing changed.")


def _change_line(name: str, change: Change) -> str:
    identity = VIEWS[name].identity
    row = change.after or change.before or {}
    who = " ".join(str(_cell(row[field])) for field in identity)
    if change.before is None or change.after is None:
        sign = "+" if change.before is None else "-"
        # What is not there, and what the identity has said, needs no words.
        fields = {
            field: value for field, value in row.items() if field not in identity and value not in (None, [])
        }
        return f"  {sign} {who}: " + ", ".join(f"{field} {_cell(value)}" for field, value in fields.items())
    return f"  ~ {who}: " + ", ".join(
        f"{field} {_cell(change.before[field])} -> {_cell(value)}"
        for field, value in change.after.items()
        if value != change.before[field]
    )


def _cell(value: Any) -> Any:
    """What strangers may have written (an address, a note) is made printable; the rest is ours."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value)
        case list():
            return "; ".join(map(str, map(_cell, value))) or "-"
        case dict():
            return " ".join(str(_cell(one)) for one in value.values() if one is not None)
    return value
