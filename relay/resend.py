"""The shape of Resend's API: what is asked in it, and how what we answer is said in it. Pure.

`request_of_email` makes a send of the body of an email, `email_of` shows a send and what became of it, `email_error`
says an error by that API's statuses and names (https://resend.com/docs/api-reference/errors). What the shape has and
the relay has not is refused by name, and never left out in silence.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec

from relay.codec import Recorded
from relay.events import (
    MessageBounced,
    MessageDeferred,
    MessageQueued,
    MessageSent,
    SendAccepted,
)
from relay.json_body import IS_MISSING, SMALL_OCTETS, JsonBody, check_strings, outside_strings
from relay.message.compose import message_id_header
from relay.presentation import ErrorAnswer, mailbox
from relay.refusals import invalid
from relay.requests import (
    METADATA_MAX,
    METADATA_NAME_CHARACTERS_MAX,
    METADATA_VALUE_CHARACTERS_MAX,
    ListShownRefusal,
    SendRequest,
    request_of,
)
from relay.send_body import AttachmentBody, SendBody
from relay.times import rfc3339, rfc3339_or_none
from relay.views.messages import MessageState

# ---------------------------------------------------------------------------------------------------- what is asked

_NOT_HERE = "Refused where it is no null. "
_One = str | list[str]
_Octet = Annotated[int, msgspec.Meta(ge=0, le=255)]


class EmailAttachment(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One of `attachments`: a name, and octets in base64 or as an array of numbers."""

    filename: str | None = None
    content: str | list[_Octet] | None = None
    content_type: str | None = None
    content_id: str | None = None
    #: Its other name, in the SDK for Python.
    inline_content_id: str | None = None
    path: Annotated[
        str | None, msgspec.Meta(description=_NOT_HERE + "The relay fetches nothing; send the octets.")
    ] = None


