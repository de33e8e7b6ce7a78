"""`GET /v1/events`: a member's events as JSON, for those without a websocket; and tickets for those who have one but
cannot set headers (SPEC 5).
"""

from __future__ import annotations

import msgspec
import trio
from quart import Blueprint, Response, request

from relay.api.answers import json_answer
from relay.api.authentication import authenticate
from relay.api.messages import page_limit
from relay.api.stream import PAGE_EVENTS, PATH
from relay.core import Core
from relay.refusals import Refusal, invalid
from relay.stream_events import EventPage
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


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("events", __name__)

    @blueprint.get("/v1/events")
    async def events() -> Response:
        principal = authenticate(core, suspended_may=True)
        cursor = parse_cursor(request.args.get("cursor", "0"))
        limit = page_limit(LIMIT_DEFAULT, LIMIT_MAX)
        if is_future(core.store, cursor):
            raise invalid("cursor", FUTURE_CURSOR)
        oldest = kept_from(core.store)
        page = EventPage([], cursor)
        if 0 < cursor < oldest:
            page.info, page.message = "OutdatedCursor", OUTDATED_CURSOR
        after = max(cursor, oldest)
        while len(page.events) < limit:
            some = events_after(
                core.store, principal.did, after, limit=min(PAGE_EVENTS, limit - len(page.events))
            )
            if not some:
                break
            page.events += some
            page.cursor = after = some[-1].seq
            await trio.lowlevel.checkpoint()  # a long page is no reason for others to wait
        return json_answer(page)

    @blueprint.post(f"{PATH}/ticket")
    async def ticket() -> Response:
        principal = authenticate(core, suspended_may=True)
        issued, expires_at = core.streams.issue_ticket(principal, core.store.now_us())
        return json_answer(Ticket(issued, rfc3339(expires_at)))

    @blueprint.get(PATH)
    async def no_websocket() -> Response:
        """Whoever asks for a websocket gets to `relay.api.stream`."""
        authenticate(core, suspended_may=True)
        raise Refusal(
            "INVALID_REQUEST", "this is a websocket: ask for an upgrade; without one there is /v1/events"
        )

    return blueprint
