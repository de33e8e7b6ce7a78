"""`GET /v1/messages` and `GET /v1/messages/{messageId}`: reading back (SPEC 1.3).

A member sees its own messages; anything else is as if it were not there. `?asOf=` answers as the relay would have
answered right after that event, or at that time: folded from the message's own events, by the code that fills the view.
(What retention has removed since stays removed.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay.api.answers import Answer
from relay.api.arguments import AFTER, before_of, limit_of, limit_parameter, number_in
from relay.api.credentials import reader_of
from relay.api.operations import MEMBERS_ERRORS, Described, Parameter, operation
from relay.api.pace import rows_of, shown
from relay.api.request import Request
from relay.codec import Recorded
from relay.data_directory import LogToRead
from relay.edge import Edge
from relay.fields import address_in
from relay.presentation import MessageDetail, MessagePage, message_detail, message_summary
from relay.refusals import Refusal, invalid
from relay.requests import tag_in
from relay.times import rfc3339, time_in
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
            {"type": "string", "examples": ["448", "2025-01-07T10:11:12Z"]},
            "The message as it was right after the event with this sequence number, or at this time (RFC 3339).",
        ),
    ),
    answers={200: Described("The message", MessageDetail)},
    errors=(400, 401, 404, 500),
)
async def one_message(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    number = number_in(request.in_path["messageId"])
    return Answer.of(detail_of(edge.store, member.did, number, request.argument("asOf")))


def detail_of(store: LogToRead, did: str, number: int | None, given: str | None) -> MessageDetail:
    """A member's message with this id, as it is, or as it was at what `?asOf=` names. Raises Refusal."""
    with store.read() as view:
        as_of = _as_of(given, view.position, store.now_us())
        state = None if number is None else messages.message(view, number)
        if state is None or state.did != did:
            raise Refusal("NOT_FOUND", "messageId: you have no message with this id")
        timeline = messages.timeline(view, state.message_id)
    if as_of is not None:
        timeline = [seq for seq in timeline if as_of.includes(store.get(seq))]
        if not timeline:
            raise Refusal("NOT_FOUND", f"messageId: this message was queued after {as_of.text}")
        state = messages.state_after(map(store.get, timeline))
    return message_detail(state, timeline, store.get)


@operation(
    "GET",
    "/v1/messages",
    "listMessages",
    "The member's messages, newest first",
    parameters=(
        Parameter("status", {"type": "string", "enum": list(messages.STATUSES)}),
        Parameter("recipient", {"type": "string"}, "The bare address."),
        Parameter("tag", {"type": "string"}, "Not together with `recipient`."),
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
    if given is not None and " " in given:
        raise invalid("recipient", "a + in a query string is a space; write %2B for it")
    recipient = None if given is None else address_in("recipient", given)
    tag = request.argument("tag")
    if tag is not None:
        tag_in(tag)
        if recipient is not None:
            raise invalid("tag", "cannot be asked for together with `recipient`; ask for one of them")

    def scan(view: Snapshot, before: int | None) -> Iterator[messages.MessageState]:
        return messages.messages_of(
            view, member.did, status=status, recipient=recipient, tag=tag, before=before
        )

    states = await rows_of(edge, member.did, scan, lambda state: state.message_id, before, limit + 1)
    page = states[:limit]
    following = str(page[-1].message_id) if len(states) > limit else None
    summaries = await shown(edge, member.did, page, lambda state: message_summary(state, edge.store.get))
    return Answer.of(MessagePage(summaries, following))


class _AsOf(NamedTuple):
    """The moment until which the answer may know."""

    text: str
    seq: int | None = None
    time_us: int | None = None

    def includes(self, recorded: Recorded) -> bool:
        if self.seq is not None:
            return recorded.seq <= self.seq
        return self.time_us is None or recorded.time_us <= self.time_us


def _as_of(given: str | None, last_seq: int, now_us: int) -> _AsOf | None:
    """None: all there is."""
    if given is None:
        return None
    seq, time_us = number_in(given), time_in(given)
    if seq is not None and seq <= last_seq:
        return _AsOf(f"sequence {seq}", seq=seq)
    if seq is None and time_us is not None and time_us <= now_us:
        return _AsOf(rfc3339(time_us), time_us=time_us)
    if " " in given:
        raise invalid("asOf", "a + in a query string is a space; write %2B for it, or the time with Z")
    raise invalid(
        "asOf",
        "expected a sequence number that is in the log already, or a time that is not to come, like "
        "2025-01-07T10:11:12Z",
    )
