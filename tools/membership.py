"""`member`, `domain`, `key` and `dns`: who may send, and what DNS must say for it.

They work whether the relay runs or not: `relay.operator.client` finds out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from relay.operator.client import administer
from tools import removal, rotation
from tools.colour import verdict
from tools.naming import OneOf, owner_of_domain, owner_of_key, owner_option
from tools.output import directory_argument, json_option, print_json, print_table, printable, wide_option
from tools.zones import print_records

did_option = click.option("--did", required=True, help="The member: did:plc:... or did:web:...")


reason_option = click.option("--reason", help="Why; it is kept with the event.")


def _say(answer: Any, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(sentence)


def _administer(directory: Path, command: str, **arguments: Any) -> Any:
    return administer(directory, command, arguments)


@click.group("member", help="Members of the relay.")
def member_group() -> None: ...


@member_group.command("add")
@directory_argument
@did_option
@click.option("--domain", "domains", multiple=True, required=True, help="A sending domain; may be repeated.")
@click.option("--handle", help="Its handle. Without it, the one in the DID's document, where that is right.")
@click.option(
    "--offline", is_flag=True, help="Do not ask the network whether the DID exists, nor whose the handle is."
)
@json_option
def member_add(
    directory: Path, did: str, domains: tuple[str, ...], handle: str | None, offline: bool, as_json: bool
) -> None:
    """Enrol a member with its domains, and show its first API key.

    The key is shown only now.
    """
    answer = _administer(
        directory, "member_add", did=did, domains=list(domains), handle=handle, offline=offline
    )
    if as_json:
        print_json(answer)
        return
    known = f", {answer['handle']}" if answer["handle"] else ""
    click.echo(f"Enrolled {did}{known}.\n\nAPI key, shown only now:  {answer['apiKey']}\n")
    for domain in answer["domains"]:
        print_records(domain)


@member_group.command("list")
@directory_argument
@wide_option
@json_option
def member_list(directory: Path, as_json: bool) -> None:
    """List the members."""
    rows = _administer(directory, "member_list")
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ("did", "status", "domains", "addedAt", "handle"), empty="There are no members.")


@member_group.command("show")
@directory_argument
@did_option
@wide_option
@json_option
def member_show(directory: Path, did: str, as_json: bool) -> None:
    """Show a member: limits, domains, and what the DNS said of them.

    What was found in the DNS is kept in memory, by a relay that runs.
    """
    answer = _administer(directory, "member_show", did=did)
    if as_json:
        print_json(answer)
        return
    known = f", {answer['handle']}," if answer["handle"] else ""
    click.echo(f"{did}{known} is {answer['status']} since {answer['addedAt']}.")
    if answer["hourLimit"] is not None:
        click.echo(f"Limits      {answer['hourLimit']} an hour, {answer['dayLimit']} a day, for each domain")
    click.echo(f"Keys        {answer['activeKeys']} active")
    click.echo(f"Suppressed  {answer['suppressed']:,}")
    columns = ("domain", "status", "verified", "checkedAt", "failed", "forwardTo")
    print_table(answer["domains"], columns, empty="It has no domain.")
    for domain in answer["domains"]:
        if domain["pause"] is not None:
            click.echo(f"{domain['domain']}: {domain['pause']['why']}")
        for record in domain["records"]:
            if record["ok"] is False:
                click.echo(
                    f"{domain['domain']}: {record['type']} {record['name']}: {printable(record['fix'] or '')}"
                )


@member_group.command("suspend")
@directory_argument
@did_option
@reason_option
@json_option
def member_suspend(directory: Path, did: str, reason: str | None, as_json: bool) -> None:
    """Refuse the member's sends, and hold what it has queued. It may still read."""
    answer = _administer(directory, "member_suspend", did=did, reason=reason)
    _say(answer, f"{did} is suspended.", as_json)


@member_group.command("resume")
@directory_argument
@did_option
@reason_option
@json_option
def member_resume(directory: Path, did: str, reason: str | None, as_json: bool) -> None:
    """Let a suspended member send again; what was held goes on."""
    answer = _administer(directory, "member_resume", did=did, reason=reason)
    _say(answer, f"{did} is active.", as_json)


@member_group.command("limits")
@directory_argument
@did_option
@click.option("--hour", type=click.IntRange(min=0), help="Recipients an hour, for each of its domains.")
@click.option("--day", type=click.IntRange(min=0), help="Recipients a day, for each of its domains.")
@json_option
def member_limits(directory: Path, did: str, hour: int | None, day: int | None, as_json: bool) -> None:
    """Set limits in the place of the warming tiers.

    Without --hour and --day, go back to the tiers.
    """
    answer = _administer(directory, "member_limits", did=did, hour=hour, day=day)
    sentence = "the warming tiers" if hour is None else f"{hour} an hour and {day} a day"
    _say(answer, f"{did}: {sentence}.", as_json)


