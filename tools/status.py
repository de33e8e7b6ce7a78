"""`status`: how the relay stands, on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import directory_argument, json_option, print_json, printable


@click.command("status")
@directory_argument
@json_option
def status_command(directory: Path, as_json: bool) -> None:
    """Say how the relay stands, on one screen.

    What waits, what may not send, how much disk is left. The operator's console shows the same on its first page.
    """
    answer: Any = administer(directory, "status", {})
    if as_json:
        print_json(answer)
        return
    for name, told in _lines(answer):
        click.echo(f"{name:<20} {printable(told)}")


def _lines(answer: dict[str, Any]) -> list[tuple[str, str]]:
    machine, waiting = answer["machine"], answer["waiting"]
    if machine is None:
        stands = "no relay runs"
    elif machine["accepting"]:
        stands = "running, and accepting mail"
    else:
        stands = f"running, and not accepting mail: {machine['because']}"
    lines = [
        ("relay", stands),
        (
            "waiting",
            f"{waiting['queued']:,} queued, {waiting['deferred']:,} deferred, {waiting['held']:,} held",
        ),
        ("oldest waiting", waiting["oldestAcceptedAt"] or "-"),
        ("most overdue", f"{waiting['overdueSeconds']:,} s"),
        ("members", f"{answer['members']:,}, {len(answer['suspendedMembers'])} suspended"),
        ("domains", f"{answer['domains']:,}"),
        ("paused", _names(answer["pausedDomains"])),
        ("unverified", _names(answer["unverifiedDomains"])),
    ]
    if machine is not None:
        lines += [
            ("disk", f"{machine['freeBytes']:,} bytes free, {machine['reserveBytes']:,} in reserve"),
            ("log", f"{machine['logBytes']:,} bytes, last sequence {answer['lastSeq']}"),
            ("certificate", machine["certificateExpiresAt"] or "-"),
        ]
    return lines


def _names(domains: list[str]) -> str:
    shown = ", ".join(domains[:5]) or "-"
    return f"{shown} and {len(domains) - 5} more" if len(domains) > 5 else shown
