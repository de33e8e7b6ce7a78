"""`complaint`: what an operator was told by a feedback loop, an abuse desk or a person, put on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import directory_argument, json_option, print_json


@click.group("complaint", help="Complaints of recipients about mail they got.")
def complaint_group() -> None: ...


@complaint_group.command("record")
@directory_argument
@click.option(
    "--message",
    type=click.IntRange(1, 2**53 - 1),
    required=True,
    help="The id of the message complained about.",
)
@json_option
def complaint_record(directory: Path, message: int, as_json: bool) -> None:
    """Record that a recipient called a message spam.

    It counts against the sending domain once, and the member's mail goes to this recipient no more: a member
    cannot take that back.
    """
    answer: Any = administer(directory, "complaint_record", {"message": message})
    if as_json:
        print_json(answer)
    elif answer["recorded"]:
        click.echo(f"The complaint about message {message} of {answer['domain']} is recorded.")
    else:
        click.echo(f"The complaint about message {message} was recorded before; nothing has changed.")
