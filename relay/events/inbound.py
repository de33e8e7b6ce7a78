"""What comes in by mail: reports about what went out, and mail that is passed on to the operator or a member."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from relay.events.base import MessageEvent, OwnedEvent, Personal
from relay.events.sending import FORWARD_CATEGORY, Notice


class ReportDetails(Personal, frozen=True, kw_only=True, omit_defaults=True):
    """What a report says in words, and where it came from. A stranger's words, all of them."""

    diagnostic: str | None = None
    reporting_mta: str | None = None
    remote_mta: str | None = None
    #: Who handed it in: its address, and its name where the DNS has it both ways.
    client_address: str | None = None
    client_name: str | None = None
    #: Domains whose DKIM signature on it verifies.
    signed_by: list[str] = msgspec.field(default_factory=list)
    #: Its first 64 KiB.
    raw: bytes = b""
    #: What the operator who recorded it had to say.
    why: str | None = None


class MessageBounceReported(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A report about the message came in by mail, after its receiver had taken it. The message's status stays.

    It is believed because it had the message's own token. To whom the message was, our record says, and never the
    report.
    """

    TYPE = "message.bounce_reported"
    STREAMED = True
    #: As in `relay.mail_reading`.
    kind: str
    #: `failed`, `delayed`, `delivered`, `relayed` or `expanded`; None: it says none of them.
    action: str | None = None
    enhanced: str | None = None
    code: int | None = None
    bounce_class: str | None = None
    #: Of a provider's report that is no complaint: "not-spam", "auth-failure" ...
    feedback_type: str | None = None
    #: It is the first that says, in the form for it, that the message failed, and the message had not bounced.
    is_failure: bool = False
    #: Of the mail that came in, as it came.
    sha256: str
    size: int
    #: The Unix user who recorded it by hand; None: it came by mail.
    by: str | None = None
    personal: ReportDetails | None = None

    @property
    def counts(self) -> bool:
        """It counts in the domain's rate as a bounce does: it failed for good (5.x), and not because a receiver gave up
        trying (4.x)."""
        is_permanent = (
            self.enhanced.startswith("5.") if self.enhanced is not None else (self.code or 0) // 100 == 5
        )
        return self.is_failure and is_permanent


class MessageComplained(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The recipient called the message spam. Its status stays what it was.

    Version 2 has all of its fields; those of version 1 were recorded by the operator.
    """

    TYPE = "message.complained"
    VERSION = 2
    STREAMED = True
    via: Literal["operator", "report"] = "operator"
    #: Of a report (RFC 5965 section 3.1): "abuse", "fraud", "opt-out" ...
    feedback_type: str | None = None
    #: The domain that signed the report, of those that are believed; None: none of them did.
    provider: str | None = None
    #: The operator says so, or a provider does. Any other complaint counts in no rate.
    authenticated: bool = True
    #: Of the report as it came.
    sha256: str | None = None
    size: int | None = None
    #: The Unix user who recorded the report by hand.
    by: str | None = None
    personal: ReportDetails | None = None


class IncomingMail(Personal, frozen=True, kw_only=True, omit_defaults=True):
    mail_from: str = ""
    rcpt_to: list[str] = msgspec.field(default_factory=list)
    client_address: str | None = None
    #: What the client called itself.
    ehlo_name: str = ""
    #: All of it, as it came, CRLF.
    raw: bytes


class MailReceived(OwnedEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Mail came in for the operator or for a member, and is passed on: the `forward.queued` right behind it, in the
    same batch, is that.

    `did`: the member whose domain it is for; NOBODY: it is for the operator.
    """

    TYPE = "mail.received"
    ABOUT = "domain"
    STREAMED = False
    #: `operator`, `reply`, or `other` where all mail for the domain is passed on.
    kind: str
    domain: str
    #: As in `relay.mail_reading`.
    reading: str = "unknown"
    #: Of the mail as it came.
    sha256: str
    size: int
    #: SHA-256 (hex) of envelope and mail: a repeat has the same.
    digest: str
    #: It came with the null sender, and goes on with it.
    mail_from_null: bool = False
    #: What the relay's Received field says: its name, and a word of RFC 3848.
    received_by: str
    received_with: str
    personal: IncomingMail | None = None


class ForwardQueued(Notice, frozen=True, kw_only=True, omit_defaults=True):
    """Mail that came in is passed on. The `mail.received` that it is about is the record right before this one, in the
    same batch.

    It carries its author's signatures, and none of ours.
    """

    TYPE = "forward.queued"
    STREAMED = True
    category: ClassVar[str] = FORWARD_CATEGORY
