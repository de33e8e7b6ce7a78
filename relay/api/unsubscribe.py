"""`/u/<token>`: unsubscribing, by one click in a mail client or on a page (RFC 8058; SPEC 3.3).

Contract. Only a POST with the body of RFC 8058 and a token that this relay sealed suppresses anybody, and its 200 means
durable, like that of a send. A GET or HEAD changes nothing: link scanners follow every link in a mail. A repeat
changes nothing either. No session, no login, no expiry.

Every answer below `/u/` is a page for a person, errors too, and none redirects. No log line has the token, what is
in it, or a path. These are the pages that Quart serves.
"""

from __future__ import annotations

from io import BytesIO
from urllib.parse import parse_qs

import trio
from quart import Blueprint, Response, request
from werkzeug.formparser import FormDataParser

from relay.api.nodes import found
from relay.api.operations import Operation
from relay.api.page import TOKEN, form, page_answers
from relay.api.request import BODY_SECONDS_MAX, whole
from relay.api.unsubscribe_page import ONE_CLICK, question_page, unsubscribed_page
from relay.edge import Edge
from relay.principals import Stranger
from relay.refusals import Refusal, unavailable
from relay.unsubscribing import Click, Link, opened

PATH = "/u/"
#: `List-Unsubscribe=One-Click` in multipart takes 200 bytes; some clients add parts of their own.
BODY_BYTES_MAX = 8 * 1024
FORM_PARTS_MAX = 16
APPEND_SECONDS_MAX = 4.0

_ONE_CLICK = form(*ONE_CLICK)

OPERATIONS = (
    Operation(
        "GET",
        f"{PATH}{{token}}",
        "unsubscribePage",
        "A page with a button, for people who follow an unsubscribe link; changes nothing",
        parameters=(TOKEN,),
        answers=page_answers(200, 404, 500),
        for_members=False,
    ),
    Operation(
        "POST",
        f"{PATH}{{token}}",
        "unsubscribe",
        "One-click unsubscribe (RFC 8058)",
        parameters=(TOKEN,),
        body={"application/x-www-form-urlencoded": _ONE_CLICK, "multipart/form-data": _ONE_CLICK},
        answers=page_answers(200, 400, 404, 408, 413, 500, 503),
        for_members=False,
    ),
)


def is_below(path: str) -> bool:
    """Whether a path is one of those that people see."""
    return path.startswith(PATH)


def pages(edge: Edge) -> Blueprint:
    blueprint = Blueprint("unsubscribe", __name__)

    def link_of(token: str) -> Link:
        return opened(edge.unsubscribe_tokens, edge.store, token)

    @blueprint.get(f"{PATH}<token>")
    async def question(token: str) -> Response:
        return question_page((await found(edge, lambda: link_of(token))).sending_domain)

    @blueprint.post(f"{PATH}<token>")
    async def unsubscribe(token: str) -> Response:
        link = await found(edge, lambda: link_of(token))
        if not _is_one_click(await _body()):
            raise Refusal("INVALID_REQUEST", "the body is not List-Unsubscribe=One-Click")
        with trio.move_on_after(APPEND_SECONDS_MAX):
            await edge.decide("unsubscribe", Click(token=token), Stranger())
            return unsubscribed_page(link.sending_domain)
        raise unavailable()

    return blueprint


async def _body() -> bytes:
    with trio.move_on_after(BODY_SECONDS_MAX):
        return await whole(aiter(request.body), request.headers.get("Content-Length"), BODY_BYTES_MAX)
    raise Refusal("REQUEST_TIMEOUT", f"the request body did not arrive within {BODY_SECONDS_MAX:.0f} s")


def _is_one_click(body: bytes) -> bool:
    """Whether a body has the one field of RFC 8058. What else it has is not our business, and neither is what it calls
    itself: mail clients send the right body as text/plain, as octet-stream, or without a type, and with a line end."""
    if ONE_CLICK[1] in _urlencoded(body):
        return True
    if request.mimetype == "multipart/form-data":
        return ONE_CLICK[1] in _multipart(body, request.mimetype_params)
    # A form in parts under another name: its first line is its boundary (RFC 2046 5.1.1).
    first = body.partition(b"\n")[0].rstrip(b" \t\r").decode("latin-1")
    return first.startswith("--") and ONE_CLICK[1] in _multipart(body, {"boundary": first[2:]})


def _urlencoded(body: bytes) -> list[str]:
    try:
        fields = parse_qs(body.strip(b" \t\r\n").decode("latin-1"), max_num_fields=FORM_PARTS_MAX)
    except ValueError:  # too many
        return []
    return fields.get(ONE_CLICK[0], [])


def _multipart(body: bytes, parameters: dict[str, str]) -> list[str]:
    parser = FormDataParser(
        # A part that calls itself a file stays in memory, like all of a body this small.
        stream_factory=lambda *_, **__: BytesIO(),
        max_form_parts=FORM_PARTS_MAX,
    )
    _, form, _ = parser.parse(BytesIO(body), "multipart/form-data", len(body), parameters)
    return form.getlist(ONE_CLICK[0])
