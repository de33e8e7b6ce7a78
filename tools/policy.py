"""`policy`: what other tiers and thresholds would have done with the mail that this relay has accepted.

`simulate` reads the log and nothing else: it works beside a running relay and on a copy, and writes nothing into the
data directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.codec import decode
from relay.config import Config, ConfigError, parse_config
from relay.events import Evidence
from relay.past.simulation import POLICY_PROJECTORS, Pause, RefusedSend, Simulation, simulate
from relay.times import rfc3339
from spool.reader import LogReader
from spool.views.scratch import open_scratch
from tools.log.directory import log_directory
from tools.output import (
    counted,
    directory_argument,
    json_option,
    print_json,
    print_table,
    quiet_when_nobody_reads,
    wide_option,
)

#: So that people see the totals; programs get everything.
_ROWS_MAX = 20


@click.group("policy", help="Limits and thresholds: what others would have done.")
def policy_group() -> None: ...


@policy_group.command("simulate")
@directory_argument
@click.option(
    "--config",
    "config_file",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A whole relay.toml: the policy to try.",
)
@wide_option
@json_option
def simulate_command(directory: Path, config_file: Path, as_json: bool) -> None:
    """Say what another relay.toml would have refused or paused.

    The log is replayed against it. Looked at are the warming tiers, the thresholds of reputation and
    require_verified_domains. The log has only what was accepted: what a laxer policy would have let through besides is
    not known.
    """
    config = _read_config(config_file)
    with LogReader(log_directory(directory)) as reader, open_scratch(POLICY_PROJECTORS) as tables:
        found = simulate(map(decode, reader.read(1)), config, tables)
    with quiet_when_nobody_reads():
        if as_json:
            print_json(_as_json(found))
        else:
            _tell(found)


def _read_config(path: Path) -> Config:
    """Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return parse_config(text, str(path))


def _as_json(found: Simulation) -> dict[str, Any]:
    return {
        "refused": [_refused_row(send) for send in found.refused],
        "pauses": [_pause_row(pause) for pause in found.pauses],
        "totals": {
            "sends": found.sends,
            "recipients": found.recipients,
            "refused": len(found.refused),
            "refusedRecipients": found.refused_recipients,
            "accepted": found.sends - len(found.refused),
            "acceptedRecipients": found.recipients - found.refused_recipients,
            "pauses": len(found.pauses),
        },
    }


def _refused_row(send: RefusedSend) -> dict[str, Any]:
    return {
        "seq": send.seq,
        "time": rfc3339(send.time_us),
        "did": send.did,
        "domain": send.domain,
        "recipients": send.recipients,
        "code": send.code,
        "because": send.because,
        "retryAfterSeconds": send.retry_after_seconds,
    }


def _pause_row(pause: Pause) -> dict[str, Any]:
    evidence = pause.evidence
    return {
        "seq": pause.seq,
        "time": rfc3339(pause.time_us),
        "domain": pause.domain,
        "status": pause.status,
        "evidence": {
            "windowStart": rfc3339(evidence.window_start),
            "windowEnd": rfc3339(evidence.window_end),
            "firstSeq": evidence.first_seq,
            "lastSeq": evidence.last_seq,
            "final": evidence.final,
            "bounced": evidence.bounced,
            "complaints": evidence.complaints,
        },
    }


def _tell(found: Simulation) -> None:
    refused = [_refused_row(send) for send in found.refused]
    _print_first(refused, ("seq", "time", "recipients", "because"), "No send would have been refused.")
    click.echo()
    pauses = [{**_pause_row(pause), "evidence": _counts(pause.evidence)} for pause in found.pauses]
    _print_first(pauses, ("seq", "time", "domain", "status", "evidence"), "No domain would have been paused.")
    click.echo()
    click.echo(
        f"{counted(found.sends, 'send')} to {counted(found.recipients, 'recipient')}; "
        f"{len(found.refused):,} to {found.refused_recipients:,} would have been refused, "
        f"{found.sends - len(found.refused):,} to {found.recipients - found.refused_recipients:,} accepted."
    )


def _print_first(rows: list[dict[str, Any]], columns: tuple[str, ...], empty: str) -> None:
    print_table(rows[:_ROWS_MAX], columns, empty=empty)
    if len(rows) > _ROWS_MAX:
        click.echo(f"... and {len(rows) - _ROWS_MAX:,} more; --json prints them all")


def _counts(evidence: Evidence) -> str:
    return f"{evidence.bounced} bounced and {evidence.complaints} complaints of {evidence.final}"
