"""`console`: who is let into the console in the browser, and who is put out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import directory_argument, json_option, print_json


@click.group("console", help="The console in the browser: let one in, or put all out.")
def console_group() -> None: ...


@console_group.command("login")
@directory_argument
@click.option("--did", help="Let in this member, at public_url: did:plc:... or did:web:...")
@json_option
def console_login(directory: Path, did: str | None, as_json: bool) -> None:
    """Print a link that opens the console once, within one minute.

    Without --did it opens the operator's console, on the address of [console] operator_bind. The relay has to run.
    """
    answer: Any = administer(directory, "console_login", {"did": did})
    if as_json:
        print_json(answer)
        return
    click.echo(answer["url"])
    click.echo("It is good once, for one minute: open it in a browser.", err=True)


@console_group.command("logout")
@directory_argument
@click.option("--all", "everybody", is_flag=True, required=True, help="End all sessions, of all visitors.")
@json_option
def console_logout(directory: Path, everybody: bool, as_json: bool) -> None:
    """End all sessions of the console: the members' and the operator's.

    One member's session ends when the API key is revoked that it was begun with.
    """
    answer: Any = administer(directory, "console_logout", {})
    if as_json:
        print_json(answer)
    else:
        click.echo("All sessions of the console are over.")