class EmailTag(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    value: str = ""


class EmailBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /emails`."""

    sender: str = msgspec.field(name="from")
    to: _One
    subject: str
    text: str | None = None
    html: str | None = None
    cc: _One | None = None
    bcc: _One | None = None
    reply_to: _One | None = None
    headers: dict[str, str] | None = None
    attachments: list[EmailAttachment] | None = None
    scheduled_at: Annotated[
        str | None, msgspec.Meta(description="RFC 3339 with its zone, at most 30 days ahead; no words.")
    ] = None
    tags: Annotated[
        list[EmailTag] | None,
        msgspec.Meta(description=f"At most {METADATA_MAX}. They are `metadata` everywhere else."),
    ] = None
    topic_id: Annotated[str | None, msgspec.Meta(description=_NOT_HERE + "There are no topics.")] = None
    template: Annotated[
        dict[str, msgspec.Raw] | None,
        msgspec.Meta(description=_NOT_HERE + "There are no templates; send `html` and `text`."),
    ] = None


class EmailTime(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `PATCH /emails/{id}`."""

    scheduled_at: str
    send: Annotated[
        str | None, msgspec.Meta(description="As in the path; the SDK for Python says it twice.")
    ] = msgspec.field(name="id", default=None)


_INSTEAD = {"react": "render it where you send from, and send `html`", "category": "it is the key's"}
_BODY = JsonBody(EmailBody, _INSTEAD)


def request_of_email(body: bytes, default_category: str) -> SendRequest:
    """A send, from the body of one email. Pure. Raises Refusal."""
    fields = _BODY.decode(_with_base64(body))
    if fields.template is not None:
        raise invalid(
            "template", "there are no templates here; render it where you send from, and send `html`"
        )
    if fields.topic_id is not None:
        raise invalid("topic_id", "there are no topics here; leave it out")
    send = SendBody(
        sender=fields.sender,
        to=fields.to,
        subject=fields.subject,
        text=fields.text,
        html=fields.html,
        cc=fields.cc,
        bcc=fields.bcc,
        reply_to=fields.reply_to,
        headers=fields.headers,
        attachments=[_attachment(number, one) for number, one in enumerate(fields.attachments or ())],
        scheduled_at=fields.scheduled_at,
        metadata=_metadata(fields.tags),
    )
    try:
        parsed = request_of(send, default_category, recipients_see_each_other=True)
    except ListShownRefusal as refusal:
        raise invalid(
            refusal.message.partition(":")[0],
            "several recipients see each other, which bulk mail must not; use a key whose category is "
            "`transactional` if it is that (`key issue --category transactional`), or send one email to each",
        ) from refusal
    return parsed._replace(queues_suppressed=True)


_is_array_of_content = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\[").match
#: Decoded at a time.
_PIECE_CHARACTERS = 32 * 1024
_octets_in = msgspec.json.Decoder(list[_Octet]).decode


def _with_base64(body: bytes) -> bytes:
    """The same in base64, where `content` is an array of octets: millions of numbers, which are read in short steps.
    Raises Refusal."""
    if len(body) <= SMALL_OCTETS:
        return body
    check_strings(body)
    pieces: list[bytes] = []
    done = before = 0
    for start, end in outside_strings(body):
        found = _is_array_of_content(body, start, end) if _is_content(body[before:start]) else None
        closed = -1 if found is None else body.find(b"]", found.end(), end)
        if found is not None and closed >= 0:
            octets = b"".join(_octets(body[found.end() : closed]))
            pieces += [body[done : found.end() - 1], b'"%b"' % base64.b64encode(octets)]
            done = closed + 1
        before = end
    return b"".join([*pieces, body[done:]]) if pieces else body


def _is_content(name: bytes) -> bool:
    """Also where its letters are escaped."""
    if b"\\" not in name or len(name) > len('"content"') * len("\\u0063"):
        return name == b'"content"'
    try:
        return bool(msgspec.json.decode(name) == "content")
    except (msgspec.DecodeError, ValueError):
        return False


def _octets(numbers: bytes) -> Iterator[bytes]:
    """Of what stands in an array."""
    start = 0
    while start <= len(numbers):
        end = len(numbers)
        if end - start > _PIECE_CHARACTERS:
            end = numbers.rfind(b",", start, start + _PIECE_CHARACTERS)
        try:
            some = _octets_in(b"[%b]" % numbers[start : max(end, start)])
        except (msgspec.DecodeError, ValueError):
            some = []
        if not some and (start or end < len(numbers) or numbers.strip()):
            raise invalid("attachments", "content: expected base64, or an array of numbers from 0 to 255")
        yield bytes(some)
        start = end + 1


def _attachment(number: int, given: EmailAttachment) -> AttachmentBody:
    where = f"attachments[{number}]"
    if given.path is not None:
        raise invalid(f"{where}.path", "the relay fetches nothing; send the octets as `content`")
    if given.filename is None:
        raise invalid(f"{where}.filename", IS_MISSING)
    if given.content is None:
        raise invalid(f"{where}.content", IS_MISSING)
    content = given.content
    return AttachmentBody(
        filename=given.filename,
        content=content if isinstance(content, str) else base64.b64encode(bytes(content)).decode(),
        content_type=given.content_type,
        content_id=given.content_id or given.inline_content_id,
    )


def _metadata(tags: list[EmailTag] | None) -> dict[str, str]:
    if tags and len(tags) > METADATA_MAX:
        raise invalid("tags", f"there are {len(tags)}; the most is {METADATA_MAX}")
    found: dict[str, str] = {}
    for number, tag in enumerate(tags or ()):
        if not 1 <= len(tag.name) <= METADATA_NAME_CHARACTERS_MAX:
            raise invalid(f"tags[{number}].name", f"expected 1 to {METADATA_NAME_CHARACTERS_MAX} characters")
        if len(tag.value) > METADATA_VALUE_CHARACTERS_MAX:
            raise invalid(
                f"tags[{number}].value", f"has more than {METADATA_VALUE_CHARACTERS_MAX} characters"
            )
        if tag.name in found:
            raise invalid(f"tags[{number}].name", "stands twice; keep one")
        found[tag.name] = tag.value
    return found


# ------------------------------------------------------------------------------------------------- what is answered


class EmailId(msgspec.Struct):
    send: str = msgspec.field(name="id")


class EmailBatch(msgspec.Struct):
    data: list[EmailId]


class EmailChanged(msgspec.Struct):
    send: str = msgspec.field(name="id")
    object: str = "email"


class EmailTagShown(msgspec.Struct):
    name: str
    value: str


class Email(msgspec.Struct, kw_only=True):
    """A send and what became of it. What was personal is null once retention has removed it; of a message that came in
    whole, by SMTP, so is what would have to be read out of it."""

    object: str = "email"
    send: str = msgspec.field(name="id")
    message_id: str | None
    sender: str | None = msgspec.field(name="from")
    to: list[str] | None
    cc: list[str] | None
    bcc: list[str] | None
    reply_to: list[str] | None
    subject: str | None
    text: str | None
    html: str | None
    created_at: str
    scheduled_at: str | None
    #: `queued`, `scheduled`, `delivered` (its receiver has taken it), `delivery_delayed`, `bounced`, `complained`,
    #: `suppressed` or `canceled`: by the latest event of any recipient.
    last_event: str
    tags: list[EmailTagShown] | None


class EmailError(msgspec.Struct, rename="camel"):
    """What is answered instead: the HTTP status, a name for programs and a sentence for people."""

    status_code: int
    name: str
    message: str


# -------------------------------------------------------------------------------------------------- a send as it is


def email_of(states: list[MessageState], get: Callable[[int], Recorded], now_us: int) -> Email:
    seq = states[0].send_seq
    recorded = get(seq)
    accepted = recorded.event
    assert isinstance(accepted, SendAccepted)
    content = accepted.personal
    shown: list[tuple[str, str]] = []
    hidden: list[tuple[str, str]] = []
    tags: dict[str, str] = {}
    for state in states:
        queued = get(state.message_id).event
        assert isinstance(queued, MessageQueued)
        if queued.personal is None:
            content = None
            break
        (shown if queued.shown else hidden).append((queued.personal.name, queued.personal.address))
        tags = queued.personal.metadata
    _, last_event = max(_last_event(state, get, now_us) for state in states)
    email = Email(
        send=str(seq),
        message_id=None,
        sender=None,
        to=None,
        cc=None,
        bcc=None,
        reply_to=None,
        subject=None,
        text=None,
        html=None,
        created_at=rfc3339(recorded.time_us),
        scheduled_at=rfc3339_or_none(states[-1].scheduled_at),
        last_event=last_event,
        tags=None,
    )
    if content is not None:
        if content.raw is None:  # a message that came in whole has its own, most often
            email.message_id = message_id_header(
                content.headers,
                message_id=states[0].message_id,
                entropy=accepted.message_id_entropy,
                domain=accepted.domain,
            )
        email.sender = mailbox(content.from_name, content.from_address)
        email.to = _mailboxes(content.to_shown if accepted.conversation else shown)
        email.cc, email.bcc = _mailboxes(content.cc), _mailboxes(hidden)
        email.reply_to = _mailboxes(content.reply_to)
        email.subject, email.text, email.html = content.subject, content.text, content.html
        email.tags = [EmailTagShown(name, value) for name, value in tags.items()]
    return email


def _mailboxes(of: list[tuple[str, str]]) -> list[str]:
    return [mailbox(name, address) for name, address in of]


def _last_event(state: MessageState, get: Callable[[int], Recorded], now_us: int) -> tuple[int, str]:
    """The last thing that happened to a message, by its number in the log, and what it is called there."""
    waits = state.scheduled_at is not None and state.scheduled_at > now_us and not state.attempts
    found = [(state.message_id, "scheduled" if waits else "queued")]
    if state.outcome_seq is not None:
        match get(state.outcome_seq).event:
            case MessageSent():
                found.append((state.outcome_seq, "delivered"))
            case MessageDeferred():
                found.append((state.outcome_seq, "delivery_delayed"))
            case MessageBounced(reason=reason):
                word = {"cancelled": "canceled", "suppressed": "suppressed"}.get(reason, "bounced")
                found.append((state.outcome_seq, word))
    if state.reported_seq is not None:
        found.append((state.reported_seq, "bounced"))
    if state.complained_seq is not None:
        found.append((state.complained_seq, "complained"))
    return max(found)


# ----------------------------------------------------------------------------------------------------------- errors

#: What is not here keeps its status, and is called `validation_error`.
_THEIRS = {
    "AUTH_REQUIRED": (401, "missing_api_key"),
    "SCOPE_INSUFFICIENT": (401, "restricted_api_key"),
    "AUTH_FAILED": (403, "invalid_api_key"),
    "NOT_FOUND": (404, "not_found"),
    "METHOD_NOT_ALLOWED": (405, "method_not_allowed"),
    "IDEMPOTENCY_CONFLICT": (409, "invalid_idempotent_request"),
    "INVALID_REQUEST": (422, "validation_error"),
    "NOT_CANCELLABLE": (422, "validation_error"),
    "RATE_LIMITED": (429, "rate_limit_exceeded"),
    "INTERNAL_ERROR": (500, "application_error"),
    "QUEUE_FULL": (503, "application_error"),
    "TEMPORARILY_UNAVAILABLE": (503, "application_error"),
}
#: What stands before the sentence: `[3] attachments[0].contentType: `. One that there is not is named as written.
_FIELD = re.compile(
    r"^(\[\d+\] )?(replyTo|scheduledAt|attachments\[\d+\]\.content(?:Type|Id))\b(?!: there is no such field)"
)


def email_error(error: ErrorAnswer, status: int) -> EmailError:
    """An error that is answered in our shape and with this status, in theirs."""
    status, name = _THEIRS.get(error.code, (status, "validation_error"))
    if error.code == "INVALID_REQUEST" and error.error.startswith("Idempotency-Key:"):
        status, name = 400, "invalid_idempotency_key"
    elif error.code == "INVALID_REQUEST" and error.error.endswith(IS_MISSING):
        name = "missing_required_field"
    message = _FIELD.sub(lambda found: re.sub("[A-Z]", _lower, found[0]), error.error, count=1)
    return EmailError(status, name, message)


def _lower(letter: re.Match[str]) -> str:
    return f"_{letter[0].lower()}"
