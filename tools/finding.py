"""`find`, `top` and `why`: which messages, what became of how many, and what stands in the way of a domain or member.

The answers are those of `relay.operator.finding`, of a running relay or of the directory beside it; here they are told.
What strangers wrote (addresses, replies) is escaped before it is printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from relay.operator.client import administer
from tools.colour import verdict
from tools.naming import OneOf, Word
from tools.output import (
    counted,
    directory_argument,
    json_option,
    print_json,
    print_prose,
    print_table,
    printable,
    reply_line,
    strangers_cell,
    wide_option,
)

#: `relay.views.messages.STATUSES` and `relay.finding.totals`: tests hold them to that. Imported they would take longer
#: than the command.
STATUSES: Final = ("queued", "deferred", "sent", "bounced")
BYS: Final = ("receiver", "site", "class", "domain", "member", "provider")
ORDERS: Final = ("messages", "sent", "deferred", "bounced", "complaints")


def _classes() -> Iterable[str]:
    from relay.delivery.bounce_classes import BounceClass

    return [one.value for one in BounceClass]


def _providers() -> Iterable[str]:
    from relay.providers import PROVIDERS, UNKNOWN

    return (*PROVIDERS, UNKNOWN)


since_help = "Accepted since then: 2h, 7d, yesterday, 2026-01-07, or a time."


@click.command("find")
@directory_argument
@click.option("--recipient", metavar="ADDRESS", help="To this address.")
@click.option("--from", "sender", metavar="ADDRESS", help="With this address in the From field.")
@click.option("--domain", help="From this sending domain.")
@click.option("--did", help="Of this member.")
@click.option("--status", type=OneOf(STATUSES), help="As it is now.")
@click.option(
    "--class",
    "bounce_class",
    type=Word("class", _classes),
    metavar="CLASS",
    help="Whose last failure is of this class (docs/BOUNCE_CLASSES.md).",
)
@click.option(
    "--provider",
    type=Word("provider", _providers),
    metavar="PROVIDER",
    help="That this mailbox provider was last asked to take: google, microsoft, ...",
)
@click.option("--mx", metavar="HOST", help="That was tried at this host.")
@click.option("--category", help="Of this category.")
@click.option("--tag", help="With this tag.")
@click.option("--since", metavar="WHEN", help=since_help)
@click.option("--until", metavar="WHEN", help="Accepted before then.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Messages at most."
)
@click.option(
    "--after", type=click.IntRange(min=1), help="Those that follow: the `next` of the answer before."
)
@wide_option
@json_option
def find_command(
    directory: Path, sender: str | None, bounce_class: str | None, as_json: bool, **others: Any
) -> None:
    """Find messages, the newest first.

    All that is given must hold. Never reads the whole log. What was personal is found for as long as it is kept.
    """
    answer: Any = administer(directory, "find", _given({"from": sender, "class": bounce_class, **others}))
    if as_json:
        print_json(answer)
        return
    print_messages(answer["messages"], empty="Nothing was found.")
    if answer["next"] is not None:
        back = answer["lookedBackTo"]
        looked = "" if back is None else f"All that was accepted since {back} was looked at. "
        click.echo(f"{looked}For those that follow: --after {answer['next']}")


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def print_messages(messages: list[dict[str, Any]], *, empty: str) -> None:
    """Each with its last failure, in the receiver's own words."""
    columns = ("message", "status", "acceptedAt", "recipient", "from", "because")
    print_table([_message_row(message) for message in messages], columns, empty=empty, beside_max=5)


def _message_row(message: dict[str, Any], report: dict[str, Any] | None = None) -> dict[str, Any]:
    """`report`: the one that says why it came back, where that is known."""
    reply = message["lastReply"]
    failed = None if reply is None or message["status"] == "sent" else reply_line(reply)
    if report is not None:
        failed = report["diagnostic"]
    # Its receiver took it, and said later that it failed.
    later = "came back later" if message["status"] == "sent" and message["bounceClass"] else None
    because = ": ".join(filter(None, (later, message["bounceClass"], failed)))
    return {
        "message": message["messageId"],
        "status": message["status"],
        "acceptedAt": message["acceptedAt"],
        "recipient": strangers_cell(message["recipient"]),
        "from": strangers_cell(message["from"]),
        "because": strangers_cell(because) or None,
    }


# ------------------------------------------------------------------------------------------------ top


