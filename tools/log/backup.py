"""`log backup` and `log restore`: what of a data directory is worth keeping, copied and put back.

That is the log, the secrets that mail is signed and keys are checked with, and the configuration. Views are not
copied: a restored relay builds them from the log. How copying stays safe is said in `spool.backup.backup`, and how
putting back does in `spool.backup.restore`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from relay.config import CONFIG_FILE, parse_config
from relay.file_names import LOG_DIRECTORY
from relay.message.key_files import pepper_files
from relay.operator.client import administer, user_name
from relay.principals import Operator
from spool.backup.backup import BackupReport, back_up
from spool.backup.format import BEGUN_NAME, MANIFEST_NAME, Manifest, check_files, read_manifest
from spool.backup.restore import restore
from spool.errors import BackupError
from spool.interface import Progress
from spool.verify.verify import LogProblem, LogVerdict, is_being_written, verify_log
from tools.log.directory import log_directory
from tools.log.stripped import first_owed, stripped_through
from tools.meter import open_meter
from tools.output import counted, directory_argument, json_option, print_json, printable

_PEPPER = "pepper"
_KEYS = "keys"
#: A node that runs needs seconds for what was erased just now.
_STRIPPED_TRIES = 4
_STRIPPED_SECONDS = 2.0
_HELD_BECAUSE = "restored from a backup"


# ------------------------------------------------------------------------------------------------------- backup


@click.command("backup")
@directory_argument
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.option("--without-secrets", is_flag=True, help="Leave out signing keys and pepper.")
@json_option
def backup_command(directory: Path, destination: Path, without_secrets: bool, as_json: bool) -> None:
    """Copy log, keys and configuration to DEST.

    Where DEST has a backup already, it is brought up to date.
    Works beside a running relay and disturbs nothing. Only what is new or has changed is copied. Broken off, run it
    again: it goes on. DEST holds secrets and everybody's mail, so it is for its owner only.
    """
    log_directory(directory)
    if destination.resolve().is_relative_to(directory.resolve()):
        raise BackupError(f"{destination} is inside of {directory}: a backup there would be lost with it")
    if without_secrets and ((destination / _KEYS).exists() or any(destination.glob(f"{_PEPPER}*"))):
        raise BackupError(f"{destination} holds secrets already; name another directory for one without")
    _make_private(destination, ours=(BEGUN_NAME, MANIFEST_NAME))
    with open_meter() as meter:
        report = _back_up(
            directory,
            destination,
            others=partial(_others, directory, without_secrets),
            progress=None if as_json else meter,
        )
    if as_json:
        print_json(_backup_json(report))
        return
    manifest = report.manifest
    click.echo(
        f"{destination} holds the log up to sequence {manifest.last_seq}: {counted(len(report.copied), 'file')} copied "
        f"({report.bytes_copied:,} bytes), {report.kept} unchanged."
    )
    if without_secrets:
        click.echo(
            f"It holds no secrets. To serve it, `{_KEYS}/` and `{_PEPPER}` have to come from elsewhere."
        )


def _back_up(
    directory: Path, destination: Path, *, others: Callable[[], Sequence[str]], progress: Progress | None
) -> BackupReport:
    """One of several machines removes erased data from its files a moment after the log says that it was done. Who
    restores a backup takes the log at its word, so none may lie between the two."""
    log = directory / LOG_DIRECTORY
    for tries_left in reversed(range(_STRIPPED_TRIES)):
        through = stripped_through(directory)
        report = back_up(directory, destination, log=LOG_DIRECTORY, others=others, progress=progress)
        owed = None if through is None else first_owed(log, through, report.manifest.last_seq)
        if owed is None:
            return report
        if not tries_left or not is_being_written(log):
            break
        time.sleep(_STRIPPED_SECONDS)
    raise BackupError(
        f"{destination} holds personal data that event {owed} erases: this node has not removed them from its files "
        "yet. Its relay does that when it is started, and while it runs within an hour; run this again then"
    )


def _others(directory: Path, without_secrets: bool) -> list[str]:
    """The files beside the log. The configuration is last, as with `init`: where it stands, all the rest does."""
    secrets: list[Path] = []
    if not without_secrets:
        secrets = [*sorted((directory / _KEYS).glob("*/*.pem")), *pepper_files(directory)]
    files = [*secrets, directory / CONFIG_FILE]
    return [str(file.relative_to(directory)) for file in files if file.is_file()]


def _make_private(directory: Path, *, ours: Sequence[str]) -> None:
    """Make it for its owner only, whether it is to be made, is empty, or has been ours before."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(directory.iterdir()) or any((directory / name).exists() for name in ours):
        directory.chmod(0o700)


def _backup_json(report: BackupReport) -> dict[str, Any]:
    return {
        "lastSeq": report.manifest.last_seq,
        "chain": report.manifest.chain,
        "madeAt": report.manifest.made_at,
        "files": len(report.manifest.files),
        "copied": report.copied,
        "kept": report.kept,
        "removed": list(report.manifest.removed),
        "bytesCopied": report.bytes_copied,
        "secrets": _has_secrets(report.manifest),
    }


def _has_secrets(manifest: Manifest) -> bool:
    return any(file.name == _PEPPER for file in manifest.others)


# ------------------------------------------------------------------------------------------------------ restore


