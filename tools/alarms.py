"""`alarms` and `listings`: what wants a person, and what lists of senders to refuse say of the relay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import directory_argument, json_option, print_json, print_table, printable, wide_option


@click.command("alarms")
@directory_argument
@json_option
@click.pass_context
def alarms_command(context: click.Context, directory: Path, as_json: bool) -> None:
    """Show what wants a person, with what to do.

    Exit status: 0 nothing does, 1 something does, 2 usage.
    """
    answer: Any = administer(directory, "alarm_list", {})
    if as_json:
        print_json(answer)
    elif not answer:
        click.echo("No alarm is active.")
    else:
        for alarm in answer:
            click.echo(f"{alarm['name']}: {printable(alarm['about'])}, since {alarm['since']}")
            for line in alarm["says"]:
                click.echo(f"  {printable(line)}")
    context.exit(1 if answer else 0)


@click.command("listings")
@directory_argument
@wide_option
@json_option
def listings_command(directory: Path, as_json: bool) -> None:
    """Show which lists name the relay's addresses and domains.

    Those are asked that [monitoring] names, every six hours; where all mail goes by one route, none is. Lists that gave
    no usable answer when they were asked last are shown as unknown.
    """
    answer: Any = administer(directory, "listing_list", {})
    if as_json:
        print_json(answer)
        return
    rows = [
        {
            "source": each["source"],
            "list": each["dnsbl"],
            "state": each["state"],
            "since": each["since"],
            "says": printable(each.get("text") or each.get("because") or ", ".join(each["codes"])),
        }
        for each in answer
    ]
    print_table(
        rows,
        ("source", "list", "state", "since", "says"),
        empty="No list that was asked names the relay's addresses or domains.",
    )
