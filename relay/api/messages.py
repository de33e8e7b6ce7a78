"""`GET /v1/messages` and `GET /v1/messages/{messageId}`: reading back (SPEC 1.3).

A member sees its own messages; anything else is as if it were not there. `?asOf=SEQ` answers as the relay would have
answered right after that event: folded from the message's own events, by the code that fills the view. (What retention
has removed since stays removed.)
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.api.answers import Answer
from relay.api.arguments import AFTER, before_of, limit_of, limit_parameter, number_in
from relay.api.credentials import reader_of
from relay.api.operations import MEMBERS_ERRORS, Described, Parameter, operation
from relay.api.pace import rows_of, shown
from relay.api.request import Request
from relay.edge import Edge
from relay.fields import address_in
from relay.presentation import MessageDetail, MessagePage, message_detail, message_summary
from relay.refusals import Refusal, invalid
from relay.views import messages
from spool.views import Snapshot


@operation(
    "GET",
    "/v1/messages/{messageId}",
    "getMessage",
    "One message with its timeline",
    parameters=(
        Parameter("messageId", {"type": "integer", "minimum": 1}, where="path"),
        Parameter(
            "asOf",
            {"type": "integer", "minimum": 1},
            "The message as it was right after the event with this sequence number.",
        ),
    ),
    answers={200: Described("The message", MessageDetail)},
    errors=(400, 401, 404, 500),
)
async def one_message(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    number = number_in(request.in_path["messageId"])
    with edge.store.read() as view:
        as_of = _as_of(request, view.position)
        state = None if number is None else messages.message(view, number)
        if state is None or state.did != member.did:
            raise Refusal("NOT_FOUND", "messageId: you have no message with this id")
        timeline = messages.timeline(view, state.message_id)
    if as_of is not None:
        if as_of < state.message_id:
            raise Refusal("NOT_FOUND", f"messageId: this message was queued after sequence {as_of}")
        timeline = [seq for seq in timeline if seq <= as_of]
        state = messages.state_after(map(edge.store.get, timeline))
    return Answer.of(message_detail(state, timeline, edge.store.get))


@operation(
    "GET",
    "/v1/messages",
    "listMessages",
    "The member's messages, newest first",
    parameters=(
        Parameter("status", {"type": "string", "enum": list(messages.STATUSES)}),
        Parameter("recipient", {"type": "string"}, "The bare address."),
        AFTER,
        limit_parameter(),
    ),
    answers={200: Described("A page of messages", MessagePage)},
    errors=MEMBERS_ERRORS,
)
async def list_messages(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    status = request.argument("status")
    if status is not None and status not in messages.STATUSES:
        raise invalid("status", f"expected one of {', '.join(messages.STATUSES)}")
    before, limit = before_of(request), limit_of(request)
    given = request.argument("recipient")
    recipient = None if given is None else address_in("recipient", given)

    def scan(view: Snapshot, before: int | None) -> Iterator[messages.MessageState]:
        return messages.messages_of(view, member.did, status=status, recipient=recipient, before=before)

    states = await rows_of(edge, member.did, scan, lambda state: state.message_id, before, limit + 1)
    page = states[:limit]
    following = str(page[-1].message_id) if len(states) > limit else None
    summaries = await shown(edge, member.did, page, lambda state: message_summary(state, edge.store.get))
    return Answer.of(MessagePage(summaries, following))


def _as_of(request: Request, last_seq: int) -> int | None:
    """The last event that the answer may know of; None: all there are."""
    given = request.argument("asOf")
    if given is None:
        return None
    as_of = number_in(given)
    if as_of is None or as_of > last_seq:
        raise invalid("asOf", "expected a sequence number that is in the log already")
    return as_of
