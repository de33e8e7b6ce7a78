"""How commands are told which message, domain or key is meant: said once, and the same everywhere.

A message may be named by its id alone or by `--message`: `log audit DIR 14` and `log audit DIR --message 14` are one.
A domain and a key have one owner, so `--did` may be left out where it can be found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

MESSAGE_ID = click.IntRange(1, 2**53 - 1)

Command = Callable[..., None]

owner_option = click.option("--did", help="The member; refuse where it is another's.")


def one_message(*, required: bool = True, about: str = "The message.") -> Callable[[Command], Command]:
    """The command gets it as `message_id`; None where none is named and none has to be."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_message(
            *arguments: Any, message_given: int | None, message_id: int | None, **rest: Any
        ) -> None:
            if message_given is not None and message_id not in (None, message_given):
                raise click.UsageError(f"MESSAGE_ID is {message_given}, and --message is {message_id}")
            named = message_given if message_id is None else message_id
            if named is None and required:
                raise click.UsageError("say which message: MESSAGE_ID, or --message MESSAGE_ID")
            command(*arguments, message_id=named, **rest)

        click.option("--message", "message_id", type=MESSAGE_ID, metavar="MESSAGE_ID", help=about)(
            with_message
        )
        click.argument("message_given", metavar="[MESSAGE_ID]", type=MESSAGE_ID, required=False)(with_message)
        return with_message

    return decorate


def messages(*, about: str) -> Callable[[Command], Command]:
    """As `one_message`, of any number; the command gets them as `message_ids`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_messages(
            *arguments: Any, messages_given: tuple[int, ...], message_ids: tuple[int, ...], **rest: Any
        ) -> None:
            command(*arguments, message_ids=tuple(dict.fromkeys((*messages_given, *message_ids))), **rest)

        click.option(
            "--message", "message_ids", type=MESSAGE_ID, metavar="MESSAGE_ID", multiple=True, help=about
        )(with_messages)
        click.argument("messages_given", metavar="[MESSAGE_ID]...", type=MESSAGE_ID, nargs=-1)(with_messages)
        return with_messages

    return decorate


def owner_of_domain(directory: Path, did: str | None, domain: str) -> str:
    """Whose domain it is: `did` where that was said. Refuses where it is nobody's, or several have it."""
    from relay.addresses import AddressError, parse_domain

    try:
        name = parse_domain(domain)
    except AddressError:
        name = domain  # the order says what is wrong with it
    return did or _owner(directory, "domain_list", "domain", name, f"{domain} is not enrolled")


def owner_of_key(directory: Path, did: str | None, key_id: str) -> str:
    """As `owner_of_domain`."""
    return did or _owner(directory, "key_list", "keyId", key_id, f"there is no key {key_id}")


def _owner(directory: Path, command: str, field: str, value: str, unknown: str) -> str:
    from relay.operator.client import administer

    rows: Any = administer(directory, command, {})
    owners = sorted({row["did"] for row in rows if row[field] == value})
    if not owners:
        raise click.ClickException(unknown)
    if len(owners) > 1:
        raise click.UsageError(f"{value} is of several members; say --did: {', '.join(owners)}")
    return str(owners[0])
