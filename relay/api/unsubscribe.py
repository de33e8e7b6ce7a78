"""`/u/<token>`: unsubscribing, by one click in a mail client or on a page (RFC 8058; SPEC 3.3).

Contract. Only a POST with the body of RFC 8058 and a token that this relay sealed suppresses anybody, and its 200 means
durable, like that of a send. A GET or HEAD changes nothing: link scanners follow every link in a mail. A repeat
changes nothing either. No session, no login, no expiry; nothing is needed that retention removes, but for the member's
own URL, which is then not called.

Every answer below `/u/` is a page for a person, errors too, and none redirects. No log line has the token, what is
in it, or a path.
"""

from __future__ import annotations

from io import BytesIO

import trio
from quart import Blueprint, Response, request
from werkzeug.formparser import FormDataParser

from relay.api.bodies import read_body
from relay.api.unsubscribe_page import ONE_CLICK, question_page, unsubscribed_page
from relay.core import Core, unavailable
from relay.decisions.members import known_member
from relay.decisions.suppression import suppress
from relay.events import Event
from relay.message.tokens import Unsubscribe
from relay.refusals import Refusal
from relay.unsubscribe_calls import members_url
from relay.views import messages
from spool.views import Snapshot

PATH = "/u/"
#: `List-Unsubscribe=One-Click` in multipart takes 200 bytes; some clients add parts of their own.
BODY_BYTES_MAX = 8 * 1024
FORM_PARTS_MAX = 16
APPEND_SECONDS_MAX = 4.0


def is_below(path: str) -> bool:
    """Whether a path is one of those that people see."""
    return path.startswith(PATH)


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("unsubscribe", __name__)

    @blueprint.get(f"{PATH}<token>")
    async def question(token: str) -> Response:
        _, message = _open(core, token)
        return question_page(_sending_domain(message))

    @blueprint.post(f"{PATH}<token>")
    async def unsubscribe(token: str) -> Response:
        who, message = _open(core, token)
        if not _is_one_click(await read_body(BODY_BYTES_MAX)):
            raise Refusal("INVALID_REQUEST", "the body is not List-Unsubscribe=One-Click")
        calls = message is not None and members_url(core.store, message) is not None

        def decide(view: Snapshot) -> list[Event]:
            return suppress(
                view,
                who.did,
                who.recipient,
                "unsubscribe",
                message_id=None if message is None else message.message_id,
                call_at=core.store.now_us() if calls else None,
            )

        with trio.move_on_after(APPEND_SECONDS_MAX):
            await core.store.decide(decide, patient=False)
            return unsubscribed_page(_sending_domain(message))
        raise unavailable()

    return blueprint


def _open(core: Core, token: str) -> tuple[Unsubscribe, messages.MessageState | None]:
    """Whose link it is, and the message it came in. Raises Refusal(NOT_FOUND) for what this relay did not seal.

    The message can be unknown to a relay that was set up again from an older copy of its log: who unsubscribes
    is suppressed all the same.
    """
    who = core.composer.unsubscribe.open(token)
    if who is None:
        raise Refusal("NOT_FOUND", "this is no unsubscribe link of this relay")
    with core.store.read() as view:
        known_member(view, who.did)
        message = messages.message(view, who.message_id)
    return who, message if message is not None and message.did == who.did else None


def _sending_domain(message: messages.MessageState | None) -> str | None:
    return None if message is None else message.domain


def _is_one_click(body: bytes) -> bool:
    """Whether a body, urlencoded or multipart, has the one field of RFC 8058. What else it has is not our business."""
    parser = FormDataParser(
        # A part that calls itself a file stays in memory, like all of a body this small.
        stream_factory=lambda *_, **__: BytesIO(),
        max_form_parts=FORM_PARTS_MAX,
    )
    _, form, _ = parser.parse(BytesIO(body), request.mimetype, len(body), request.mimetype_params)
    name, value = ONE_CLICK
    return value in form.getlist(name)
