"""`log verify`: whether the log and the views are whole."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click

from relay.codec import decode
from relay.file_names import VIEWS_DIRECTORY
from relay.views import PROJECTORS
from spool.verify.verify import VerifyVerdict, verify
from tools.log.backup import is_backup, verify_backup
from tools.log.directory import log_directory
from tools.meter import open_meter
from tools.output import directory_argument, json_option, print_json, printable


@click.command("verify")
@directory_argument
@json_option
@click.pass_context
def verify_command(context: click.Context, directory: Path, as_json: bool) -> None:
    """Check every checksum of the log, and the views against it.

    Works beside a running relay and on a copy; changes nothing. Where there are no views yet, as after `log restore`,
    it says so: the first start makes them. Of a backup, which has no views, every file is compared with the manifest.
    Exit status 1 if anything is wrong.
    """
    if is_backup(directory):
        verify_backup(context, directory, as_json=as_json)
        return
    log = log_directory(directory)
    with open_meter() as meter:
        verdict = verify(log, directory / VIEWS_DIRECTORY, PROJECTORS, decode, progress=meter)
    if as_json:
        print_json(
            {
                "ok": verdict.ok,
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
            }
        )
    else:
        _print_verdict(directory, verdict)
    if not verdict.ok:
        context.exit(1)


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
