"""`log strip` and `log erase`: personal data are removed, whether the relay runs or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.naming import one_message
from tools.output import (
    counted,
    directory_argument,
    json_option,
    print_json,
    print_table,
    printable,
    wide_option,
)


@click.command("strip")
@directory_argument
@click.option(
    "--older-than",
    type=click.IntRange(1, 36500),
    metavar="DAYS",
    help="Final for so many days; by default `retention_days` of relay.toml.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@wide_option
@json_option
def strip_command(directory: Path, older_than: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove the personal data of messages that are long over.

    Counts and histories stay. A running relay does this by itself, once a day.
    """
    arguments = {"older_than": older_than, "dry_run": dry_run}
    answer = administer(directory, "log_strip", arguments)
    assert isinstance(answer, dict)
    if as_json:
        print_json(answer)
        return
    done = "This would remove" if dry_run else "Removed"
    messages, days = counted(answer["messages"], "message"), counted(answer["days"], "day")
    click.echo(f"{done} the personal data of {messages}, final for {days}.")
    _print_singles(answer)
    _print_kept(answer)
    if not dry_run:
        _print_segments(answer)


@click.command("erase")
@directory_argument
@one_message(required=False, about="This message.")
@click.option("--recipient", metavar="ADDRESS", help="All messages to this address.")
@click.option("--did", help="Only this member's.")
@click.option("--reason", required=True, help="Kept for good, so name nobody: a ticket number will do.")
@wide_option
@json_option
def erase_command(
    directory: Path,
    message_id: int | None,
    recipient: str | None,
    did: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Remove personal data of a message or a recipient, now.

    Of a recipient: of all messages to an address. A message that is not final must be cancelled first. Suppressions
    of the address stay: they are what keeps mail from it. That it was done, by whom and why stays in the log.
    """
    if (message_id is None) == (recipient is None):
        raise click.UsageError("say either --message or --recipient")
    arguments = {"message": message_id, "recipient": recipient, "did": did, "reason": reason}
    answer = administer(directory, "log_erase", arguments)
    assert isinstance(answer, dict)
    if as_json:
        print_json(answer)
        return
    click.echo(f"Removed the personal data of {counted(answer['messages'], 'message')}.")
    _print_singles(answer)
    _print_kept(answer)
    _print_segments(answer)
    for sentence in answer["owed"]:
        click.echo(f"Not everywhere yet: {printable(sentence)}.")
    still = answer["stillNamed"]
    if still is None:
        click.echo(
            "Where its address still stands cannot be said: it had been removed from the message before."
        )
        return
    for name, count in still.items():
        click.echo(f"The address still stands in {count} {printable(name)}{_why_still(name)}.")
    if not still:
        click.echo("No event of the log names the address any more.")


def _why_still(name: str) -> str:
    if name.startswith("recipient."):
        return ": suppressions keep it, so that no mail goes there"
    if name == "domain.forward_set":
        return ": it is where a member hears of its bounces"
    if name in (
        "message.queued",
        "dsn.queued",
        "confirmation.queued",
        "forward.queued",
        "webhook_notice.queued",
        "alarm.queued",
    ):
        return ": other messages to it, which `log erase --recipient` erases when they are final"
    if name in ("message.bounce_reported", "message.complained", "mail.received"):
        return ": mail that came in and names it, of which others have their part"
    if name == "send.accepted":
        return ": content that other recipients share, or that names it"
    return ""


def _print_singles(answer: dict[str, Any]) -> None:
    """Reports; mailboxes that are in use no more, and reasons of removals."""
    if answer["reports"]:
        click.echo(f"And of {counted(answer['reports'], 'report')} about messages.")
    if answer["recordsOfNoMessage"]:
        click.echo(f"And of {counted(answer['recordsOfNoMessage'], 'record')} of no message.")


def _print_kept(answer: dict[str, Any]) -> None:
    for item in answer["kept"]:
        click.echo(f"Message {item['messageId']} keeps them: {printable(item['because'])}.")
    more = answer["keptCount"] - len(answer["kept"])
    if more:
        click.echo(f"So do {counted(more, 'message')} more.")


def _print_segments(answer: dict[str, Any]) -> None:
    print_table(
        answer["segments"], ("file", "payloads", "bytesFreed"), empty="No segment had to be rewritten."
    )
    if answer["tornCopies"]:
        click.echo(f"Copies of torn tails removed: {answer['tornCopies']}.")
