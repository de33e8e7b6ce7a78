"""The operator's commands that record what came back about a message: a bounce that came later, a complaint."""

from __future__ import annotations

import base64
import binascii
import re

from relay.core import Core
from relay.decisions import suppression
from relay.decisions.reports import Came
from relay.events import Event
from relay.mail_reading import RAW_OCTETS_MAX, SAYS_NOTHING
from relay.operator.protocol import CommandAnswer
from relay.operator.reports_shown import BouncePaste, answer, message_of, reading_in, what_follows
from relay.principals import Operator
from relay.refusals import Refusal, invalid
from relay.registry import Arguments, decision
from relay.views import messages
from spool.views import Snapshot

#: What says nothing of any message's fate; what came by mail and has a token is recorded whatever it is.
_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch


class BounceRecord(BouncePaste, frozen=True, kw_only=True):
    #: The first RAW_OCTETS_MAX of the mail, in base64.
    raw: str = ""
    reason: str | None = None


@decision(by=Operator)
async def bounce_record(core: Core, order: BounceRecord, by: Operator) -> CommandAnswer:
    """What it makes true is as if it had come by mail, but that the operator's word authenticates a complaint.

    `recorded` is empty where that mail was recorded about that message before.
    """
    reading = reading_in(order.reading)
    if reading.kind in SAYS_NOTHING:
        raise invalid("reading", "this mail does not say what became of a message")
    message_id = order.message or message_of(core, reading)
    if message_id is None:
        raise Refusal(
            "NOT_FOUND",
            "message: no token of this relay's is in this mail; say which message it is about with --message",
        )
    came = Came(_sha256_in(order.sha256), order.size, _raw_in(order.raw), by=by.user, why=order.reason)
    entropy = f"{core.surroundings.dice.getrandbits(64):016x}"

    def decide(view: Snapshot) -> list[Event]:
        return what_follows(core, view, message_id, reading, came, entropy=entropy)

    recorded = await core.store.decide(decide)
    with core.store.read() as view:
        return answer(core, view, message_id, [item.event for item in recorded])


def _sha256_in(text: str) -> str:
    if _is_sha256(text) is None:
        raise invalid("sha256", "expected 64 hexadecimal digits")
    return text


def _raw_in(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("raw", "expected base64") from error
    return raw[:RAW_OCTETS_MAX]


class ComplaintRecord(Arguments, frozen=True, kw_only=True):
    message: int


@decision(by=Operator)
async def complaint_record(core: Core, order: ComplaintRecord, by: Operator) -> CommandAnswer:
    message = order.message

    def decide(view: Snapshot) -> list[Event]:
        story = [core.store.get(seq) for seq in messages.timeline(view, message)]
        return suppression.complaint(view, message, story)

    recorded = await core.store.decide(decide)
    with core.store.read() as view:
        state = messages.message(view, message)
    assert state is not None
    return {
        "messageId": message,
        "did": state.did,
        "domain": state.domain,
        "recorded": [item.event.TYPE for item in recorded],
    }