@member_group.command("set-handle")
@directory_argument
@did_option
@click.option("--handle", help="A host name that names the DID, and that the DID's document names.")
@click.option("--none", "nothing", is_flag=True, help="It has none any more; so does an empty --handle.")
@click.option(
    "--offline", is_flag=True, help="Do not ask the network whose the handle is: not now, but soon."
)
@json_option
def member_set_handle(
    directory: Path, did: str, handle: str | None, nothing: bool, offline: bool, as_json: bool
) -> None:
    """Set the handle by which a member may log in over SMTP.

    It is looked at again every 24 h.
    """
    if nothing == (handle is not None):
        raise click.UsageError("give either --handle NAME or --none")
    answer = _administer(directory, "member_set_handle", did=did, handle=handle or "", offline=offline)
    if answer["handle"] is None:
        sentence = f"{did} has no handle."
    elif answer["handleProved"]:
        sentence = f"{did} is {answer['handle']}."
    else:
        sentence = f"{did} is {answer['handle']}, which is still to be checked: a running relay does it."
    _say(answer, sentence, as_json)


@click.group("domain", help="Sending domains.")
def domain_group() -> None: ...


@domain_group.command("add")
@directory_argument
@did_option
@click.option("--domain", required=True, help="The sending domain to enrol.")
@json_option
def domain_add(directory: Path, did: str, domain: str, as_json: bool) -> None:
    """Enrol another sending domain for a member.

    Prints the DNS records that it needs.
    """
    answer = _administer(directory, "domain_add", did=did, domain=domain)
    if as_json:
        print_json(answer)
    else:
        print_records(answer)


@domain_group.command("pause")
@directory_argument
@owner_option
@click.option("--domain", required=True, help="The sending domain.")
@reason_option
@json_option
def domain_pause(directory: Path, did: str | None, domain: str, reason: str | None, as_json: bool) -> None:
    """Accept nothing from the domain, and hold what it has queued."""
    did = owner_of_domain(directory, did, domain)
    answer = _administer(directory, "domain_pause", did=did, domain=domain, reason=reason)
    _say(answer, f"{domain} is paused.", as_json)


@domain_group.command("resume")
@directory_argument
@owner_option
@click.option("--domain", help="The sending domain.")
@click.option("--all", "every", is_flag=True, help="Every paused domain; with --did, of that member.")
@reason_option
@json_option
def domain_resume(
    directory: Path, did: str | None, domain: str | None, every: bool, reason: str | None, as_json: bool
) -> None:
    """Let a paused domain, or all of them, send again.

    What was held goes on, and the rates are counted anew.
    """
    if every == (domain is not None):
        raise click.UsageError("give either --domain DOMAIN or --all")
    if domain is None:
        answer = _administer(directory, "domain_resume_all", did=did, reason=reason)
        names = [state["domain"] for state in answer["domains"]]
        _say(answer, "\n".join(f"{name} is active." for name in names) or "No domain is paused.", as_json)
    else:
        did = owner_of_domain(directory, did, domain)
        answer = _administer(directory, "domain_resume", did=did, domain=domain, reason=reason)
        _say(answer, f"{domain} is active.", as_json)


@domain_group.command("set-forward")
@directory_argument
@click.option("--domain", required=True, help="The sending domain.")
@click.option("--to", help="The mailbox that gets a notification of each bounce.")
@click.option("--none", "nobody", is_flag=True, help="Tell nobody any more; so does an empty --to.")
@click.option("--did", help="The member; refuse where the domain is another's.")
@json_option
def domain_set_forward(
    directory: Path, domain: str, to: str | None, nobody: bool, did: str | None, as_json: bool
) -> None:
    """Set who is told of a domain's bounces (RFC 3464).

    What the operator sets needs no confirmation by the mailbox's owner.
    """
    if nobody == (to is not None):
        raise click.UsageError("give either --to ADDRESS or --none")
    answer = _administer(directory, "domain_set_forward", domain=domain, to=to or "", did=did)
    told = answer["forwardTo"] or "nobody"
    _say(answer, f"{told} is told of the bounces of {answer['domain']}.", as_json)


@domain_group.command("verify")
@directory_argument
@owner_option
@click.option("--domain", required=True, help="The sending domain whose DNS records are to be checked.")
@json_option
@click.pass_context
def domain_verify(
    context: click.Context, directory: Path, did: str | None, domain: str, as_json: bool
) -> None:
    """Check a domain's DNS records, and say what to fix.

    Of each record it says what was expected and what was found.
    """
    did = owner_of_domain(directory, did, domain)
    answer = _administer(directory, "domain_verify", did=did, domain=domain)
    if as_json:
        print_json(answer)
    else:
        for check in answer["checks"]:
            _print_check(check)
        click.echo(f"{answer['domain']} is {'verified' if answer['verified'] else 'NOT verified'}.")
    if not answer["verified"]:
        context.exit(1)


