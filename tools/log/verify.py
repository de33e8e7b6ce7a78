"""`log verify`: whether the log and the views are whole."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.codec import decode
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.views import PROJECTORS
from spool.disk import Disk, RealDisk
from spool.reader import LogReader
from spool.verify.verify import VerifyVerdict, verify
from tools.log.backup import is_backup, verify_backup
from tools.log.directory import log_directory
from tools.meter import open_meter
from tools.naming import folder_meant
from tools.output import directory_argument, json_option, print_json, printable

if TYPE_CHECKING:
    from spool.verify.against import Compared


@click.command("verify")
@directory_argument
@click.option(
    "--against",
    "other",
    metavar="OTHER",
    help="Compare it with the log of another node, NAME or NAME@HOST:PORT, or of another directory, by a path with a "
    "slash: ./NAME.",
)
@json_option
@click.pass_context
def verify_command(context: click.Context, directory: Path, other: str | None, as_json: bool) -> None:
    """Check every checksum of the log, and the views against it.

    Works beside a running relay and on a copy; changes nothing. Where there are no views yet, as after `log restore`,
    it says so: the first start makes them. Of a backup, which has no views, every file is compared with the manifest.
    With --against it also says whether both logs are one, as far as both go, by their chain values. Exit status 1 if
    anything is wrong.
    """
    if is_backup(directory):
        if other is not None:
            raise click.UsageError("a backup cannot be compared; give it as OTHER to its data directory")
        verify_backup(context, directory, as_json=as_json)
        return
    log = log_directory(directory)
    with open_meter() as meter:
        verdict = verify(log, directory / VIEWS_DIRECTORY, PROJECTORS, decode, progress=meter)
    compared = None if other is None else _compared(directory, log, other)
    ok = verdict.ok and (compared is None or compared.first_different is None)
    if as_json:
        print_json(
            {
                "ok": ok,
                "records": verdict.log.records,
                "stripped": verdict.log.stripped,
                "problems": [problem._asdict() for problem in verdict.log.problems],
                "views": [
                    {
                        "name": view.name,
                        "ok": view.ok,
                        "problem": view.problem,
                        "unfinished": view.unfinished,
                        "unmade": view.unmade,
                    }
                    for view in verdict.views
                ],
                **({} if compared is None else {"against": _compared_json(compared)}),
            }
        )
    else:
        _print_verdict(directory, verdict)
        if compared is not None:
            _print_compared(compared)
    if not ok:
        context.exit(1)


def _compared(directory: Path, log: Path, other: str) -> Compared:
    """Raises CorruptionError, OSError; and for a node what `tools.other_node` raises."""
    from spool.verify.against import compare

    def with_disk(disk: Disk, theirs: Path) -> Compared:
        with LogReader(log) as our_reader, LogReader(theirs, disk=disk) as their_reader:
            return compare(our_reader, their_reader)

    folder = folder_meant(other)
    if folder is not None:
        return with_disk(RealDisk(), log_directory(folder))
    # TLS and a loop, which few need.
    from relay.nodes.borrowing import OTHER_NODE
    from tools.other_node import another_node, with_files_of

    node = another_node(directory, other)
    return with_files_of(directory, node, lambda disk: with_disk(disk, OTHER_NODE / LOG_DIRECTORY))


def _compared_json(compared: Compared) -> dict[str, int | None]:
    return {
        "ourLastSeq": compared.our_last_seq,
        "theirLastSeq": compared.their_last_seq,
        "comparedThrough": compared.compared_through,
        "firstDifferent": compared.first_different,
    }


def _print_compared(compared: Compared) -> None:
    ends = f"ours ends with sequence {compared.our_last_seq}, theirs with {compared.their_last_seq}"
    if compared.first_different is not None:
        click.echo(
            f"Against the other: they part at sequence {compared.first_different}: from there on the two are different "
            f"logs ({ends})."
        )
    elif compared.compared_through:
        click.echo(
            f"Against the other: they are one log up to sequence {compared.compared_through} ({ends})."
        )
    else:
        click.echo(f"Against the other: they have no record in common to compare ({ends}).")


def _print_verdict(directory: Path, verdict: VerifyVerdict) -> None:
    for damage in verdict.log.problems:
        click.echo(
            f"segment {damage.file} offset {damage.offset} sequence {damage.seq}, "
            f"{damage.part}: {printable(damage.problem)}"
        )
    wrong = [view for view in verdict.views if not view.ok]
    for problem, views in groupby(wrong, key=lambda view: view.problem):
        # What keeps one from being read keeps all.
        names = ", ".join(view.name for view in views)
        click.echo(f"view {names}: {printable(problem or 'differs')}")
    found = len(verdict.log.problems)
    click.echo(
        f"Log: {verdict.log.records:,} records are whole; "
        + (f"{found} problem{'s' if found > 1 else ''}." if found else "nothing is damaged or missing.")
    )
    if verdict.log.stripped:
        click.echo(
            f"Personal data were removed from {verdict.log.stripped:,} of them, as they say themselves."
        )
    unmade = next((view.unmade for view in verdict.views if view.unmade), None)
    if unmade is not None:
        click.echo(f"Views: {unmade}.")
        return
    if not wrong:
        left = "; ".join(f"{view.name} {view.unfinished}" for view in verdict.views if view.unfinished)
        click.echo(
            f"Views: all {len(verdict.views)} tables are what the log gives"
            + (f", but for a removal that was interrupted: {left}." if left else ".")
        )
        if left:
            click.echo("That is no damage: readers find the records, and the next start corrects the places.")
        return
    click.echo(
        f"Views: {len(wrong)} of {len(verdict.views)} tables are not, or not known to be, what the log gives."
    )
    if not found and not any(view.is_busy for view in wrong):
        click.echo(f"Stop the relay and run `atmos-relay log rebuild {directory}`.")
