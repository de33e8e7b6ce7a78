"""What a mail that the operator pastes says of a message of this relay, and what would follow if it were recorded.

The command line reads the mail, in its own process, and an order has what was read: the operator's machine reads what
the operator has seen, and a running relay is given a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from relay.data_directory import Readable
from relay.events import (
    DsnQueued,
    Event,
    MessageBounceReported,
    MessageComplained,
    RecipientSuppressed,
)
from relay.mail_reading import Reading
from relay.operator.protocol import CommandAnswer
from relay.operator.queue_selection import message_id_in
from relay.principals import Operator
from relay.refusals import Refusal, invalid
from relay.registry import Arguments, decision
from relay.views import messages
from spool.views import Snapshot

if TYPE_CHECKING:
    from relay.decisions.reports import Came

#: Drawn where nothing is recorded.
_NO_ENTROPY = "0" * 16


class BouncePaste(Arguments, frozen=True, kw_only=True):
    #: As `relay.mail_reading.Reading` has it.
    reading: dict[str, Any]
    #: Hex, of the mail.
    sha256: str
    size: int
    #: None: the one that its token names.
    message: int | None = None


@decision(by=Operator, reads=True)
async def bounce_paste(core: Readable, asked: BouncePaste, by: Operator) -> CommandAnswer:
    """`messageId` is null where no token of this relay is in it and no message is named."""
    from relay.decisions.reports import Came

    reading = reading_in(asked.reading)
    message_id = asked.message or message_of(core, reading)
    if message_id is None:
        return {"messageId": None}
    with core.store.read() as view:
        came = Came(asked.sha256, asked.size, b"", by=by.user)
        events = what_follows(core, view, message_id, reading, came, entropy=_NO_ENTROPY)
        return answer(core, view, message_id, events)


def reading_in(value: dict[str, Any]) -> Reading:
    """Raises Refusal(INVALID_REQUEST)."""
    try:
        return msgspec.convert(value, Reading)
    except msgspec.ValidationError as error:
        raise invalid("reading", str(error)) from error


def message_of(core: Readable, reading: Reading) -> int | None:
    """The message whose token is in the mail: the first of those that this relay has made."""
    for token in reading.tokens:
        message_id = core.message_tokens.parse_token(token)
        if message_id is not None:
            return message_id
    return None


def what_follows(
    core: Readable, view: Snapshot, message_id: int, reading: Reading, came: Came, *, entropy: str
) -> list[Event]:
    """What is recorded of it by hand. [] for a repeat. Raises Refusal(NOT_FOUND)."""
    from relay.decisions.reports import bounce_report, complaint_report
    from relay.message.dsn import has_null_sender

    state = messages.message(view, message_id_in(message_id))
    if state is None:
        raise Refusal("NOT_FOUND", f"message: there is no message {message_id}")
    story = [core.store.get(seq) for seq in messages.timeline(view, message_id)]
    if reading.verdict == "complaint":
        return complaint_report(view, message_id, story, reading, came, provider=None)
    return bounce_report(
        view,
        message_id,
        story,
        reading,
        came,
        mail_from_null=has_null_sender(view, message_id, core.store.get),
        config=core.config,
        operator_stem=core.operator_stem,
        message_id_entropy=entropy,
        now_us=core.store.now_us(),
    )


def answer(core: Readable, view: Snapshot, message_id: int, events: Sequence[Event]) -> dict[str, Any]:
    """Which message, and what these events make of it."""
    state = messages.message(view, message_id)
    assert state is not None
    recipient = getattr(core.store.get(message_id).event, "personal", None)
    return {
        "messageId": message_id,
        "did": state.did,
        "domain": state.domain,
        "recipient": None if recipient is None else recipient.address,
        "status": state.status,
        "recorded": [event.TYPE for event in events],
        "counts": any(_counts(event) for event in events),
        "suppressed": next(
            (event.reason for event in events if isinstance(event, RecipientSuppressed)), None
        ),
        "notified": any(isinstance(event, DsnQueued) for event in events),
    }


def _counts(event: Event) -> bool:
    if isinstance(event, MessageComplained):
        return event.authenticated
    return isinstance(event, MessageBounceReported) and event.counts