@click.command("restore")
@click.argument("backup", metavar="BACKUP", type=click.Path(exists=True, file_okay=False, path_type=Path))
@directory_argument
@click.option("--hold", is_flag=True, help="Hold all mail that waits, until `queue release`.")
@json_option
@click.pass_context
def restore_command(context: click.Context, backup: Path, directory: Path, hold: bool, as_json: bool) -> None:
    """Make a data directory DIR from BACKUP.

    DIR is not there, or empty.
    Every file is checked against the backup's manifest, and the log from its first record to its last. Broken off,
    run it again: it goes on. What waited when the backup was made is sent when DIR is served, also what has been
    sent since; --hold keeps it back.
    """
    if directory.resolve().is_relative_to(backup.resolve()):
        raise BackupError(f"{directory} is inside of {backup}")
    manifest = read_manifest(backup)
    can_serve = _has_secrets(manifest) and any(file.name == CONFIG_FILE for file in manifest.others)
    if hold and not can_serve:
        raise BackupError(
            f"{backup} has no secrets or no configuration; mail is held by `queue hold` once they are there"
        )
    several = can_serve and _is_of_several(backup)
    if hold and several:
        raise BackupError(
            f"{backup} is of one of several machines: restore it without --hold, then either make a node of it, or "
            "take [nodes] out of its relay.toml, and hold its mail by `queue hold`"
        )
    _make_private(directory, ours=())
    with open_meter() as meter:
        progress = None if as_json else meter
        finish = partial(_hold, directory) if hold else lambda: None
        manifest = restore(backup, directory, log=LOG_DIRECTORY, finish=finish, progress=progress)
        verdict = verify_log(directory / LOG_DIRECTORY, progress=progress)
    waiting = _count_waiting(directory) if can_serve and not several else None
    if as_json:
        print_json(
            {
                "ok": not verdict.problems,
                "lastSeq": manifest.last_seq,
                "madeAt": manifest.made_at,
                "records": verdict.records,
                "problems": [problem._asdict() for problem in verdict.problems],
                "waiting": waiting,
                "held": hold,
            }
        )
    else:
        _print_restored(directory, manifest, verdict, waiting, hold, several)
    if verdict.problems:
        context.exit(1)


def _is_of_several(backup: Path) -> bool:
    return (
        parse_config((backup / CONFIG_FILE).read_text(encoding="utf-8"), str(backup / CONFIG_FILE)).nodes
        is not None
    )


def _hold(directory: Path) -> None:
    """Hold all that waits. Doing it again holds the rest."""
    # Nearly the whole relay, for this alone.
    import trio

    from relay.core import open_core
    from relay.delivery.interrupted import name_interrupted
    from relay.operator.queue_orders import QueueHold, queue_hold

    async def hold() -> None:
        by = Operator(user_name(os.getuid()))
        async with open_core(directory, restoring=True) as core:
            # As a start does. Left to the start, it would let go of what is held.
            await name_interrupted(core.store)
            place: dict[str, Any] = {}
            while place.get("after", 0) is not None:
                order = QueueHold(reason=_HELD_BECAUSE, everything=True, **place)
                answer: Any = await queue_hold(core, order, by)
                place = {"after": answer["next"], "until": answer["until"]}

    trio.run(hold)


def _count_waiting(directory: Path) -> int:
    answer: Any = administer(directory, "queue_list", {"each": True, "limit": 1})
    total: int = answer["total"]
    return total


def _print_restored(
    directory: Path, manifest: Manifest, verdict: LogVerdict, waiting: int | None, hold: bool, several: bool
) -> None:
    _print_problems(verdict.problems)
    click.echo(
        f"{directory} holds the log up to sequence {manifest.last_seq}, as it was at {manifest.made_at}; "
        f"{verdict.records:,} records are whole."
    )
    if several:
        click.echo(
            f"It is of one of several machines. To serve it as one machine, take [nodes] out of its {CONFIG_FILE}; a "
            "new node is made by `node join --from-backup`."
        )
    elif waiting is None:
        click.echo(
            f"It cannot be served before `{_KEYS}/`, `{_PEPPER}` and `{CONFIG_FILE}` are there: the backup lacks some."
        )
    elif hold:
        click.echo(f"{_messages(waiting)} held: `atmos-relay queue release {directory} --all` lets go.")
    elif waiting:
        click.echo(
            f"{_messages(waiting)} waiting, and will be sent when it is served, also those that were sent after the "
            "backup had been made. If the old relay may have sent them, restore with --hold."
        )
    click.echo("Never serve this directory and the one that it is a copy of at the same time.")


def _messages(count: int) -> str:
    return "1 message is" if count == 1 else f"{count:,} messages are"


# ------------------------------------------------------------------------------------------------------- verify


def is_backup(directory: Path) -> bool:
    return (directory / MANIFEST_NAME).is_file()


def verify_backup(context: click.Context, backup: Path, *, as_json: bool) -> None:
    """`log verify` of a backup: every file against the manifest, and the log as any other. It has no views."""
    with open_meter() as meter:
        progress: Progress | None = None if as_json else meter
        files = check_files(backup, progress=progress)
        verdict = verify_log(backup / LOG_DIRECTORY, progress=progress)
    problems = verdict.problems + [LogProblem(file.name, 0, 0, "file", file.problem) for file in files]
    if as_json:
        print_json(
            {
                "ok": not problems,
                "records": verdict.records,
                "problems": [problem._asdict() for problem in problems],
                "views": [],
            }
        )
    else:
        _print_problems(verdict.problems)
        for file in files:
            click.echo(printable(file.problem))
        found = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        click.echo(
            f"Backup: {verdict.records:,} records are whole; "
            + (f"{found}." if problems else "every file is what the manifest says.")
        )
    if problems:
        context.exit(1)


def _print_problems(problems: Sequence[LogProblem]) -> None:
    for problem in problems:
        click.echo(
            f"segment {problem.file} offset {problem.offset} sequence {problem.seq}, "
            f"{problem.part}: {printable(problem.problem)}"
        )
