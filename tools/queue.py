"""`queue`: the operator's hand on what waits. The orders work whether the relay runs or not.

A large order is given piece by piece (see `relay.operator.queue_orders`), so that Ctrl-C stops it between two pieces:
what is done is done and said, and giving the same order again does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from relay.operator.protocol import ALREADY, BEING_TRIED, HELD, SCHEDULED, UNKNOWN
from tools.naming import messages, one_message
from tools.output import (
    directory_argument,
    json_option,
    print_json,
    print_table,
    printable,
    reply_line,
    report_line,
    strangers_cell,
    wide_option,
)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda command: reduce(lambda inner, option: option(inner), reversed(options), command)


selection_options = _options(
    messages(about="This message; may be repeated."),
    click.option("--member", "did", help="Messages of this member: did:plc:... or did:web:..."),
    click.option("--site", help="Messages to this site, as `queue list` shows it: a recipient domain."),
)
all_option = click.option("--all", "everything", is_flag=True, help="Everything that waits.")


@click.group("queue", help="Look at what waits to be delivered; hurry, hold or cancel it.")
def queue_group() -> None: ...


@queue_group.command("list")
@directory_argument
@selection_options
@click.option("--messages", "each", is_flag=True, help="Each message, not the sites.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Lines at most.")
@wide_option
@json_option
def queue_list(
    directory: Path,
    message_ids: tuple[int, ...],
    did: str | None,
    site: str | None,
    each: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List what waits: by site, or each message.

    Sites come the largest first; with --messages or a selection, messages come the soonest first. While the relay runs,
    it says of a site that does not answer until when it is left alone, and why.
    """
    arguments = {**_selection(message_ids, did, site), "each": each, "limit": limit}
    answer: Any = administer(directory, "queue_list", arguments)
    if as_json:
        print_json(answer)
        return
    if "sites" in answer:
        rows = [_site_row(site) for site in answer["sites"]]
        columns: tuple[str, ...] = tuple(rows[0]) if rows else ()
    else:
        rows = [_message_row(message) for message in answer["messages"]]
        columns = ("message", "did", "recipient", "status", "attempts", "next attempt", "last reply")
    print_table(rows, columns, empty="Nothing waits.")
    if answer["total"] > len(rows):
        click.echo(f"... and {answer['total'] - len(rows)} more")


def _site_row(site: dict[str, Any]) -> dict[str, Any]:
    """What follows the receivers is of them, and so of all domains that they serve."""
    told = ("site", "waiting", "due", "held", "inFlight", "oldestAcceptedAt", "nextAttemptAt", "receivers")
    connections, down = None, None
    if site["connections"] is not None:
        connections = f"{site['connections']} of {site['connectionsAtMost']}"
    if site["downUntil"] is not None:
        down = f"down until {site['downUntil']}, because {strangers_cell(site['downBecause'])}"
    return {**{name: site[name] for name in told}, "connections": connections, "state": down}


def _message_row(message: dict[str, Any]) -> dict[str, Any]:
    next_attempt = message["nextAttemptAt"]
    if message["inFlight"]:
        next_attempt = "being tried"
    elif message["heldBy"] is not None:
        next_attempt = f"held: {message['heldBy']}"
    return {
        "message": message["messageId"],
        "did": message["did"],
        "recipient": strangers_cell(message["recipient"]),
        "status": message["status"],
        "attempts": message["attempts"],
        "next attempt": next_attempt,
        "last reply": strangers_cell(reply_line(message["lastReply"])),
    }


@queue_group.command("show")
@directory_argument
@one_message()
@json_option
def queue_show(directory: Path, message_id: int, as_json: bool) -> None:
    """Show all that happened to one message, waiting or final."""
    answer: Any = administer(directory, "queue_show", {"message": message_id})
    if as_json:
        print_json(answer)
        return
    for name, value in answer.items():
        if name not in ("timeline", "reports") and value is not None:
            text = reply_line(value) if name == "lastReply" else str(value)
            click.echo(f"{name:<14} {printable(text or '-')}")
    click.echo()
    for entry in answer["timeline"]:
        details = {name: value for name, value in entry.items() if name not in ("seq", "time", "type")}
        if "reply" in details:
            details["reply"] = reply_line(details["reply"])
        if "report" in details:
            details["report"] = report_line(details["report"])
        told = " ".join(f"{name}={value}" for name, value in details.items())
        click.echo(printable(f"{entry['seq']:>7}  {entry['time']}  {entry['type']:<20}  {told}".rstrip()))


