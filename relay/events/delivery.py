"""Attempts, and what became of each message."""

from __future__ import annotations

from relay.events.base import MessageEvent, Personal

#: Classes of a bounce (`relay.delivery.bounce_classes`) that tell of the recipient: there is no such mailbox, or nobody
#: reads it any more. Only these say something of the sender's list.
RECIPIENT_CLASSES = ("invalid_recipient", "inactive_mailbox", "bad_domain")
#: Classes that tell of the relay: its address is on a list, what it signs or sends from is not believed. They are the
#: operator's trouble, and no member's fault.
RELAY_CLASSES = ("spam_block", "authentication_failed", "policy_related")


class AttemptStarted(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Durable before the final dot. Without an outcome it was interrupted: tried again at `next_attempt_at`."""

    TYPE = "attempt.started"
    STREAMED = True
    attempt: int
    next_attempt_at: int


class AttemptInterrupted(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The relay stopped between `attempt.started` and its outcome: the mail may have been delivered."""

    TYPE = "attempt.interrupted"
    STREAMED = True
    attempt: int
    next_attempt_at: int


class RemoteSide(Personal, frozen=True, kw_only=True, omit_defaults=True):
    """Whom we talked to, and what they said."""

    mx: str | None = None
    address: str | None = None
    #: The reply's text, or what went wrong where there was none.
    text: str | None = None


class Outcome(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What all three outcomes of an attempt record. `attempt` is 0 where none was made."""

    attempt: int
    #: The command that was answered, as in `relay.delivery.reply_reader.Command`.
    command: str | None = None
    code: int | None = None
    enhanced: str | None = None
    #: Why not, as in `relay.delivery.bounce_classes`. None where it was sent or suppressed, and in events of version 1.
    bounce_class: str | None = None
    #: Whose receivers these are, in a word of `relay.providers`. None where nobody was asked, and in older events.
    provider: str | None = None
    tls_version: str | None = None
    tls_cipher: str | None = None
    tls_certificate: str | None = None
    duration_us: int = 0
    #: Of the whole message with its signatures, CRLF, before dot-stuffing; None where no byte of it was sent.
    sha256: str | None = None
    size: int | None = None
    personal: RemoteSide | None = None


class MessageDeferred(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """Version 2 has `bounce_class`, version 3 `provider`."""

    TYPE = "message.deferred"
    VERSION = 3
    STREAMED = True
    next_attempt_at: int


class MessageSent(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """Version 2 has `bounce_class`, which it never sets; version 3 `provider`."""

    TYPE = "message.sent"
    VERSION = 3
    STREAMED = True


class MessageBounced(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """`reason`: `rejected` (a 5xx), `undeliverable` (could never work), `expired` (given up), `suppressed`, or
    `cancelled` (by the operator: `by` says who, the payload's text why; or by the member: `key_id` says by which key).

    Version 2 has `bounce_class` and `by`, version 3 `key_id`, version 4 `provider`.
    """

    TYPE = "message.bounced"
    VERSION = 4
    STREAMED = True
    reason: str
    #: The Unix user who cancelled it.
    by: str | None = None
    #: The member's key that cancelled it.
    key_id: str | None = None
