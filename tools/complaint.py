"""`complaint`: what an operator was told by a feedback loop, an abuse desk or a person, put on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.naming import one_message
from tools.output import directory_argument, json_option, print_json


@click.group("complaint", help="Complaints of recipients about mail they got.")
def complaint_group() -> None: ...


@complaint_group.command("record")
@directory_argument
@one_message(about="The id of the message complained about.")
@json_option
def complaint_record(directory: Path, message_id: int, as_json: bool) -> None:
    """Record that a recipient called a message spam.

    It counts against the sending domain once, and the member's mail goes to this recipient no more: a member
    cannot take that back.
    """
    answer: Any = administer(directory, "complaint_record", {"message": message_id})
    if as_json:
        print_json(answer)
    elif answer["recorded"]:
        click.echo(f"The complaint about message {message_id} of {answer['domain']} is recorded.")
    else:
        click.echo(f"The complaint about message {message_id} was recorded before; nothing has changed.")
