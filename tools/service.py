"""`init`, `serve` and `doctor`: the data directory and the running relay."""

from __future__ import annotations

from pathlib import Path

import click
import trio

from relay.logs import configure_logging
from relay.operator.initialise import OPERATOR_DOMAIN_DEFAULT, initialise
from relay.service import serve
from tools.doctor import examine
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
def init_command(directory: Path, operator_domain: str, public_url: str | None) -> None:
    """Make a data directory: configuration with comments, secrets, the operator's DKIM keys."""
    initialise(directory, operator_domain=operator_domain, public_url=public_url)
    click.echo(
        f"{directory} is ready. Next:\n"
        f"  look through {directory / 'relay.toml'}\n"
        f"  atmos-relay dns {directory}      the operator's DNS records\n"
        f"  atmos-relay member add {directory} --did did:plc:... --domain example.com\n"
        f"  atmos-relay serve {directory}"
    )


@click.command("serve")
@directory_argument
def serve_command(directory: Path) -> None:
    """Run the relay until SIGTERM or Ctrl-C. Logs JSON lines to standard error."""
    configure_logging()
    trio.run(serve, directory)


@click.command("doctor")
@directory_argument
@json_option
@click.pass_context
def doctor_command(context: click.Context, directory: Path, as_json: bool) -> None:
    """Look at a data directory, running or not, and say what is wrong and what to do about it."""
    findings = examine(directory)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check}: {finding.says}")
    if not all(finding.ok for finding in findings):
        context.exit(1)
