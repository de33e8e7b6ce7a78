"""What clients may ask: the body of `POST /v1/send`, checked whole before anything is decided.

`parse_send` is pure: bytes in, a `SendRequest` in normal form out, or a Refusal that names the field. The same types
give the schema in `/openapi.json`, so that the two cannot drift apart.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec

from relay.addresses import Mailbox
from relay.events import BULK_CATEGORIES, Content
from relay.fields import mailbox_in, mailbox_of_many_in
from relay.json_body import JsonBody
from relay.message.headers import HEADERS_MAX, HeaderError, check_headers
from relay.refusals import Refusal, invalid

BODY_BYTES_MAX = 1024 * 1024
RECIPIENTS_MAX = 50
#: Of a send that names none, by a key that has none.
DEFAULT_CATEGORY = "bulk"

Category = Literal[
    "transactional", "login-link", "password-reset", "mfa-otp", "verification", "bulk", "broadcast"
]


class SendBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """JSON body of `POST /v1/send`. `null` in an optional field is the same as leaving it out."""

    sender: Annotated[
        str,
        msgspec.Meta(
            description="`address` or `Name <address>`; its domain must be enrolled under the DID.",
            examples=["you@yourdomain.com"],
        ),
    ] = msgspec.field(name="from")
    to: Annotated[
        str | list[str],
        msgspec.Meta(
            description="One recipient or an array of 1 to 50, each `address` or `Name <address>`.",
            examples=["recipient@example.com"],
        ),
    ]
    subject: Annotated[str, msgspec.Meta(description="May be empty.", examples=["Hello from Atmosphere"])]
    text: Annotated[str | None, msgspec.Meta(description="Plain text body. Required unless html is set.")] = (
        None
    )
    html: Annotated[
        str | None, msgspec.Meta(description="HTML body, sent as an alternative alongside text.")
    ] = None
    reply_to: Annotated[str | None, msgspec.Meta(description="Reply-To address.")] = msgspec.field(
        name="replyTo", default=None
    )
    headers: Annotated[
        dict[str, str] | None,
        msgspec.Meta(
            description="Additional headers, at most 50. Reserved: From, To, Cc, Bcc, Subject, Reply-To, Sender, "
            "Date, MIME-Version, Content-*, Return-Path, Received, DKIM-Signature, ARC-*, Authentication-Results, "
            "Feedback-ID, X-Atmos-*, and what claims a history: Received-SPF, Delivered-To, Resent-*, "
            "DomainKey-Signature, X-Original-*, Errors-To, BIMI-*, X-Google-*; in the bulk class also "
            "Return-Receipt-To and Disposition-Notification-To."
        ),
    ] = None
    category: Annotated[
        Category | None,
        msgspec.Meta(
            description="Default: that of the API key, or `bulk` where it has none. `bulk` and `broadcast` get "
            "List-Unsubscribe."
        ),
    ] = None


class BySmtp(NamedTuple):
    """What a send has besides that came in by SMTP."""

    #: Domain of MAIL FROM; None: the null sender.
    mail_from_domain: str | None
    #: Domain of the field Sender, where there is one.
    sent_by_domain: str | None
    normalised: bool
    #: For the Received field: a word of RFC 3848.
    received_with: str


class SendRequest(NamedTuple):
    """A send in normal form: checked, and every recipient once."""

    sender: Mailbox
    #: As the client wrote it, and in normal form.
    recipients: list[tuple[str, Mailbox]]
    category: str
    content: Content
    #: None: it came in by HTTP.
    by_smtp: BySmtp | None = None


#: Fields that other services have, and what to do here.
_INSTEAD = {
    "cc": "each recipient gets a message of its own; list it in `to`",
    "bcc": "each recipient gets a message of its own; list it in `to`",
    "reply_to": "there is no such field; write `replyTo`",
    "attachments": "there are no attachments yet; link to what you want to send",
}
_BODY = JsonBody(SendBody, _INSTEAD)


def parse_send(body: bytes, default_category: str = DEFAULT_CATEGORY) -> SendRequest:
    """Check the body of a send, which is of `default_category` where it names none. Raises Refusal(INVALID_REQUEST)."""
    fields = _BODY.decode(body)
    if fields.headers is not None and len(fields.headers) > HEADERS_MAX:
        raise invalid("headers", f"has {len(fields.headers)} of them; the most is {HEADERS_MAX}")
    sender = mailbox_in("from", fields.sender)
    reply_to = mailbox_in("replyTo", fields.reply_to) if fields.reply_to else None
    recipients = _recipients(fields.to)
    category = fields.category or default_category
    for name, value in (("subject", fields.subject), ("text", fields.text), ("html", fields.html)):
        if value is not None and "\0" in value:
            raise invalid(name, "holds a NUL character, which mail cannot carry; remove it")
    try:
        headers = check_headers(
            fields.headers.items() if fields.headers else (),
            subject=fields.subject,
            bulk=category in BULK_CATEGORIES,
        )
    except HeaderError as error:
        raise Refusal("INVALID_REQUEST", str(error)) from error
    if not fields.text and not fields.html:
        raise invalid("text", "is required unless html is set")
    content = Content(
        from_name=sender.name,
        from_address=sender.address,
        reply_to=None if reply_to is None else (reply_to.name, reply_to.address),
        subject=fields.subject,
        text=fields.text or None,
        html=fields.html or None,
        headers=list(headers),
    )
    return SendRequest(sender, recipients, category, content)


def _recipients(to: str | list[str]) -> list[tuple[str, Mailbox]]:
    given = [to] if isinstance(to, str) else to
    if not given:
        raise invalid("to", "is empty; name at least one recipient")
    if len(given) > RECIPIENTS_MAX:
        raise invalid("to", f"has {len(given)} recipients; the most for one request is {RECIPIENTS_MAX}")
    found: dict[str, tuple[str, Mailbox]] = {}
    for number, text in enumerate(given):
        mailbox = mailbox_of_many_in("to" if isinstance(to, str) else f"to[{number}]", text)
        found.setdefault(mailbox.address, (text, mailbox))
    return list(found.values())
