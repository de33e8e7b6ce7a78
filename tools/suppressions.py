"""`suppression`: to whom a member's mail may not go, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import directory_argument, json_option, print_json, print_table, printable, wide_option

_did_option = click.option("--did", required=True, help="The member: did:plc:... or did:web:...")
_recipient_option = click.option("--recipient", required=True, help="The bare address.")


@click.group("suppression", help="To whom a member's mail may not go, and why.")
def suppression_group() -> None: ...


@suppression_group.command("list")
@directory_argument
@_did_option
@click.option("--recipient", help="Only this address.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, help="Rows at most; 100 by default.")
@click.option("--after", type=click.IntRange(min=1), help="Go on behind this one, the `next` of before.")
@wide_option
@json_option
def suppression_list(
    directory: Path, did: str, recipient: str | None, limit: int, after: int | None, as_json: bool
) -> None:
    """List a member's suppressions, the newest first."""
    answer: Any = administer(
        directory,
        "suppression_list",
        {"did": did, "recipient": recipient, "limit": limit, "after": after},
    )
    if as_json:
        print_json(answer)
        return
    rows = [
        {
            "recipient": printable(row["recipient"]),
            "reasons": [reason["reason"] for reason in row["reasons"]],
            "since": row["since"],
            "note": printable("; ".join(reason.get("note", "") for reason in row["reasons"]).strip("; ")),
        }
        for row in answer["suppressions"]
    ]
    print_table(
        rows,
        ("recipient", "reasons", "since", "note"),
        empty="There is no such suppression." if recipient else "The member's suppression list is empty.",
    )
    if answer["next"] is not None:
        click.echo(f"There are more, {answer['count']} in all: --after {answer['next']}")


@suppression_group.command("add")
@directory_argument
@_did_option
@_recipient_option
@click.option("--note", help="A note beside it, at most 256 characters.")
@json_option
def suppression_add(directory: Path, did: str, recipient: str, note: str | None, as_json: bool) -> None:
    """Let no more mail of a member go to an address."""
    answer: Any = administer(directory, "suppression_add", {"did": did, "recipient": recipient, "note": note})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{did} may not write to {printable(answer['recipient'])}.")


@suppression_group.command("remove")
@directory_argument
@_did_option
@_recipient_option
@json_option
def suppression_remove(directory: Path, did: str, recipient: str, as_json: bool) -> None:
    """Take back the reasons `unsubscribe`, `manual` and `bounced`.

    A complaint stays, and nothing is taken back beside it.
    """
    answer: Any = administer(directory, "suppression_remove", {"did": did, "recipient": recipient})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{did} may write to {printable(answer['recipient'])} again.")
