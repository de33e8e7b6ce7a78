"""`/v1/suppressions`: a member's suppression list, to read, to add to and to take from (SPEC 1.3, 3.4 and 12).

Several reasons can hold at once. The list has one entry an address, the one that was suppressed last first; its
`reason`, `since` and `seq` are those of the first reason, which also orders the pages, and `reasons` has them all.

An address stands in the path percent-encoded, as in `/v1/suppressions/jo%2Bnews%40example.com`.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Annotated

import msgspec
from quart import Blueprint, Response, request
from quart.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from relay.addresses import FORBIDDEN, AddressError, parse_address
from relay.api.answers import json_answer
from relay.api.authentication import authenticate
from relay.api.bodies import read_json
from relay.api.messages import LIMIT_DEFAULT, LIMIT_MAX, page_limit
from relay.core import Core
from relay.decisions.suppression import suppress, unsuppress
from relay.presentation import SuppressionPage, suppressed_address
from relay.refusals import invalid
from relay.views.suppressions import suppression, suppressions_of

BODY_BYTES_MAX = 16 * 1024
NOTE_CHARACTERS_MAX = 256


class SuppressionBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/suppressions`. `null` in an optional field is the same as leaving it out."""

    recipient: Annotated[
        str, msgspec.Meta(description="The bare address.", examples=["recipient@example.com"])
    ]
    reason: Annotated[
        str | None,
        msgspec.Meta(
            description=f"A free note, at most {NOTE_CHARACTERS_MAX} characters, kept beside the reason `manual`."
        ),
    ] = None


_decode_body = msgspec.json.Decoder(SuppressionBody).decode


class _AnyPath(BaseConverter):
    """The rest of the path, whatever it is: an address may have slashes, and may begin with one."""

    regex = ".+"
    part_isolating = False


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("suppressions", __name__)

    @blueprint.record
    def add_converter(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["any_path"] = _AnyPath

    @blueprint.get("/v1/suppressions")
    async def listing() -> Response:
        principal = authenticate(core, suspended_may=True)
        limit, before = page_limit(LIMIT_DEFAULT, LIMIT_MAX), _before()
        with core.store.read() as view:
            states = list(islice(suppressions_of(view, principal.did, before=before), limit + 1))
        page = states[:limit]
        following = str(page[-1].seq) if len(states) > limit else None
        return json_answer(SuppressionPage([suppressed_address(state) for state in page], following))

    @blueprint.post("/v1/suppressions")
    async def add() -> Response:
        principal = authenticate(core)
        address, note = _checked(await read_json(_decode_body, BODY_BYTES_MAX))
        recorded = await core.store.decide(
            lambda view: suppress(view, principal.did, address, "manual", note=note), patient=False
        )
        with core.store.read() as view:
            state = suppression(view, principal.did, address)
        assert state is not None
        return json_answer(suppressed_address(state), 201 if recorded else 200)

    @blueprint.delete("/v1/suppressions/<any_path:recipient>")
    async def remove(recipient: str) -> Response:
        principal = authenticate(core)
        address = _address(recipient)
        await core.store.decide(lambda view: unsuppress(view, principal.did, address), patient=False)
        answer = Response(b"", 204)
        # A 204 has no content to be of a type or length (RFC 9110 8.6).
        del answer.headers["Content-Type"], answer.headers["Content-Length"]
        return answer

    return blueprint


def _checked(fields: SuppressionBody) -> tuple[str, str | None]:
    """Address and note. Raises Refusal(INVALID_REQUEST)."""
    note = fields.reason or None
    if note is not None and len(note) > NOTE_CHARACTERS_MAX:
        raise invalid("reason", f"is longer than {NOTE_CHARACTERS_MAX} characters")
    if note is not None and FORBIDDEN.search(note):
        raise invalid("reason", "contains a control character; remove it")
    return _address(fields.recipient), note


def _address(given: str) -> str:
    try:
        return parse_address(given)
    except AddressError as error:
        raise invalid("recipient", str(error)) from error


def _before() -> int | None:
    after = request.args.get("after")
    if after is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,15}", after):
        raise invalid("after", "expected the `next` of the page before")
    return int(after)
