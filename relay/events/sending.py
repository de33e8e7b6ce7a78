"""What is to be sent: a send, a message for each of its recipients, and what the relay itself writes, its notices."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from relay.events.base import OwnedEvent, Personal

#: The categories of SPEC 1.1 and the class that each belongs to.
TRANSACTIONAL_CATEGORIES = ("transactional", "login-link", "password-reset", "mfa-otp", "verification")
BULK_CATEGORIES = ("bulk", "broadcast")
#: The category of notifications of bounces.
DSN_CATEGORY = "dsn"
#: The category of mails that ask the owner of a mailbox whether a domain's notifications may go there.
CONFIRMATION_CATEGORY = "confirmation"
#: The category of mails that came in and are passed on.
FORWARD_CATEGORY = "forward"
#: The category of mails that tell the owner of a webhook that it is disabled.
WEBHOOK_CATEGORY = "webhook"
#: The category of mails that tell the operator, or a member, of something that wants a person.
ALARM_CATEGORY = "alarm"
#: What the relay itself sends. No member can.
NOTICE_CATEGORIES = (DSN_CATEGORY, CONFIRMATION_CATEGORY, FORWARD_CATEGORY, WEBHOOK_CATEGORY, ALARM_CATEGORY)
#: To whom belongs what the relay writes to strangers: no member sees it, in no list and on no stream.
NOBODY = ""


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A file that a member sends along: its octets, and what its part of the message says of them."""

    filename: str
    #: A media type that was decided when it was accepted, for ever: what a machine knows of names may change.
    content_type: str
    #: Without angle brackets (RFC 2392).
    content_id: str | None = None
    #: The HTML shows it: it has a Content-ID that stands there.
    inline: bool = False
    content: bytes


