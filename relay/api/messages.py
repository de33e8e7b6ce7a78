"""`GET /v1/messages` and `GET /v1/messages/{messageId}`: reading back (SPEC 1.3).

A member sees its own messages; anything else is as if it were not there. `?asOf=SEQ` answers as the relay would have
answered right after that event: folded from the message's own events, by the code that fills the view. (What retention
has removed since stays removed.)
"""

from __future__ import annotations

import re
from itertools import islice

from quart import Blueprint, Response, request

from relay.addresses import AddressError, parse_address
from relay.api.answers import json_answer
from relay.api.authentication import authenticate
from relay.core import Core
from relay.presentation import MessagePage, message_detail, message_summary
from relay.refusals import Refusal, invalid
from relay.views import messages

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
MESSAGE_ID_MAX = 2**53 - 1


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("messages", __name__)

    @blueprint.get("/v1/messages/<message_id>")
    async def one(message_id: str) -> Response:
        principal = authenticate(core, suspended_may=True)
        number = _number(message_id)
        with core.store.read() as view:
            as_of = _as_of(view.position)
            state = None if number is None else messages.message(view, number)
            if state is None or state.did != principal.did:
                raise Refusal("NOT_FOUND", "messageId: you have no message with this id")
            timeline = messages.timeline(view, state.message_id)
        if as_of is not None:
            if as_of < state.message_id:
                raise Refusal("NOT_FOUND", f"messageId: this message was queued after sequence {as_of}")
            timeline = [seq for seq in timeline if seq <= as_of]
            state = messages.state_after(map(core.store.get, timeline))
        return json_answer(message_detail(state, timeline, core.store.get))

    @blueprint.get("/v1/messages")
    async def listing() -> Response:
        principal = authenticate(core, suspended_may=True)
        status = request.args.get("status")
        if status is not None and status not in messages.STATUSES:
            raise invalid("status", f"expected one of {', '.join(messages.STATUSES)}")
        before = None
        after = request.args.get("after")
        if after is not None:
            before = _number(after)
            if before is None:
                raise invalid("after", "expected the `next` of the page before")
        limit = page_limit(LIMIT_DEFAULT, LIMIT_MAX)
        recipient = _recipient()
        with core.store.read() as view:
            found = messages.messages_of(
                view, principal.did, status=status, recipient=recipient, before=before
            )
            states = list(islice(found, limit + 1))
        page = states[:limit]
        following = str(page[-1].message_id) if len(states) > limit else None
        return json_answer(MessagePage([message_summary(state, core.store.get) for state in page], following))

    return blueprint


def page_limit(default: int, most: int) -> int:
    given = request.args.get("limit")
    if given is None:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", given) or not 1 <= int(given) <= most:
        raise invalid("limit", f"expected a number from 1 to {most}")
    return int(given)


def _as_of(last_seq: int) -> int | None:
    """The last event that the answer may know of; None: all there are."""
    given = request.args.get("asOf")
    if given is None:
        return None
    as_of = _number(given)
    if as_of is None or as_of > last_seq:
        raise invalid("asOf", "expected a sequence number that is in the log already")
    return as_of


def _number(text: str) -> int | None:
    if not re.fullmatch(r"[1-9][0-9]{0,15}", text) or int(text) > MESSAGE_ID_MAX:
        return None
    return int(text)


def _recipient() -> str | None:
    given = request.args.get("recipient")
    if given is None:
        return None
    try:
        return parse_address(given)
    except AddressError as error:
        raise invalid("recipient", str(error)) from error
