"""`log rebuild` and `log repair`: what can be mended of the views and of the log."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import trio

from relay.codec import encode
from relay.data_directory import check_may_write
from relay.events import TornTailCut
from relay.file_names import VIEWS_DIRECTORY
from relay.store import torn_tail_cut
from relay.views import PROJECTORS
from spool.directory import LOCK_NAME
from spool.disk import RealDisk
from spool.errors import CorruptionError
from spool.log import open_log
from spool.reader import LogReader
from spool.recovery import Action, Witness
from spool.repair import RecoveryReport, inspect, repair
from spool.verify.views import ViewsSeen, see_views
from spool.views import Views, discard
from tools.log.directory import log_directory
from tools.meter import Meter, open_meter
from tools.output import directory_argument, json_option, print_json

_NEW_VIEWS_DIRECTORY = VIEWS_DIRECTORY + ".new"


@click.command("rebuild")
@directory_argument
@json_option
def rebuild_command(directory: Path, as_json: bool) -> None:
    """Throw the views away and build them again from the log. The relay must not be running."""
    log, views = log_directory(directory), directory / VIEWS_DIRECTORY
    check_may_write(directory)
    disk = RealDisk()
    lock = disk.lock(log / LOCK_NAME)
    try:
        before = _see(views)
        # The old views may be the only proof that a damaged tail had been acknowledged. They are not thrown away
        # before it is certain that the log is whole.
        plan = inspect(disk, log, before.witness)
        if plan.row.action is Action.CUT or plan.dropped:
            raise click.ClickException(
                f"the log has a torn tail, which has to be cut first: `atmos-relay log repair {directory}`"
            )
        with open_meter() as meter:
            last_seq = 0 if plan.tail is None else plan.tail.end.next_seq - 1
            after, position = _build_beside(directory, log, last_seq, meter)
    finally:
        disk.close(lock)
    if as_json:
        print_json(_rebuilt_object(before, after, position))
    else:
        _print_rebuilt(before, after, position)


def _see(views: Path) -> ViewsSeen:
    """They may be the only proof of what had been acknowledged: while they cannot be asked, nothing is cut."""
    seen = see_views(views, PROJECTORS)
    if seen.is_busy:
        raise click.ClickException(
            f"the views cannot be asked how far the log has been durable; {seen.problem}"
        )
    return seen


def _build_beside(directory: Path, log: Path, last_seq: int, meter: Meter) -> tuple[ViewsSeen, int]:
    """Build new views beside the old ones, and put them in their place."""
    place, new_place = directory / VIEWS_DIRECTORY, directory / _NEW_VIEWS_DIRECTORY
    _throw_away(new_place)  # from a rebuild that did not end

    new = Views(new_place, PROJECTORS, meter.decoding("building the views", last_seq))
    new.open()
    try:
        with LogReader(log) as reader:
            new.catch_up(reader)
    except BaseException:
        new.close()
        _throw_away(new_place)  # the old ones stay
        raise
    position = new.position
    new.close()
    # Between the two steps there are no views, which the next start would put right.
    _throw_away(place)
    new_place.rename(place)
    RealDisk().sync_directory(directory)
    return see_views(place, PROJECTORS), position


def _throw_away(views: Path) -> None:
    if views.exists():
        discard(views)
        shutil.rmtree(views)


def _rebuilt_object(before: ViewsSeen, after: ViewsSeen, position: int) -> dict[str, Any]:
    """`equal` is null, and `problem` says why, where the old views could not be compared."""
    problem = before.problem or before.unmade
    return {
        "records": position,
        "recordsBefore": None if before.witness is None else before.witness.seq,
        "problem": problem,
        "views": [
            {
                "name": name,
                "digest": digest,
                "equal": None if problem else before.digests[name] == digest,
            }
            for name, digest in after.digests.items()
        ],
    }


def _print_rebuilt(before: ViewsSeen, after: ViewsSeen, position: int) -> None:
    click.echo(f"The views were built again from {position:,} records.")
    if before.problem or before.unmade:
        click.echo(f"The old ones could not be compared: {before.problem or before.unmade}.")
        return
    for table, digest in after.digests.items():
        old = before.digests[table]
        click.echo(f"  {table:<16} {digest[:16]}  {'equal' if old == digest else f'differs, was {old[:16]}'}")
    if before.witness is not None and before.witness.seq < position:
        click.echo(
            f"The old ones had seen only {before.witness.seq:,} records; that alone makes them differ."
        )


@click.command("repair")
@directory_argument
@json_option
def repair_command(directory: Path, as_json: bool) -> None:
    """Cut a torn tail, which was never acknowledged.

    That is what a crash left half written; a copy of it is kept. Anything else is explained and left as it is, with
    exit status 1. The relay must not be running. (It does the same by itself whenever it starts.) Both tell of it in
    the log, by a `log.torn_tail_cut`.
    """
    log = log_directory(directory)
    check_may_write(directory)
    seen = _see(directory / VIEWS_DIRECTORY)
    try:
        report = repair(log, witness=seen.witness)
    except CorruptionError as error:
        raise click.ClickException(
            f"{error}. This is no torn tail: what is damaged had been acknowledged, so nothing was changed. "
            f"`atmos-relay log verify {directory}` lists all the damage; put the file back from a copy."
        ) from error
    if report.cut is not None:
        trio.run(_tell, log, seen.witness, torn_tail_cut(report.cut, loss_ruled_out=report.loss_ruled_out))
    if as_json:
        print_json(_report_object(log, report, seen))
    else:
        _print_report(log, report, seen)


async def _tell(log: Path, witness: Witness | None, event: TornTailCut) -> None:
    """Append it. A crash before leaves the cut, and its copy, untold.

    The views are not opened: they may be what is broken, and the next start brings them up to the log.
    """
    async with open_log(log, witness=witness) as opened:
        await opened.append([encode(event)])


def _report_object(log: Path, report: RecoveryReport, seen: ViewsSeen) -> dict[str, Any]:
    """`cut` is null where nothing was torn; `doubt` says why a loss at the end cannot be ruled out. `dropped` is what
    was cut of a log that other machines have, too."""
    cut = report.cut
    return {
        "lastSeq": report.last_seq,
        "because": report.because,
        "cut": None
        if cut is None
        else {
            "file": cut.file,
            "offset": cut.offset,
            "seq": cut.seq,
            "bytes": cut.size,
            "problem": cut.problem,
            "kept": str(log / cut.kept),
        },
        "dropped": None if report.dropped is None else report.dropped._asdict(),
        "lossRuledOut": report.loss_ruled_out,
        "doubt": None if report.loss_ruled_out else _doubt(seen),
    }


def _doubt(seen: ViewsSeen) -> str:
    return seen.problem or seen.unmade or "they are empty"


def _print_report(log: Path, report: RecoveryReport, seen: ViewsSeen) -> None:
    cut, dropped = report.cut, report.dropped
    if dropped is not None:
        click.echo(
            f"Cut {dropped.size} bytes of {dropped.files} file{'s' if dropped.files > 1 else ''}, from sequence "
            f"{dropped.seq} on: they were not whole. Other machines have them; they are received again."
        )
    elif cut is None:
        click.echo(f"Nothing is torn: the log is whole up to sequence {report.last_seq} ({report.because}).")
    else:
        click.echo(
            f"Cut {cut.size} bytes from {cut.file} at offset {cut.offset}: {cut.problem}. They would have been "
            f"sequence {cut.seq}, and were never acknowledged. A copy is kept in {log / cut.kept}."
        )
    if not report.loss_ruled_out:
        click.echo(
            f"That nothing acknowledged is missing at the end cannot be ruled out: only the views could tell "
            f"({_doubt(seen)})."
        )
