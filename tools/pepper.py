"""`pepper`: the relay's root secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import directory_argument, json_option, print_json


@click.group("pepper", help="The secret of API keys, links and bounce addresses.")
def pepper_group() -> None: ...


@pepper_group.command("rotate")
@directory_argument
@json_option
def pepper_rotate(directory: Path, as_json: bool) -> None:
    """Make another pepper, for all that is new.

    API keys, unsubscribe links and bounce addresses of before stay good: the older peppers are kept, and needed. Make
    a backup afterwards.
    """
    answer: Any = administer(directory, "pepper_rotate", {})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{answer['file']} is used from now on. Keep the older ones: what they made stays good.")
