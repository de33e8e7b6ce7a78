"""Attempts, and what became of each message."""

from __future__ import annotations

from relay.events.base import MessageEvent, Personal


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
    tls_version: str | None = None
    tls_cipher: str | None = None
    tls_certificate: str | None = None
    duration_us: int = 0
    #: Of the whole message with its signatures, CRLF, before dot-stuffing; None where no byte of it was sent.
    sha256: str | None = None
    size: int | None = None
    personal: RemoteSide | None = None


class MessageDeferred(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "message.deferred"
    VERSION = 2
    STREAMED = True
    next_attempt_at: int


class MessageSent(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "message.sent"
    VERSION = 2
    STREAMED = True


class MessageBounced(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """`reason`: `rejected` (a 5xx), `undeliverable` (could never work), `expired` (given up), `suppressed`, or
    `cancelled` (by the operator: `by` says who, the payload's text why).

    Version 2 has `by`.
    """

    TYPE = "message.bounced"
    VERSION = 2
    STREAMED = True
    reason: str
    #: The Unix user who cancelled it.
    by: str | None = None


class MessageComplained(MessageEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The recipient called the message spam. Its status stays what it was."""

    TYPE = "message.complained"
    STREAMED = True
