"""`GET /v1/events`: a member's events as JSON, for those without a websocket; and tickets for those who have one but
cannot set headers (SPEC 5).
"""

from __future__ import annotations

from functools import partial

import msgspec

from relay.api.answers import Answer
from relay.api.arguments import limit_of, limit_parameter
from relay.api.credentials import reader_of
from relay.api.operations import MEMBERS_ERRORS, Described, Parameter, operation
from relay.api.request import Request
from relay.api.stream import CURSOR, PAGE_EVENTS, PATH
from relay.edge import Edge
from relay.refusals import Refusal, invalid
from relay.stream_events import EventPage, StreamEvent
from relay.stream_pages import (
    FUTURE_CURSOR,
    OUTDATED_CURSOR,
    events_after,
    is_future,
    kept_from,
    parse_cursor,
)
from relay.times import rfc3339

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000


class Ticket(msgspec.Struct, rename="camel"):
    """Opens one stream: `/v1/stream?ticket=...`."""

    ticket: str
    expires_at: str


@operation(
    "GET",
    "/v1/events",
    "listEvents",
    "The member's events in the order of the log: those of the stream, a page at a time",
    parameters=(
        Parameter("cursor", CURSOR, "The `cursor` of the page before; else from the beginning."),
        limit_parameter(LIMIT_DEFAULT, LIMIT_MAX),
    ),
    answers={200: Described("A page of events; an empty one gives the cursor back", EventPage)},
    errors=MEMBERS_ERRORS,
)
async def list_events(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    asked = request.argument("cursor")
    cursor = 0 if asked is None else parse_cursor(asked)
    limit = limit_of(request, LIMIT_DEFAULT, LIMIT_MAX)
    if is_future(edge.store, cursor):
        raise invalid("cursor", FUTURE_CURSOR)
    oldest = kept_from(edge.store)
    page = EventPage([], cursor)
    if 0 < cursor < oldest:
        page.info, page.message = "OutdatedCursor", OUTDATED_CURSOR
    after = max(cursor, oldest)
    while len(page.events) < limit:
        wanted = min(PAGE_EVENTS, limit - len(page.events))
        read = partial(events_after, edge.store, member.did, after, limit=wanted)
        some = await edge.heavy_work.step(member.did, read)
        if not some:
            break
        page.events += some
        page.cursor = after = some[-1].seq
    return Answer.of(page)


@operation(
    "POST",
    f"{PATH}/ticket",
    "streamTicket",
    "A ticket for one stream, for those who cannot set headers",
    answers={200: Described("Good for 60 seconds, once", Ticket)},
    errors=(400, 401, 429, 500),
)
async def stream_ticket(edge: Edge, request: Request) -> Answer:
    member = await reader_of(edge, request)
    issued, expires_at = edge.streams.issue_ticket(member, edge.store.now_us())
    return Answer.of(Ticket(issued, rfc3339(expires_at)))


@operation(
    "GET",
    PATH,
    "stream",
    "The member's events on a websocket, as they happen",
    description="A text frame an event; `FutureCursor` and `OutdatedCursor` as in atproto.",
    parameters=(
        Parameter("cursor", CURSOR, "The `seq` of the last event seen; else from now."),
        Parameter("ticket", {"type": "string"}, "Instead of the headers, which browsers cannot set."),
    ),
    answers={101: Described("A websocket; each of its text frames is", StreamEvent)},
    errors=(400, 401, 429, 500, 503),
)
async def no_websocket(edge: Edge, request: Request) -> Answer:
    """Whoever asks for a websocket gets to `relay.api.stream`."""
    await reader_of(edge, request)
    raise Refusal(
        "INVALID_REQUEST", "this is a websocket: ask for an upgrade; without one there is /v1/events"
    )
