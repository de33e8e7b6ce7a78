"""`domain rotate-key`: new DKIM keys for a domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import directory_argument, json_option, print_json
from tools.zones import print_records


@click.command("rotate-key")
@directory_argument
@click.option("--domain", required=True, help="The sending domain, or the operator's own.")
@click.option("--did", help="The member, where several have enrolled the domain.")
@click.option("--now", is_flag=True, help="Use the new keys at once, without a look at the DNS.")
@json_option
def domain_rotate_key(directory: Path, domain: str, did: str | None, now: bool, as_json: bool) -> None:
    """Make new DKIM keys, used once the DNS has them.

    Prints what to publish. The relay looks for it every hour; given again, this looks at once. Leave the old records
    until `dns` calls them removable.
    """
    answer: Any = administer(directory, "domain_rotate_key", {"domain": domain, "did": did, "now": now})
    if as_json:
        print_json(answer)
        return
    print_records(answer)
    if answer["selector"] == answer["made"]:
        click.echo(f"{answer['domain']} signs with {answer['made']} from now on.")
        return
    click.echo(f"{answer['domain']} signs with {answer['selector']} until the DNS has {answer['made']}:")
    for check in answer["checks"]:
        click.echo(f"  TXT {check['name']}: {check['fix'] or 'right'}")
