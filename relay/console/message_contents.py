"""What a message holds, for its member to look at: fields, text, files, and the HTML in a frame of its own.

The HTML of a mail is the only foreign HTML that the console ever sends. It goes out at a path of its own, with a policy
of its own (`PREVIEW_POLICY`): no script, no form, no image or style from anywhere, no way to the page around it; a
frame without rights shows it (`sandbox=""`), and whoever opens its path by itself gets no more. What browsers would
connect for all the same is not in it.

Nothing here is composed: what is shown is what was handed in, as the log has it. What is large is shown in part.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from relay.api.answers import Answer
from relay.api.arguments import number_in
from relay.console.pages import Context, page
from relay.console.visit import Visit
from relay.events import Content, MessageQueued, SendAccepted
from relay.message.fields_of import HeaderSectionError, header_of
from relay.presentation import mailbox
from relay.refusals import Refusal
from relay.views import messages
from relay.views.messages import MessageState

PREVIEW_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
)
TEXT_CHARACTERS_MAX: Final = 64 * 1024
_GONE: Final = (
    "the contents of this message have been removed since: their time was over, or they were erased"
)


class File(NamedTuple):
    filename: str
    content_type: str
    octets: int


class Contents(NamedTuple):
    #: Name and value, in the order of the header.
    fields: list[tuple[str, str]]
    text: str | None
    #: More was handed in than is shown.
    is_cut: bool
    has_html: bool
    files: list[File]
    #: It came in whole: what there is of it besides the header stands in `text`, as it was written.
    is_whole: bool


def own_message(visit: Visit) -> MessageState:
    """The message that the path names, which is this member's. Raises Refusal(NOT_FOUND)."""
    number = number_in(visit.in_path["message_id"])
    with visit.store.read() as view:
        state = None if number is None else messages.message(view, number)
    if state is None or state.did != visit.did:
        raise Refusal("NOT_FOUND", "There is no message with this number.")
    return state


def handed_in(visit: Visit, state: MessageState) -> tuple[SendAccepted, Content, MessageQueued]:
    """What the member handed in. Raises Refusal(NOT_FOUND) where that is gone, or never was: of the relay's own mail,
    say."""
    queued = visit.store.get(state.message_id).event
    accepted = visit.store.get(state.send_seq).event
    if not isinstance(queued, MessageQueued) or not isinstance(accepted, SendAccepted):
        raise Refusal("NOT_FOUND", "this mail was written by the relay, or came in and was passed on")
    if accepted.personal is None or queued.personal is None:
        raise Refusal("NOT_FOUND", _GONE)
    return accepted, accepted.personal, queued


def contents_of(content: Content, queued: MessageQueued) -> Contents:
    if content.raw is not None:
        return _whole(content.raw)
    assert queued.personal is not None
    recipient = mailbox(queued.personal.name, queued.personal.address)
    shown = [mailbox(*each) for each in content.to_shown]
    fields = [
        ("From", mailbox(content.from_name, content.from_address)),
        ("To", ", ".join(shown) or recipient),
        *([("Cc", ", ".join(mailbox(*each) for each in content.cc))] if content.cc else []),
        *([("Reply-To", ", ".join(mailbox(*each) for each in content.reply_to))] if content.reply_to else []),
        ("Subject", content.subject),
        *content.headers,
    ]
    files = [File(each.filename, each.content_type, len(each.content)) for each in content.attachments]
    if content.calendar is not None:
        files.append(File("invitation", "text/calendar", len(content.calendar.content)))
    text = content.text
    return Contents(
        fields,
        None if text is None else text[:TEXT_CHARACTERS_MAX],
        text is not None and len(text) > TEXT_CHARACTERS_MAX,
        content.html is not None,
        files,
        is_whole=False,
    )


def _whole(raw: bytes) -> Contents:
    try:
        header = header_of(raw)
    except HeaderSectionError:
        header = None
    start = 0 if header is None else header.body_start
    fields = [] if header is None else [(_name(raw, each), each.text) for each in header.fields]
    body = raw[start : start + TEXT_CHARACTERS_MAX].decode("utf-8", "replace").replace("\r\n", "\n")
    return Contents(fields, body, len(raw) - start > TEXT_CHARACTERS_MAX, False, [], is_whole=True)


def _name(raw: bytes, field: Any) -> str:
    """As it was written."""
    return raw[field.start : field.start + len(field.name)].decode("ascii", "replace")


def _octets_of_page(shown: Contents) -> int:
    """At most, roughly: each character may be shown as an escape, `\\U000e0001`, and each row has its markup."""
    rows = [*shown.fields, *((file.filename, file.content_type) for file in shown.files)]
    written = sum(len(name) + len(value) + 10 for name, value in rows) + len(shown.text or "")
    return 10 * written


@page("GET", "/messages/{message_id}/contents", "message_contents.html", "What it holds")
async def contents(visit: Visit) -> Context:
    state = own_message(visit)
    _, content, queued = handed_in(visit, state)
    octets = len(content.raw or content.text or "")
    async with visit.edge.heavy_work.turn(visit.did, octets) as do:
        shown = await do(contents_of, content, queued)
    visit.page_octets = _octets_of_page(shown)
    return {"title": f"Message {state.message_id}", "message_id": state.message_id, "contents": shown}


#: What leads elsewhere by itself. To HTML parsers such a name ends at white space, `/` or `>`, and nowhere else.
_leading_elsewhere: Final = re.compile(r"<(?=(?:i?frame|link|object|embed|portal|fencedframe)[\s/>])", re.I)


def _quiet(html: str) -> bytes:
    """Without the elements that browsers connect for before they ask the policy whether they may: Chromium looks up and
    connects to the host of a frame that it then does not load, and whoever has that host knows that somebody reads.
    Under the policy none of them shows anything."""
    return _leading_elsewhere.sub("<x-", html).encode()


@page("GET", "/messages/{message_id}/html", "", "HTML")
async def html(visit: Visit) -> Answer:
    _, content, _ = handed_in(visit, own_message(visit))
    if content.html is None:
        raise Refusal("NOT_FOUND", "this message has no HTML")
    async with visit.edge.heavy_work.turn(visit.did, len(content.html)) as do:
        body = await do(_quiet, content.html)
    headers = (
        ("Content-Security-Policy", PREVIEW_POLICY),
        # A name that a link asks to be looked up tells its owner that somebody reads; no policy is for that.
        ("X-DNS-Prefetch-Control", "off"),
    )
    return Answer(200, body, headers, media_type="text/html; charset=utf-8")


PAGES: Final = (contents, html)
