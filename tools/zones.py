"""DNS records in the terminal: a zone file, which a DNS provider's import and its form both understand."""

from __future__ import annotations

from typing import Any

import click

from relay.domains.records import DnsRecord, zone_text


def print_records(answer: dict[str, Any]) -> None:
    """Of a domain, as `dns` answers it; what may be taken out stands behind it, as comments."""
    records = [DnsRecord(**record) for record in answer["records"]]
    click.echo(f"; DNS records for {answer['domain']}")
    if answer["nextSelector"] is not None:
        click.echo(
            f"; {answer['nextSelector']} is used once the DNS has it; until then {answer['selector']} signs."
        )
    click.echo(zone_text(records), nl=not answer["retired"])
    for key in answer["retired"]:
        verdict = (
            "can be removed" if key["removable"] else "must stay until the last mail that it signed is final"
        )
        for name in key["names"]:
            click.echo(f"; TXT {name} {verdict}")
    if answer["retired"]:
        click.echo()