def _order(
    name: str, about: str, done: str, sentences: dict[str, str], *, reason_required: bool
) -> click.Command:
    """A command that gives an order: they differ in their words only.

    `sentences` say what it means that messages were passed over.
    """

    def give(
        context: click.Context,
        directory: Path,
        message_ids: tuple[int, ...],
        did: str | None,
        site: str | None,
        everything: bool,
        reason: str | None,
        as_json: bool,
    ) -> None:
        selection = _selection(message_ids, did, site)
        if bool(selection) == everything:
            raise click.UsageError(
                "say which messages are meant: MESSAGE_ID, --member, --site (all that is given must hold), "
                "or else --all"
            )
        arguments = {**selection, "everything": everything, "reason": reason}
        answer = give_in_full(directory, f"queue_{name}", arguments, done)
        if as_json:
            print_json(answer)
        else:
            click.echo(f"{_count(answer['done'])} {done}.")
            for passed in answer["passed"]:
                said = sentences.get(
                    passed["because"], _ALWAYS.get(passed["because"], f"final: {passed['because']}")
                )
                click.echo(f"{_count(passed)} passed over: {said}.")
        left = {passed["because"] for passed in answer["passed"]} - {ALREADY}
        # Who names a message wants to know that it was not dealt with; a selection is what it is.
        if BEING_TRIED in left or (message_ids and left):
            context.exit(1)

    give.__doc__ = about
    reason_option = click.option(
        "--reason", required=reason_required, help="Why; it is kept with the event, and the member sees it."
    )
    decorate = _options(
        queue_group.command(name),
        directory_argument,
        selection_options,
        all_option,
        reason_option,
        json_option,
        click.pass_context,
    )
    command: click.Command = decorate(give)
    return command


_ALWAYS = {
    BEING_TRIED: "being tried at this moment; give the order again",
    UNKNOWN: "there is no such message",
}

queue_flush = _order(
    "flush",
    "Try now what waits for its next attempt.\n\nIt is tried in the order in which connections are free.",
    "due now",
    {
        ALREADY: "due already",
        HELD: "held; `queue release`, or resume the member or domain",
        SCHEDULED: "scheduled by their members for later; name them, if they are to go out now",
    },
    reason_required=False,
)
queue_hold = _order(
    "hold",
    "Do not try these messages until they are released. One whose time is over by then bounces when it is released.",
    "held",
    {ALREADY: "held by the operator already"},
    reason_required=True,
)
queue_release = _order(
    "release",
    "Let go what `queue hold` holds.\n\nEach message is due at its old time.",
    "released",
    {ALREADY: "not held", HELD: "held because the member or domain may not send; resume that"},
    reason_required=False,
)
queue_cancel = _order(
    "cancel",
    "Bounce these messages, for good, without another attempt. It does not count in the domain's rates.",
    "cancelled",
    {},
    reason_required=True,
)


def _selection(message_ids: tuple[int, ...], did: str | None, site: str | None) -> dict[str, Any]:
    given = {"message": list(message_ids) or None, "did": did, "site": site}
    return {name: value for name, value in given.items() if value is not None}


def give_in_full(directory: Path, command: str, arguments: dict[str, Any], done: str) -> dict[str, Any]:
    """Give the order piece by piece, to its end; the answers added up."""
    total: dict[str, Any] | None = None
    place: dict[str, Any] = {}
    while total is None or place["after"] is not None:
        try:
            answer: Any = administer(directory, command, {**arguments, **place})
        except BaseException:
            if total is not None:
                click.echo(f"broken off: at least {_count(total['done'])} {done}", err=True)
            raise
        total = answer if total is None else _added(total, answer)
        place = {"after": answer["next"], "until": answer["until"]}
    del total["next"], total["until"]
    return total


def _added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    passed = {entry["because"]: entry for entry in one["passed"]}
    for entry in other["passed"]:
        because = entry["because"]
        passed[because] = {"because": because, **_sum(passed[because], entry)} if because in passed else entry
    return {**other, "done": _sum(one["done"], other["done"]), "passed": list(passed.values())}


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    examples = max(len(one["messages"]), len(other["messages"]))
    return {
        "count": one["count"] + other["count"],
        # As many as one answer names, or all while they are few.
        "messages": (one["messages"] + other["messages"])[: max(examples, 10)],
    }


def _count(tally: dict[str, Any]) -> str:
    """`1 message (448)`, `12,000 messages (448, 449, ...)`"""
    count, named = tally["count"], [str(message_id) for message_id in tally["messages"]]
    which = "" if not count else f" ({', '.join([*named, *(['...'] if count > len(named) else [])])})"
    return f"{count:,} message{'' if count == 1 else 's'}{which}"