@click.command("top")
@directory_argument
@click.option(
    "--by",
    required=True,
    type=OneOf(BYS),
    help="receiver: an MX host; site: a recipient domain; member: a DID.",
)
@click.option("--order", type=OneOf(ORDERS), default="messages", show_default=True, help="The largest first.")
@click.option(
    "--since", metavar="WHEN", default="7d", show_default=True, help="2h, yesterday, a date, a time."
)
@click.option("--until", metavar="WHEN", help="Before then; without it, until now.")
@click.option("--did", help="Of this member alone; not by receiver or site.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Lines at most.")
@wide_option
@json_option
def top_command(directory: Path, as_json: bool, **others: Any) -> None:
    """Say who takes, puts off and refuses most, and why.

    By receiver, recipient domain, class, sending domain, member or provider. `deferred` counts attempts, the others
    messages. A median is the time from acceptance to `sent` that half of them did not exceed.
    """
    answer: Any = administer(directory, "top", _given(others))
    if as_json:
        print_json(answer)
        return
    until = "until now" if others["until"] is None else f"to {answer['until']}"
    click.echo(f"From {answer['since']} {until}")
    by, rows = answer["by"], answer["rows"]
    if by == "class":
        columns: tuple[str, ...] = (by, "deferred", "bounced", "reported")
        table = [{**row, by: _name(row)} for row in rows]
    else:
        table = [{by: _name(row), **_totals(row)} for row in rows]
        columns = (by, *_TOTALS)
        if len(rows) > 1 or answer["total"] > len(rows):
            table.append({by: "(all)", **_totals(answer["all"])})
    print_table(table if rows else [], columns, empty="There is nothing.", beside_max=8)
    if answer["total"] > len(rows):
        click.echo(f"... and {answer['total'] - len(rows):,} more")


def _name(row: dict[str, Any]) -> str:
    return "(not known)" if row["name"] is None else printable(row["name"])


_TOTALS = (
    "sent",
    "deferred",
    "bounced",
    "rate",
    "complaints",
    "TLS",
    "median",
    "put off",
    "refused",
    "reported",
)


def _totals(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "sent": row["sent"],
        "deferred": row["deferred"],
        "bounced": row["bounced"],
        "rate": _percent(row["bounceRate"]),
        "complaints": row["complaints"],
        "TLS": _percent(row["tlsRate"]),
        "median": _duration(row["medianSeconds"]),
        "put off": _by_class(row["deferredByClass"]),
        "refused": _by_class(row["bouncedByClass"]),
        "reported": _by_class(row["reportedByClass"]),
    }


def _percent(rate: float | None) -> str | None:
    """Of a complaint, one in a thousand is much."""
    return None if rate is None else f"{rate * 100:.3g} %"


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for of, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * of:
            return f"{seconds / of:.3g} {unit}"
    return f"{seconds:.2g} s"


def _by_class(counts: dict[str, int]) -> str | None:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or None


# ------------------------------------------------------------------------------------------------ why


@click.command("why")
@directory_argument
@click.option("--domain", help="A sending domain.")
@click.option("--did", help="A member.")
@wide_option
@json_option
@click.pass_context
def why_command(
    context: click.Context, directory: Path, domain: str | None, did: str | None, as_json: bool
) -> None:
    """Say why a domain or a member may not send.

    Since when and by whom it is paused, unverified or suspended, what to do, and the messages that counted. Exit status
    1 if anything stands in the way.
    """
    if (domain is None) == (did is None):
        raise click.UsageError("give either --domain DOMAIN or --did DID")
    answer: Any = administer(directory, "why", _given({"domain": domain, "did": did}))
    if as_json:
        print_json(answer)
    else:
        _tell_why(answer)
    if not (answer["sendsTransactional"] and answer["sendsBulk"]):
        context.exit(1)


def _tell_why(answer: dict[str, Any]) -> None:
    who = printable(answer["domain"] or answer["did"])
    if answer["domain"] is not None and answer["did"] is not None:
        who += f" of {answer['did']}"
    stops = {
        (True, True): ("ok", "sends"),
        (True, False): ("PROBLEM", "sends transactional mail only; its bulk mail is held"),
        (False, True): ("PROBLEM", "sends bulk mail only"),
        (False, False): ("PROBLEM", "does not send"),
    }
    word, what = stops[answer["sendsTransactional"], answer["sendsBulk"]]
    print_prose(f"{verdict(word, 7)}  {who} {what}.")
    for hindrance in answer["hindrances"]:
        click.echo()
        for sentence in _hindrance_sentences(hindrance):
            print_prose(sentence)
        if hindrance["messages"]:
            click.echo()
            print_table(
                [
                    {"counted as": one["countedAs"], "countedAt": one["countedAt"], **_counted_row(one)}
                    for one in hindrance["messages"]
                ],
                ("message", "counted as", "countedAt", "recipient", "because"),
                empty="",
                beside_max=4,
            )


def _counted_row(one: dict[str, Any]) -> dict[str, Any]:
    row = _message_row(one["message"], one["report"])
    return {name: row[name] for name in ("message", "recipient", "because")}


def _hindrance_sentences(hindrance: dict[str, Any]) -> Iterator[str]:
    since = "" if hindrance["since"] is None else f" since {hindrance['since']}"
    by = "" if hindrance["by"] is None else f", by {printable(hindrance['by'])}"
    reason = "" if hindrance["reason"] is None else f": {printable(hindrance['reason'])}"
    yield f"{hindrance['what']}{since}{by}{reason}"
    yield f"  {printable(hindrance['says'])}"
    if hindrance["failed"]:
        yield f"  failed: {printable(', '.join(hindrance['failed']))}"
    evidence = hindrance["evidence"]
    if evidence is not None:
        yield (
            f"  counted from {evidence['windowStart']} to {evidence['windowEnd']}: "
            f"{counted(evidence['final'], 'message')}, {evidence['bounced']:,} bounced, "
            f"{counted(evidence['complaints'], 'complaint')}"
        )
    yield f"  to do: {printable(hindrance['fix'])}"