class Calendar(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An iCalendar object that the recipient's calendar is to take (RFC 6047)."""

    #: In upper case, as its METHOD.
    method: str
    content: str


class Content(Personal, frozen=True, kw_only=True, omit_defaults=True):
    """What the member gave us to send, as it was validated; addresses are `Mailbox` strings in normal form."""

    from_name: str = ""
    #: Empty, as all that follows, where all recipients were rejected: of such a send nothing is kept but these.
    from_address: str = ""
    #: Name and address of each, as all mailboxes here.
    reply_to: list[tuple[str, str]] = msgspec.field(default_factory=list)
    #: In a conversation: what the fields To and Cc show to all recipients.
    to_shown: list[tuple[str, str]] = msgspec.field(default_factory=list)
    cc: list[tuple[str, str]] = msgspec.field(default_factory=list)
    subject: str = ""
    text: str | None = None
    html: str | None = None
    #: The message as it came in whole, without the fields that the relay removes; then there are no `text`, `html`,
    #: `headers` and `reply_to`, and what stands above is what was read of its From and Subject, to be shown.
    raw: bytes | None = None
    headers: list[tuple[str, str]] = msgspec.field(default_factory=list)
    attachments: list[Attachment] = msgspec.field(default_factory=list)
    calendar: Calendar | None = None
    #: The member's own https unsubscribe link, taken out of its List-Unsubscribe header.
    unsubscribe_url: str | None = None
    #: Where the request came from.
    client_address: str | None = None
    #: The suppressed recipients, as given, each with its reason: they are in the answer, and nothing else.
    rejected: list[tuple[str, str]] = msgspec.field(default_factory=list)


class SendAccepted(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """One request was accepted. The `recipients` records after this one are its `message.queued` events.

    It holds everything that composing needs and that configuration could change later, so that composing the same
    event again gives the same bytes (SPEC 3.1).

    Version 2 has `composition` and `size`; version 3 what is known of mail that came in by SMTP: `via`, `suppressed`,
    `mail_from_null`, `normalised`, `received_by`, `received_with`; version 4 `conversation`, `tag`, `scheduled_at`, and
    in the payload several `reply_to`, `to_shown`, `cc`, `attachments`, `calendar`.
    """

    TYPE = "send.accepted"
    VERSION = 4
    ABOUT = "send"
    STREAMED = False
    domain: str
    category: str
    recipients: int
    key_id: str
    #: Selector stem of the member's keys that sign this send, and the operator's domain and stem.
    selector_stem: str
    operator_domain: str
    operator_stem: str
    #: Right after the message id in the Message-ID header, where the member gave none.
    message_id_entropy: str
    #: Base of the unsubscribe links; None for the transactional class.
    unsubscribe_base: str | None = None
    #: SHA-256 (hex) of the Idempotency-Key, where there was one, and of the request's body, where there was one or all
    #: recipients were rejected.
    idempotency_key: str | None = None
    body_sha256: str | None = None
    #: By which rules it is composed and signed, for ever: `relay.message`.
    composition: int = 1
    #: Octets of the request's body, or of the message as it was submitted.
    size: int = 0
    #: The door that it came in by.
    via: Literal["http", "smtp"] = "http"
    #: How many of the recipients were suppressed when it was accepted. Their messages are bounced at once, and count in
    #: no limit and no rate.
    suppressed: int = 0
    #: It was submitted with the null sender (RFC 5321 section 4.5.5), and goes out with it.
    mail_from_null: bool = False
    #: Line ends in it were mended: it had a bare CR or LF.
    normalised: bool = False
    #: What the relay's Received field says of itself and of the connection: its name, and a word of RFC 3848.
    received_by: str | None = None
    received_with: str | None = None
    #: All recipients see the same To and Cc, and one Message-ID; else each is its message's only one.
    conversation: bool = False
    #: The member's own word for what kind of mail it is; never personal.
    tag: str | None = None
    #: When it is to be tried first, where that is not at once.
    scheduled_at: int | None = None
    personal: Content | None = None

    @property
    def wanted(self) -> int:
        """How many recipients are to get it: what limits, rates and counts are about."""
        return self.recipients - self.suppressed


class Addressee(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: As the client sent it, byte for byte.
    given: str
    name: str = ""
    #: Normal form: domain in lower-case A-labels, local part as given.
    address: str


class Heading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What lists show of a send."""

    from_name: str = ""
    from_address: str
    subject: str = ""
    via: Literal["http", "smtp"] = "http"


class Recipient(Addressee, frozen=True, kw_only=True, omit_defaults=True):
    """Of a member's mail."""

    #: The member's own words about the send. They stand here, and not with the content, because whoever shows a message
    #: or one of its events needs them, and must not read megabytes for that.
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    #: Where the content is large; for the same reason.
    heading: Heading | None = None


class MessageQueued(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """One recipient of a send. This record's sequence number is the message id.

    Version 2 has `shown`, `scheduled`, `tag`, and in the payload `metadata` and `heading`.
    """

    TYPE = "message.queued"
    VERSION = 2
    ABOUT = "message"
    STREAMED = True
    domain: str
    category: str
    #: 1 for the first recipient: the `send.accepted` record is `index` records before this one.
    index: int
    next_attempt_at: int
    give_up_at: int
    #: False: a recipient of a conversation whom nobody sees (`bcc`).
    shown: bool = True
    #: `next_attempt_at` is a time that the member has chosen. It is the message's Date, unless it is moved before the
    #: first attempt.
    scheduled: bool = False
    #: That of its send.
    tag: str | None = None
    personal: Recipient | None = None


class Notice(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A mail that no member handed in. This record's sequence number is its message id."""

    ABOUT = "message"
    category: ClassVar[str]
    domain: str
    next_attempt_at: int
    give_up_at: int
    operator_domain: str
    personal: Addressee | None = None


class OwnNotice(Notice, frozen=True, kw_only=True, omit_defaults=True):
    """What the relay itself has to say."""

    #: The selector stem of the operator's keys: it is the relay that speaks.
    operator_stem: str
    #: Right after the message id in the Message-ID header.
    message_id_entropy: str
    #: As in `send.accepted`.
    composition: int = 1


class DsnQueued(OwnNotice, frozen=True, kw_only=True, omit_defaults=True):
    """A bounce is made known to its domain's `forward_to`.

    The `message.bounced` that it is about is the record right before this one, in the same batch: no crash can part
    them, so that no DSN is forgotten and none is made twice.

    Version 2 has `composition`, version 3 `scheduled_at`.
    """

    TYPE = "dsn.queued"
    VERSION = 3
    STREAMED = True
    category: ClassVar[str] = DSN_CATEGORY
    #: The message id of what bounced.
    about: int
    #: Of what bounced: the time that its member had chosen, which is its Date, and is quoted.
    scheduled_at: int | None = None


class ConfirmationQueued(OwnNotice, frozen=True, kw_only=True, omit_defaults=True):
    """The owner of a mailbox is asked whether the notifications of a domain may go there.

    `did` is NOBODY: what becomes of it is the owner's business, and not the member's, who could read in it whether that
    mailbox exists, or is on somebody's suppression list.
    """

    TYPE = "confirmation.queued"
    STREAMED = False
    category: ClassVar[str] = CONFIRMATION_CATEGORY
    #: Base of the link.
    link_base: str


class WebhookNoticeQueued(OwnNotice, frozen=True, kw_only=True, omit_defaults=True):
    """The owner of a webhook is told that it is disabled. It stands in one batch with the `webhook.disabled`, whose
    fields it repeats: composing it needs no other event."""

    TYPE = "webhook_notice.queued"
    STREAMED = True
    category: ClassVar[str] = WEBHOOK_CATEGORY
    webhook_id: str
    because: Literal["gone", "failing"]
    until_seq: int
    http_status: int | None = None
    error: str | None = None
    #: Base of the links.
    link_base: str


class AlarmQueued(OwnNotice, frozen=True, kw_only=True, omit_defaults=True):
    """The operator, or the member whom it concerns, is told of something that wants a person.

    `did` is the member's, or NOBODY: then it is the operator's alone. All that the mail says is here, so composing it
    needs no other event. What it is `about` is said in the relay's own words and names: a domain of a member's, an
    address of the relay's own, a file; never a recipient.
    """

    TYPE = "alarm.queued"
    STREAMED = True
    category: ClassVar[str] = ALARM_CATEGORY
    #: Its name, a word of `relay.alarms`; of each name and `about` there is one mail a day to each who is told.
    alarm: str
    about: str
    #: What is so, and what to do, as lines of the mail's text.
    says: list[str]
