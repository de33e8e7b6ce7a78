"""Which message `log audit` is to tell: the one that is named, or the newest to a recipient.

The recipient is looked up as `find` does it, in the views of the relay that runs or of the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from tools.output import counted, printable

#: So many others are named.
_OTHERS_MAX: Final = 20


class Named(NamedTuple):
    message_id: int
    #: None: it was named by its id.
    recipient: str | None = None
    #: Other messages that fit as well, the newest first; whether there are more.
    others: tuple[int, ...] = ()
    and_more: bool = False

    def for_programs(self) -> dict[str, Any]:
        return {} if self.recipient is None else {"others": list(self.others), "andMore": self.and_more}

    def for_people(self) -> Iterator[str]:
        if self.others:
            named = ", ".join(map(str, self.others))
            number = "more than " if self.and_more else ""
            yield (
                f"The newest to {printable(self.recipient or '')}; there are {number}"
                f"{counted(len(self.others), 'other')}: {named}"
            )
            yield ""


def recipient_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--since", metavar="WHEN", help="With --recipient: accepted since then, as with `find`."
        ),
        click.option("--recipient", metavar="ADDRESS", help="The newest message to this address."),
    ):
        command = option(command)
    return command


def which_message(directory: Path, message_id: int | None, recipient: str | None, since: str | None) -> Named:
    """Refuses, as a wrong use, what names none or both; and with a sentence where nothing fits."""
    if recipient is None:
        if since is not None:
            raise click.UsageError("--since goes with --recipient")
        if message_id is None:
            raise click.UsageError(
                "say which message: MESSAGE_ID, --message MESSAGE_ID, or --recipient ADDRESS"
            )
        return Named(message_id)
    if message_id is not None:
        raise click.UsageError("give either a message's id or --recipient")
    from relay.operator.client import administer

    wanted = {"recipient": recipient, "since": since, "limit": 1 + _OTHERS_MAX}
    answer: Any = administer(directory, "find", wanted)
    found = [message["messageId"] for message in answer["messages"]]
    if not found:
        when = "" if since is None else f" that was accepted since {since}"
        raise click.ClickException(
            f"there is no message to {recipient}{when} (or its personal data are removed)"
        )
    return Named(found[0], recipient, tuple(found[1:]), answer["next"] is not None)
