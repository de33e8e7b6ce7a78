"""`POST /v1/send`: from bytes to a 200 that means durable (SPEC 1.1 and 1.2).

The order of checks is SPEC's: who asks, then the body while it is read, then its fields, then what the member may do.
An answer never takes longer than 8 s: reading the body and reaching the disk have a limit each.
"""

from __future__ import annotations

import trio
from quart import Blueprint, Response, request

from relay.api.answers import json_answer
from relay.api.authentication import authenticate
from relay.core import Core, unavailable
from relay.decisions import Origin, accept_send
from relay.events import MessageQueued
from relay.presentation import Accepted, SendAnswer
from relay.refusals import Refusal
from relay.requests import parse_send

BODY_SECONDS_MAX = 4.0
#: Waiting for the log's writer; once it has the send, the log says itself when the disk does not answer.
APPEND_SECONDS_MAX = 1.5


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("send", __name__)

    @blueprint.post("/v1/send")
    async def send() -> Response:
        principal = authenticate(core)
        parsed = parse_send(await _read_body())
        origin = Origin(
            client_address=request.remote_addr,
            message_id_entropy=f"{core.surroundings.dice.getrandbits(64):016x}",
            operator_stem=core.operator_stem,
        )
        with core.store.read() as view:
            events = accept_send(view, core.config, principal, parsed, origin, core.store.now_us())
        core.check_accepting()
        with trio.move_on_after(APPEND_SECONDS_MAX):
            recorded = await core.store.append(events, patient=False)
            accepted = [
                Accepted(event.personal.given, seq)
                for seq, _, event in recorded
                if isinstance(event, MessageQueued) and event.personal is not None
            ]
            return json_answer(SendAnswer(accepted, []))
        raise unavailable()

    return blueprint


async def _read_body() -> bytes:
    content_type = request.mimetype
    if content_type and content_type != "application/json":
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", "Content-Type: send application/json")
    with trio.move_on_after(BODY_SECONDS_MAX):
        body: bytes = await request.get_data(cache=False, as_text=False, parse_form_data=False)
        return body
    raise Refusal("REQUEST_TIMEOUT", f"the request body did not arrive within {BODY_SECONDS_MAX:.0f} s")