def _print_check(check: dict[str, Any]) -> None:
    word = {True: "ok", False: "PROBLEM", None: "UNKNOWN"}[check["ok"]]
    click.echo(f"{verdict(word, 7)}  {check['type']} {check['name']}")
    if check["ok"] is not True:
        click.echo(f"         {check['purpose']}")
        click.echo(f"         expected  {check['expected']}")
        for found in check["found"] or ["nothing"]:
            click.echo(f"         found     {found}")
    if check["fix"] is not None:
        click.echo(f"         {'advice' if check['ok'] else 'fix   '}    {check['fix']}")


@domain_group.command("list")
@directory_argument
@wide_option
@json_option
def domain_list(directory: Path, as_json: bool) -> None:
    """List the sending domains."""
    rows = _administer(directory, "domain_list")
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            if row["forwardTo"] is not None and not row["forwardConfirmed"]:
                row["forwardTo"] += " (not confirmed)"
        columns = ("domain", "did", "status", "verified", "selector", "forwardTo")
        print_table(rows, columns, empty="There are no domains.")


member_group.add_command(removal.member_remove)
domain_group.add_command(removal.domain_remove)
domain_group.add_command(rotation.domain_rotate_key)


@click.group("key", help="API keys.")
def key_group() -> None: ...


@key_group.command("issue")
@directory_argument
@did_option
@click.option(
    "--scope",
    type=OneOf(["send", "full"]),
    help="send: to send and to read back. full: keys, domains, suppressions and forward-to, too. "
    "Without it: send with --category, else full.",
)
@click.option("--category", help="Of the sends by this key that name none; without it they are bulk.")
@json_option
def key_issue(directory: Path, did: str, scope: str | None, category: str | None, as_json: bool) -> None:
    """Issue another API key.

    The ones before it stay good until they are revoked.
    """
    answer = _administer(directory, "key_issue", did=did, scope=scope, category=category)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"Key {answer['keyId']} ({_use(answer)}), shown only now:  {answer['apiKey']}")


@key_group.command("list")
@directory_argument
@click.option("--did", help="Only this member's.")
@wide_option
@json_option
def key_list(directory: Path, did: str | None, as_json: bool) -> None:
    """List the API keys by their ids. The keys themselves are not kept anywhere."""
    rows = _administer(directory, "key_list", did=did)
    if as_json:
        print_json(rows)
    else:
        columns = ("did", "keyId", "status", "scope", "category", "issuedAt", "revokedAt")
        print_table(rows, columns, empty="There are no keys.")


@key_group.command("revoke")
@directory_argument
@owner_option
@click.option("--key-id", required=True, help="As `key list` shows it.")
@click.option(
    "--all-of-it",
    is_flag=True,
    help="Also the keys and webhooks that were made with it, and with those; even afterwards.",
)
@json_option
def key_revoke(directory: Path, did: str | None, key_id: str, all_of_it: bool, as_json: bool) -> None:
    """Revoke an API key, at once.

    Lists what was made with it.
    """
    did = owner_of_key(directory, did, key_id)
    answer = _administer(directory, "key_revoke", did=did, key_id=key_id, all_of_it=all_of_it)
    if as_json:
        print_json(answer)
        return
    click.echo(f"Key {key_id} is revoked.")
    for made in answer["made"]:
        fate = "revoked as well" if made["status"] == "revoked" else "still good"
        click.echo(f"It made key {made['keyId']} ({_use(made)}), which is {fate}.")
    for made in answer["webhooks"]:
        fate = "removed as well" if made["status"] == "removed" else "told of events still"
        click.echo(f"Webhook {made['webhookId']} was made with it, and is {fate}.")
    left = [
        made for made in answer["made"] + answer["webhooks"] if made["status"] not in ("revoked", "removed")
    ]
    if left:
        click.echo("The same command with --all-of-it revokes what it made.")


def _use(key: dict[str, Any]) -> str:
    """What a key is for."""
    return ", ".join(filter(None, (key["scope"], key["category"])))


@click.command("dns")
@directory_argument
@click.option("--domain", help="Only this sending domain's.")
@json_option
def dns_command(directory: Path, domain: str | None, as_json: bool) -> None:
    """Print the DNS records that are needed, ready to paste.

    Those of the operator and of every sending domain.
    """
    answer = _administer(directory, "dns", domain=domain)
    if as_json:
        print_json(answer)
        return
    if domain is None:
        print_records(answer["operator"])
    for enrolled in answer["domains"]:
        print_records(enrolled)
