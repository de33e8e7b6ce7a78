"""`/confirm/<token>`: the owner of a mailbox confirms that a domain's notifications may go there (SPEC 4).

Contract. Only a POST with what the button sends and a token that this relay sealed confirms, and its 200 means durable,
like that of a send. A GET or HEAD changes nothing: link scanners follow every link in a mail. A repeat changes nothing
either. A link is good until the domain wants another mailbox. No session, no login.

Every answer below `/confirm/` is a page for a person, errors too, and none redirects. The page names the domain, which
the mail does not, and never the address. No log line has the token, what is in it, or a path.
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

import trio
from quart import Blueprint, Response, request

from relay.api.nodes import found
from relay.api.operations import Operation
from relay.api.page import TOKEN, form, page, page_answers
from relay.api.request import BODY_SECONDS_MAX, whole
from relay.decisions.forwarding import to_confirm
from relay.edge import Edge
from relay.forward_confirmations import ConfirmForward
from relay.principals import Stranger
from relay.refusals import Refusal, unavailable

PATH = "/confirm/"
BODY_BYTES_MAX = 8 * 1024
APPEND_SECONDS_MAX = 4.0
#: What the button sends.
_BUTTON = ("confirm", "yes")

_BODY = form(*_BUTTON)

OPERATIONS = (
    Operation(
        "GET",
        f"{PATH}{{token}}",
        "confirmationPage",
        "A page with a button, for the owner of a mailbox who follows the link in a mail that asks; changes nothing",
        parameters=(TOKEN,),
        answers=page_answers(200, 404, 500),
        for_members=False,
    ),
    Operation(
        "POST",
        f"{PATH}{{token}}",
        "confirm",
        "Confirm that a domain's notifications of bounces may go to a mailbox",
        parameters=(TOKEN,),
        body={"application/x-www-form-urlencoded": _BODY},
        answers=page_answers(200, 400, 404, 408, 413, 500, 503),
        for_members=False,
    ),
)

_SENTENCE_OF_STATUS = {
    400: "This request is not one that a confirmation link answers to. Open the link itself and use its button.",
    404: "This link is not valid, or not any more. It may have been cut short on its way: please open it from the mail "
    "itself.",
    405: "A confirmation link cannot be used this way. Open the link itself and use its button.",
    408: "The request did not arrive in time. Please try again.",
    413: "This request is larger than any that a confirmation link answers to.",
    429: "Too many requests come from your network just now. Please try again in a moment.",
    503: "This could not be confirmed just now. Please try again in a few minutes.",
}
_SENTENCE_OF_DEFECT = "Something went wrong on our side, and nothing was confirmed. Please try again later."


def is_below(path: str) -> bool:
    """Whether a path is one of those that people see."""
    return path.startswith(PATH)


def pages(edge: Edge) -> Blueprint:
    blueprint = Blueprint("confirm", __name__)

    @blueprint.get(f"{PATH}<token>")
    async def question(token: str) -> Response:
        return _question_page(await found(edge, lambda: _domain_of(edge, token)))

    @blueprint.post(f"{PATH}<token>")
    async def confirm(token: str) -> Response:
        domain = await found(edge, lambda: _domain_of(edge, token))
        if not _is_confirmed(await _body()):
            raise Refusal("INVALID_REQUEST", "the body is not what the button sends")
        with trio.move_on_after(APPEND_SECONDS_MAX):
            await edge.decide("confirm_forward", ConfirmForward(token=token), Stranger())
            return _confirmed_page(domain)
        raise unavailable()

    return blueprint


def error_page(status: int, request_id: str | None = None) -> Response:
    """What went wrong, for a person; `request_id` is what the relay's log has a defect under."""
    sentence = escape(_SENTENCE_OF_STATUS.get(status, _SENTENCE_OF_DEFECT))
    if request_id is not None:
        sentence += f" (Request {escape(request_id)})"
    return page("This did not work", f'<p role="alert">{sentence}</p>', status)


def _domain_of(edge: Edge, token: str) -> str:
    """Raises Refusal(NOT_FOUND)."""
    link = edge.confirmation_tokens.open(token)
    if link is None:
        raise Refusal("NOT_FOUND", "this is no link of this relay")
    with edge.store.read() as view:
        return to_confirm(view, link)[0].domain


def _question_page(domain: str) -> Response:
    name, value = _BUTTON
    return page(
        "Notices of undeliverable mail",
        f"<p>Shall notices of undeliverable mail of <strong>{escape(domain)}</strong> go to the mailbox in which you "
        "found this link?</p>\n"
        f'<form method="post"><button type="submit" name="{name}" value="{value}">Confirm</button></form>\n'
        '<p class="quiet">If you do not know that name, close this page: then no notices are sent to you.</p>',
        200,
    )


def _confirmed_page(domain: str) -> Response:
    return page(
        "Confirmed",
        f'<p role="status">Notices of undeliverable mail of <strong>{escape(domain)}</strong> go to that mailbox from '
        "now on.</p>\n"
        '<p class="quiet">There is nothing else to do. You can close this page.</p>',
        200,
    )


async def _body() -> bytes:
    with trio.move_on_after(BODY_SECONDS_MAX):
        return await whole(aiter(request.body), request.headers.get("Content-Length"), BODY_BYTES_MAX)
    raise Refusal("REQUEST_TIMEOUT", f"the request body did not arrive within {BODY_SECONDS_MAX:.0f} s")


def _is_confirmed(body: bytes) -> bool:
    name, value = _BUTTON
    try:
        fields = parse_qs(body.strip(b" \t\r\n").decode("latin-1"), max_num_fields=16)
    except ValueError:  # too many
        return False
    return value in fields.get(name, ())
