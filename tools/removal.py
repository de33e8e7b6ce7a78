"""`domain remove` and `member remove`: the end of enrolments and memberships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import counted, directory_argument, json_option, print_json

reason_option = click.option("--reason", help="Why; the member sees it.")


@click.command("remove")
@directory_argument
@click.option("--did", required=True, help="The member: did:plc:... or did:web:...")
@click.option("--domain", required=True, help="The sending domain to remove.")
@reason_option
@json_option
def domain_remove(directory: Path, did: str, domain: str, reason: str | None, as_json: bool) -> None:
    """Remove a member's domain, and cancel what waits of it.

    The name is free at once. Its pause, rates and age stay with it.
    """
    answer: Any = administer(directory, "domain_remove", {"did": did, "domain": domain, "reason": reason})
    if as_json:
        print_json(answer)
    else:
        _print_removed(answer)


@click.command("remove")
@directory_argument
@click.option("--did", required=True, help="The member: did:plc:... or did:web:...")
@reason_option
@json_option
def member_remove(directory: Path, did: str, reason: str | None, as_json: bool) -> None:
    """Remove a member with its domains and keys.

    What waits of it is cancelled. Its suppression list stays, for it and for whoever follows a link in its mail.
    """
    answer: Any = administer(directory, "member_remove", {"did": did, "reason": reason})
    if as_json:
        print_json(answer)
        return
    for domain in answer["domains"]:
        _print_removed(domain)
    click.echo(f"{did} is no member any more.")


def _print_removed(answer: dict[str, Any]) -> None:
    click.echo(f"{answer['domain']} is removed; cancelled: {counted(answer['cancelled'], 'message')}.")
    click.echo("Its owner can take these out of the DNS, in a few days:")
    for name in answer["removableRecords"]:
        click.echo(f"  TXT {name}")
