"""The JSON body of a send, as it is written: its fields, their types, and what is said of them in `/openapi.json`.

What the types alone cannot say is checked by `relay.requests`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Category = Literal[
    "transactional", "login-link", "password-reset", "mfa-otp", "verification", "bulk", "broadcast"
]


class AttachmentBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """One of `attachments`."""

    filename: Annotated[str, msgspec.Meta(description="Its name for the reader.", examples=["invoice.pdf"])]
    content: Annotated[str, msgspec.Meta(description="Its octets in base64 (RFC 4648, section 4).")]
    content_type: Annotated[
        str | None, msgspec.Meta(description="Its media type. Default: by the end of its name.")
    ] = None
    content_id: Annotated[
        str | None,
        msgspec.Meta(description='By which the HTML shows it: `<img src="cid:logo">` for `logo`.'),
    ] = None


class CalendarBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An invitation, or what else a calendar is to take (RFC 5546)."""

    method: Annotated[str, msgspec.Meta(description="As METHOD in the content.", examples=["REQUEST"])]
    content: Annotated[str, msgspec.Meta(description="One iCalendar object (RFC 5545).")]


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
    cc: Annotated[
        str | list[str] | None,
        msgspec.Meta(
            description="With `cc` or `bcc` the send is a conversation: all recipients see the same To and Cc, and "
            "nobody sees Bcc. `to`, `cc` and `bcc` together are at most 50."
        ),
    ] = None
    bcc: Annotated[str | list[str] | None, msgspec.Meta(description="As `cc`, unseen.")] = None
    reply_to: Annotated[
        str | list[str] | None, msgspec.Meta(description="Reply-To: one address, or at most 10.")
    ] = msgspec.field(name="replyTo", default=None)
    attachments: Annotated[list[AttachmentBody] | None, msgspec.Meta(description="At most 20 files.")] = None
    calendar: CalendarBody | None = None
    scheduled_at: Annotated[
        str | None,
        msgspec.Meta(
            description="When it is to be sent: RFC 3339 with its zone, at most 30 days ahead.",
            examples=["2026-12-24T18:00:00+01:00"],
        ),
    ] = msgspec.field(name="scheduledAt", default=None)
    tag: Annotated[
        str | None,
        msgspec.Meta(
            description="Your word for this kind of mail, to filter by: 1 to 64 of `A-Z a-z 0-9 _ . -`. It is kept for "
            "good, so nothing personal belongs there."
        ),
    ] = None
    metadata: Annotated[
        dict[str, str] | None,
        msgspec.Meta(
            description="Your own words about it, at most 10: names up to 64 characters, values up to 256. They come "
            "back in messages, events and webhooks, and no recipient sees them."
        ),
    ] = None
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
