"""`webhook`: endpoints that are told of events, the operator's and the members'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools.output import (
    counted,
    directory_argument,
    json_option,
    print_json,
    print_table,
    printable,
    wide_option,
)

#: What JSON numbers hold exactly everywhere.
CURSOR = click.IntRange(0, 2**53 - 1)

_id_option = click.option("--id", "webhook_id", required=True, help="As `webhook list --wide` shows it.")


@click.group("webhook", help="Webhooks: endpoints that are told of events, in their order.")
def webhook_group() -> None: ...


@webhook_group.command("list")
@directory_argument
@click.option("--did", help="Only this member's.")
@click.option("--own", is_flag=True, help="Only the operator's own.")
@wide_option
@json_option
def webhook_list(directory: Path, did: str | None, own: bool, as_json: bool) -> None:
    """List the webhooks, without their secrets."""
    if did is not None and own:
        raise click.UsageError("give either --did DID or --own")
    rows: Any = administer(directory, "webhook_list", {"did": did, "own": own})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["did"] = row["did"] or "(operator)"
        row["url"] = printable(row["url"] or "(erased)")
    columns = ("webhookId", "did", "status", "cursor", "failures", "failingSince", "url")
    print_table(rows, columns, empty="There are no webhooks.")


@webhook_group.command("show")
@directory_argument
@_id_option
@json_option
def webhook_show(directory: Path, webhook_id: str, as_json: bool) -> None:
    """Show how far a webhook has got, and its last requests.

    The requests are kept in memory, by a relay that runs.
    """
    answer: Any = administer(directory, "webhook_show", {"webhook_id": webhook_id})
    if as_json:
        print_json(answer)
        return
    because = f" ({answer['disabledBecause']})" if answer["disabledBecause"] else ""
    click.echo(f"{webhook_id} of {answer['did'] or 'the operator'} is {answer['status']}{because}.")
    click.echo(f"URL      {printable(answer['url'] or '(erased)')}")
    click.echo(f"Types    {', '.join(answer['types']) or 'all'}")
    click.echo(f"Cursor   {answer['cursor']}")
    if answer["replay"]:
        click.echo(f"Replay   {answer['replay']['from']} to {answer['replay']['to']}")
    if answer["failures"]:
        click.echo(f"Fails    {counted(answer['failures'], 'time')} since {answer['failingSince']}")
    if answer["lastFailure"]:
        last = answer["lastFailure"]
        click.echo(f"Failed   {last['time']}, {_outcome(last)}")
    for attempt in answer["attempts"]:
        click.echo(f"{attempt['time']}  {_what(attempt)}: {_outcome(attempt)}, {attempt['seconds']:.1f} s")


@webhook_group.command("add")
@directory_argument
@click.option("--url", required=True, help="https, at a public address or one of [webhooks] allow.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be repeated.")
@click.option("--from", "after", type=CURSOR, help="Events after this one; 0: all. Without it, from now on.")
@click.option("--batch", type=click.IntRange(1, 100), default=1, help="Events that a request may bring.")
@click.option("--ed25519", is_flag=True, help="Sign with Ed25519, too (v1a).")
@json_option
def webhook_add(
    directory: Path,
    url: str,
    types: tuple[str, ...],
    after: int | None,
    batch: int,
    ed25519: bool,
    as_json: bool,
) -> None:
    """Have all members' events posted to an endpoint.

    Its secret is shown only now.
    """
    answer = _administer(
        directory, "webhook_add", url=url, types=list(types), after=after, batch=batch, ed25519=ed25519
    )
    if as_json:
        print_json(answer)
        return
    click.echo(f"Added webhook {answer['webhookId']}, which begins after event {answer['cursor']}.")
    _print_secrets(answer)


@webhook_group.command("remove")
@directory_argument
@_id_option
@json_option
def webhook_remove(directory: Path, webhook_id: str, as_json: bool) -> None:
    """Remove a webhook, anybody's."""
    answer = _administer(directory, "webhook_remove", webhook_id=webhook_id)
    _say(answer, f"Webhook {webhook_id} is removed.", as_json)


@webhook_group.command("pause")
@directory_argument
@_id_option
@json_option
def webhook_pause(directory: Path, webhook_id: str, as_json: bool) -> None:
    """Tell nothing to a webhook until it is resumed."""
    answer = _administer(directory, "webhook_pause", webhook_id=webhook_id)
    _say(answer, f"Webhook {webhook_id} is paused.", as_json)


@webhook_group.command("resume")
@directory_argument
@_id_option
@json_option
def webhook_resume(directory: Path, webhook_id: str, as_json: bool) -> None:
    """Let a paused or disabled webhook go on where it stopped."""
    answer = _administer(directory, "webhook_resume", webhook_id=webhook_id)
    _say(answer, f"Webhook {webhook_id} is active, and goes on after event {answer['cursor']}.", as_json)


@webhook_group.command("rotate")
@directory_argument
@_id_option
@json_option
def webhook_rotate(directory: Path, webhook_id: str, as_json: bool) -> None:
    """Make a new secret.

    For 24 hours the one before it signs as well. It is shown only now.
    """
    answer = _administer(directory, "webhook_rotate", webhook_id=webhook_id)
    if as_json:
        print_json(answer)
        return
    click.echo(f"Until {answer['previousSecretUntil']} the secret of before signs, too.")
    _print_secrets(answer)


@webhook_group.command("replay")
@directory_argument
@_id_option
@click.option("--from", "after", type=CURSOR, required=True, help="Events after this one.")
@click.option("--to", "until", type=CURSOR, help="Up to this one, with it. Without it, all that were told.")
@json_option
def webhook_replay(directory: Path, webhook_id: str, after: int, until: int | None, as_json: bool) -> None:
    """Tell events again, before what is new."""
    answer = _administer(directory, "webhook_replay", webhook_id=webhook_id, after=after, until=until)
    replay = answer["replay"]
    _say(answer, f"Events after {replay['from']} and up to {replay['to']} are told again.", as_json)


@webhook_group.command("test")
@directory_argument
@_id_option
@json_option
@click.pass_context
def webhook_test(context: click.Context, directory: Path, webhook_id: str, as_json: bool) -> None:
    """Post a `webhook.test` now, and say what was answered."""
    answer = _administer(directory, "webhook_test", webhook_id=webhook_id)
    verdict = "took" if answer["taken"] else "did NOT take"
    _say(answer, f"The endpoint {verdict} it: {_outcome(answer)}, {answer['seconds']:.1f} s.", as_json)
    if not answer["taken"]:
        context.exit(1)


def _administer(directory: Path, command: str, **arguments: Any) -> Any:
    return administer(directory, command, arguments)


def _say(answer: Any, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(sentence)


def _print_secrets(answer: dict[str, Any]) -> None:
    click.echo(f"\nSecret, shown only now:  {answer['secret']}")
    if answer["publicKey"]:
        click.echo(f"Public key:              {answer['publicKey']}")


def _outcome(of: dict[str, Any]) -> str:
    return (
        f"HTTP {of['httpStatus']}" if of["httpStatus"] is not None else printable(of["error"] or "no answer")
    )


def _what(attempt: dict[str, Any]) -> str:
    if attempt["isTest"]:
        return "test"
    again = ", again" if attempt["isReplay"] else ""
    if attempt["firstSeq"] == attempt["lastSeq"]:
        return f"event {attempt['lastSeq']}{again}"
    return f"{counted(attempt['events'], 'event')} {attempt['firstSeq']} to {attempt['lastSeq']}{again}"
