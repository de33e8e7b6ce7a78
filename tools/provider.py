"""`providers`: mail by mailbox provider, and what each demands. `provider record`: what one says of our mail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import (
    directory_argument,
    json_option,
    print_json,
    print_table,
    printable,
    wide_option,
)

_COLUMNS = (
    "provider",
    "accepted",
    "sent",
    "deferred",
    "bounced",
    "bounce rate",
    "reported",
    "TLS",
    "median",
    "complaints",
    "complaint rate",
    "unsubscribes",
)
_WORDS = {"met": "met     ", "not_met": "NOT MET ", "unseen": "unseen  "}


@click.command("providers")
@directory_argument
@click.option("--days", type=click.IntRange(1, 92), default=14, show_default=True, help="Of UTC, with today.")
@click.option("--provider", help="This one alone, day by day, as google, microsoft or yahoo.")
@click.option("--did", help="Mail of this member alone.")
@wide_option
@json_option
def providers_command(
    directory: Path, days: int, provider: str | None, did: str | None, as_json: bool
) -> None:
    """Show what became of mail at each mailbox provider.

    Below that stands what each demands, and whether it is met.

    `unseen` is what cannot be seen from here; the line says who can.
    """
    answer: Any = administer(directory, "providers", {"days": days, "provider": provider, "did": did})
    if as_json:
        print_json(answer)
        return
    found = answer["providers"]
    click.echo(f"{answer['since']} to {answer['until']} (UTC)")
    print_table(
        [_row(each["provider"], each) for each in found], _COLUMNS, empty="No mail has found a provider."
    )
    for each in found:
        if provider is not None:
            rows = [{**_row("", day), "day": day["date"]} for day in each["byDay"]]
            click.echo()
            print_table(rows, ("day", *_COLUMNS[1:]), empty="")
        _tell(each)


def _row(name: str, sums: dict[str, Any]) -> dict[str, Any]:
    complained, final = sums["complaintRate"], sums["sent"] + sums["bounced"]
    return {
        **sums,
        "provider": name,
        # A rate of few is chance: how many they were stands beside it.
        "bounce rate": None if sums["bounceRate"] is None else f"{sums['bounceRate']:.1%} of {final:,}",
        "TLS": None if sums["tlsRate"] is None else f"{sums['tlsRate']:.0%}",
        "median": None if sums["medianSeconds"] is None else f"{sums['medianSeconds']:,.1f} s",
        "complaint rate": "unknown" if complained is None else f"{complained:.2%} of {sums['sent']:,}",
    }


def _tell(found: dict[str, Any]) -> None:
    click.echo(f"\n{found['provider']}")
    for verdict in found["readiness"]:
        since = "" if verdict["since"] is None else f", since {verdict['since']}"
        if verdict["fromPerDay"]:
            since += (
                f", of senders of {verdict['fromPerDay']:,} a day (the most here: {found['busiestDay']:,})"
            )
        click.echo(f"  {_WORDS[verdict['verdict']]}  {verdict['says']}{since}")
        click.echo(f"            {printable(verdict['because'])}")
        click.echo(f"            shown by: {verdict['shownBy']}")
    for report in found["reports"]:
        rate = "" if report["spamRate"] is None else f" spam rate {report['spamRate']:.2%}, {report['level']}"
        words = "".join(f", {name}: {word}" for name, word in report["compliance"].items())
        click.echo(f"  recorded  {report['date']} {report['domain']}:{rate}{printable(words)}")
        for share in report["senders"]:
            click.echo(
                f"            {share['domain']} ({share['did']}): {share['sent']:,} sent, {share['share']:.0%} of"
                f" that day's, {share['unsubscribes']:,} unsubscribed"
            )


@click.group("provider", help="What mailbox providers say of this relay's mail.")
def provider_group() -> None: ...


@provider_group.command("record")
@directory_argument
@click.option("--provider", required=True, help="As google, microsoft or yahoo.")
@click.option(
    "--domain", required=True, help="The domain that the provider speaks of: one that signs the mail."
)
@click.option("--date", required=True, metavar="YYYY-MM-DD", help="The day that it speaks of.")
@click.option("--spam-rate", type=float, help="Share of mail that users reported as spam: 0.0007 is 0.07 %.")
@click.option(
    "--compliance",
    multiple=True,
    metavar="DEMAND=WORD",
    help="What it says of a demand, as dmarc=met or one_click=not_met. Repeatable.",
)
@json_option
def provider_record(
    directory: Path,
    provider: str,
    domain: str,
    date: str,
    spam_rate: float | None,
    compliance: tuple[str, ...],
    as_json: bool,
) -> None:
    """Record what a provider's own page says of mail.

    Such a page is Google's Postmaster Tools. The last word for a provider, domain and day counts. `providers` shows
    it, and judges by it.
    """
    said = {}
    for pair in compliance:
        name, equals, word = pair.partition("=")
        if not equals:
            raise click.BadParameter("expected DEMAND=WORD, as dmarc=met", param_hint="--compliance")
        said[name] = word
    order = {
        "provider": provider,
        "domain": domain,
        "date": date,
        "spam_rate": spam_rate,
        "compliance": said,
    }
    answer: Any = administer(directory, "provider_record", order)
    if as_json:
        print_json(answer)
        return
    level = {
        "warn": " That is more than 0.1 %: look who sent there that day (`providers`).",
        "red": " That is 0.3 % or more, at which Google and Yahoo refuse mail: look who sent there that day "
        "(`providers`).",
    }.get(answer["level"], "")
    click.echo(f"What {provider} says of {answer['domain']} on {answer['date']} is recorded.{level}")
