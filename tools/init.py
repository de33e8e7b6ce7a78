"""`init`: a new data directory."""

from __future__ import annotations

from pathlib import Path

import click

from relay.config import CONFIG_FILE
from relay.operator.initialise import OPERATOR_DOMAIN_DEFAULT, initialise
from tools.output import directory_argument, json_option, print_json


@click.command("init")
@directory_argument
@click.option(
    "--operator-domain",
    default=OPERATOR_DOMAIN_DEFAULT,
    show_default=True,
    help="The relay's own domain: DKIM d=, bounces, SPF. Fixed once its keys exist.",
)
@click.option("--public-url", help="Where the world reaches the relay.  [default: https://OPERATOR-DOMAIN]")
@json_option
def init_command(directory: Path, operator_domain: str, public_url: str | None, as_json: bool) -> None:
    """Make a data directory.

    It gets a configuration with comments, secrets, and the operator's DKIM keys.
    """
    initialise(directory, operator_domain=operator_domain, public_url=public_url)
    if as_json:
        print_json(
            {"directory": str(directory.absolute()), "config": str((directory / CONFIG_FILE).absolute())}
        )
        return
    click.echo(
        f"{directory} is ready. Next:\n"
        f"  look through {directory / CONFIG_FILE}\n"
        f"  atmos-relay dns {directory}      the operator's DNS records\n"
        f"  atmos-relay member add {directory} --did did:plc:... --domain example.com\n"
        f"  atmos-relay serve {directory}\n"
        f"  atmos-relay console login {directory}      while it runs: a link into the operator's console"
    )
