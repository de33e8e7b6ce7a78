"""`PATCH /v1/messages/{messageId}` and `POST /v1/messages/{messageId}/cancel`: what waits, moved or cancelled.

Both only until the first attempt; from then on somebody may have it, and the answer is 409 NOT_CANCELLABLE.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from relay.api.answers import Answer
from relay.api.arguments import number_in
from relay.api.credentials import writer_of
from relay.api.operations import Described, Parameter, operation
from relay.api.request import Request
from relay.edge import Edge
from relay.fields import moment_in
from relay.json_body import JsonBody
from relay.own_messages import Ordered, OwnMessages, RescheduleMessages
from relay.presentation import MessageSummary
from relay.refusals import Refusal

BODY_BYTES_MAX = 16 * 1024


class RescheduleBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `PATCH /v1/messages/{messageId}`."""

    scheduled_at: Annotated[
        str,
        msgspec.Meta(
            description="RFC 3339 with its zone, at most 30 days ahead. Up to 60 seconds past, it means now.",
            examples=["2026-12-24T18:00:00+01:00"],
        ),
    ] = msgspec.field(name="scheduledAt")


_BODY = JsonBody(RescheduleBody, {"scheduled_at": "there is no such field; write `scheduledAt`"})
_MESSAGE_ID = Parameter("messageId", {"type": "integer", "minimum": 1}, where="path")


@operation(
    "PATCH",
    "/v1/messages/{messageId}",
    "rescheduleMessage",
    "Give a scheduled message another time, until its first attempt",
    parameters=(_MESSAGE_ID,),
    body=RescheduleBody,
    answers={200: Described("It has this time: durable on the relay's disk", MessageSummary)},
    errors=(400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503),
)
async def reschedule(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    message_id = _message_id(request)
    fields = _BODY.decode(await request.json(BODY_BYTES_MAX))
    scheduled_at = moment_in("scheduledAt", fields.scheduled_at)
    wanted = RescheduleMessages(message_id=message_id, scheduled_at=scheduled_at)
    return _answer(await edge.decide("reschedule_messages", wanted, member))


@operation(
    "POST",
    "/v1/messages/{messageId}/cancel",
    "cancelMessage",
    "Cancel a message that waits for its first attempt, scheduled or not",
    description="It becomes `bounced`, reason `cancelled`, and counts in no rate. Cancelled twice is cancelled.",
    parameters=(_MESSAGE_ID,),
    answers={200: Described("It will not be sent: durable on the relay's disk", MessageSummary)},
    errors=(400, 401, 403, 404, 409, 429, 500, 503),
)
async def cancel(edge: Edge, request: Request) -> Answer:
    member = writer_of(edge, request)
    message_id = _message_id(request)
    return _answer(await edge.decide("cancel_messages", OwnMessages(message_id=message_id), member))


def _message_id(request: Request) -> int:
    number = number_in(request.in_path["messageId"])
    if number is None:
        raise Refusal("NOT_FOUND", "messageId: you have no message with this id")
    return number


def _answer(ordered: Ordered) -> Answer:
    """By what was decided: this node's own views may be behind that."""
    assert ordered.message is not None
    return Answer.of(ordered.message)
