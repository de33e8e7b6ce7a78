"""The vocabulary: every kind of event that the relay's log can hold.

An event is immutable and past. It has two parts, because the log has two (SPEC 8):

- its own fields are the *skeleton*: ids, types, times, codes, counts and digests, kept for good;
- `personal`, where it has one, is the *payload*: addresses, subject, bodies, headers, remote reply texts. Retention
  removes it one day, and it is then None; everything that folds events must live with that.

Conventions. Times are integers, microseconds since the epoch. A message is known by its `message_id`, which *is* the
sequence number of its `message.queued` event: unique, growing, and nothing has to be counted. `did` says to whom
an event belongs. Whatever was decided by dice or by a clock (jitter, random ids, due times) is in the event, so that
a fold needs neither.

Versions. A (type, version) that has once been written to a log never changes: `tests/golden_events/` keeps one file
for each. To change an event, give the class the next version and add a pure function to `relay.codec.UPCASTS`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

#: The categories of SPEC 1.1 and the class that each belongs to.
TRANSACTIONAL_CATEGORIES = ("transactional", "login-link", "password-reset", "mfa-otp", "verification")
BULK_CATEGORIES = ("bulk", "broadcast")


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all events share. `TYPE` and `VERSION` stand in the log; class names do not.

    A field that the class does not know is an error: left out of a fold in silence, it would make the views a lie.
    """

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1

    personal: Any = None


class Personal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part of an event that retention removes."""


# ------------------------------------------------------------------------------------------------ members


class MemberAdded(Event, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "member.added"
    did: str


class DomainAdded(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A sending domain was enrolled, with the public halves of its two keys (base64, as in DNS)."""

    TYPE = "domain.added"
    did: str
    domain: str
    #: DKIM selectors are `<stem>r` (RSA-2048) and `<stem>e` (Ed25519).
    selector_stem: str
    rsa_public: str
    ed25519_public: str


class KeyIssued(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An API key was made. Only its keyed hash (HMAC-SHA-256 under the pepper, hex) is kept anywhere."""

    TYPE = "key.issued"
    did: str
    key_id: str
    key_hash: str


class KeyRevoked(Event, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "key.revoked"
    did: str
    key_id: str


class MemberSuspended(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The member may not send; what it has queued is held."""

    TYPE = "member.suspended"
    did: str
    reason: str | None = None


class MemberResumed(Event, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "member.resumed"
    did: str
    reason: str | None = None


class MemberLimitsSet(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of the member's domains instead of those of their age; None for both takes them back."""

    TYPE = "member.limits_set"
    did: str
    hour: int | None = None
    day: int | None = None


class DomainVerified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The domain's DNS records were found to be right."""

    TYPE = "domain.verified"
    did: str
    domain: str


class DomainCheckFailed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A verified domain's DNS records were found to be wrong. It may send until the grace time is over."""

    TYPE = "domain.check_failed"
    did: str
    domain: str
    #: Which of the checks, as in `relay.domains.diagnosis.CHECKS`.
    failed: list[str]


class DomainUnverified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The grace time after a failed check is over: the domain may not send until it is verified again."""

    TYPE = "domain.unverified"
    did: str
    domain: str
    failed: list[str]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rate was computed from: the final messages of a domain in (window_start, window_end]."""

    window_start: int
    window_end: int
    #: First and last sequence number of what was counted.
    first_seq: int
    last_seq: int
    final: int
    bounced: int
    complaints: int


class DomainPaused(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing more is accepted from the domain, and what it has queued is held, until the operator resumes it.

    `status` is `paused_bounce_rate`, `paused_complaint_rate` (with the evidence) or `paused` (by the operator).
    """

    TYPE = "domain.paused"
    did: str
    domain: str
    status: str
    evidence: Evidence | None = None
    reason: str | None = None


class DomainResumed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The domain may send again; rates are counted anew from here."""

    TYPE = "domain.resumed"
    did: str
    domain: str
    reason: str | None = None


class ForwardAddress(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: Normal form, as `Recipient.address`.
    address: str


class DomainForwardSet(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Where the domain wants to hear of its bounces from now on (SPEC 6); without a payload: nowhere any more.

    The payload stays until a later one of the domain takes its place: stripped, it would read as taken back.
    """

    TYPE = "domain.forward_set"
    did: str
    domain: str
    #: The member's API key by which it was set; None: by the operator.
    key_id: str | None = None
    personal: ForwardAddress | None = None


# ------------------------------------------------------------------------------------------------ sending


class Content(Personal, frozen=True, kw_only=True, omit_defaults=True):
    """What the member gave us to send, as it was validated; addresses are `Mailbox` strings in normal form."""

    from_name: str = ""
    from_address: str
    reply_to: tuple[str, str] | None = None
    subject: str
    text: str | None = None
    html: str | None = None
    headers: list[tuple[str, str]] = []
    #: The member's own https unsubscribe link, taken out of its List-Unsubscribe header.
    unsubscribe_url: str | None = None
    #: Where the request came from.
    client_address: str | None = None
    #: The suppressed recipients, as given, each with its reason: they are in the answer, and nothing else.
    rejected: list[tuple[str, str]] = []


class SendAccepted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """One request was accepted. The `recipients` records after this one are its `message.queued` events.

    It holds everything that composing needs and that configuration could change later, so that composing the same
    event again gives the same bytes (SPEC 3.1).
    """

    TYPE = "send.accepted"
    did: str
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
    #: SHA-256 (hex) of the Idempotency-Key and of the request's body, where there was a key.
    idempotency_key: str | None = None
    body_sha256: str | None = None
    personal: Content | None = None


class Recipient(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: As the client sent it, byte for byte.
    given: str
    name: str = ""
    #: Normal form: domain in lower-case A-labels, local part as given.
    address: str


class MessageQueued(Event, frozen=True, kw_only=True, omit_defaults=True):
    """One recipient of a send. This record's sequence number is the message id."""

    TYPE = "message.queued"
    did: str
    domain: str
    category: str
    #: 1 for the first recipient: the `send.accepted` record is `index` records before this one.
    index: int
    next_attempt_at: int
    give_up_at: int
    personal: Recipient | None = None


class OperatorsReason(Personal, frozen=True, kw_only=True, omit_defaults=True):
    """Why the operator gave an order. What people type may name people: retention removes it."""

    why: str


class MessageHeld(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The message must not be tried now. Its status stays; it waits to be released.

    `because`: `domain` (its sending domain is paused) or `member` (its member is suspended), found when it came up for
    an attempt, and resuming releases it; or `operator`, who ordered it, and `message.released` releases it. One
    holder holds a message: the operator's hold takes the place of another, which comes back, where it still must, when
    the message comes up again.

    Version 2 has `by` and the reason.
    """

    TYPE = "message.held"
    VERSION = 2
    did: str
    message_id: int
    because: str
    #: The Unix user who gave the order. It stays for good: months later, somebody asks who it was.
    by: str | None = None
    personal: OperatorsReason | None = None


class MessageReleased(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The operator holds the message no more: it is due again at its old time."""

    TYPE = "message.released"
    did: str
    message_id: int
    by: str
    personal: OperatorsReason | None = None


class MessageRescheduled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The operator gave a waiting message another time for its next attempt."""

    TYPE = "message.rescheduled"
    did: str
    message_id: int
    next_attempt_at: int
    by: str
    personal: OperatorsReason | None = None


# ------------------------------------------------------------------------------------------------ suppression


class SuppressedRecipient(Personal, frozen=True, kw_only=True, omit_defaults=True):
    address: str
    #: A free note of the member, beside the reason `manual`.
    note: str | None = None


class RecipientSuppressed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The member's mail may not go to this address any more, for this reason as well as for those it had.

    Its payload stays for the life of the member.
    """

    TYPE = "recipient.suppressed"
    did: str
    #: `unsubscribe`, `complaint` or `manual`.
    reason: str
    #: The message that was complained about, or whose link was followed.
    message_id: int | None = None
    #: When the member's own unsubscribe URL is to be called; None where it gave none.
    call_at: int | None = None
    personal: SuppressedRecipient | None = None


class RecipientUnsuppressed(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The member took back its reasons `unsubscribe` and `manual`."""

    TYPE = "recipient.unsuppressed"
    did: str
    personal: SuppressedRecipient | None = None


class CallResult(Personal, frozen=True, kw_only=True, omit_defaults=True):
    #: What went wrong, in a sentence.
    error: str | None = None


class UnsubscribeCalled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The member's own unsubscribe URL was called, once more or for the last time (`next_attempt_at` None)."""

    TYPE = "unsubscribe.called"
    did: str
    #: The `recipient.suppressed` event that it is about.
    suppressed_seq: int
    message_id: int
    attempt: int
    #: The HTTP status of the answer; None where there was none.
    status: int | None = None
    next_attempt_at: int | None = None
    personal: CallResult | None = None


# ------------------------------------------------------------------------------------------------ delivery


class AttemptStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Durable before the final dot. Without an outcome it was interrupted: tried again at `next_attempt_at`."""

    TYPE = "attempt.started"
    did: str
    message_id: int
    attempt: int
    next_attempt_at: int


class AttemptInterrupted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The relay stopped between `attempt.started` and its outcome: the mail may have been delivered."""

    TYPE = "attempt.interrupted"
    did: str
    message_id: int
    attempt: int
    next_attempt_at: int


class RemoteSide(Personal, frozen=True, kw_only=True, omit_defaults=True):
    """Whom we talked to, and what they said."""

    mx: str | None = None
    address: str | None = None
    #: The reply's text, or what went wrong where there was none.
    text: str | None = None


class Outcome(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What all three outcomes of an attempt record. `attempt` is 0 where none was made."""

    did: str
    message_id: int
    attempt: int
    #: The command that was answered, as in `relay.delivery.smtp.Command`.
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
    next_attempt_at: int


class MessageSent(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    TYPE = "message.sent"
    VERSION = 2


class MessageBounced(Outcome, frozen=True, kw_only=True, omit_defaults=True):
    """`reason`: `rejected` (a 5xx), `undeliverable` (could never work), `expired` (given up), `suppressed`, or
    `cancelled` (by the operator: `by` says who, the payload's text why).

    Version 2 has `by`.
    """

    TYPE = "message.bounced"
    VERSION = 2
    reason: str
    #: The Unix user who cancelled it.
    by: str | None = None


#: The category of notifications. No member can send it.
DSN_CATEGORY = "dsn"


class DsnQueued(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A bounce is made known to its domain's `forward_to`. This record's sequence number is the DSN's message id.

    The `message.bounced` that it is about is the record right before this one, in the same batch: no crash can part
    them, so that no DSN is forgotten and none is made twice.
    """

    TYPE = "dsn.queued"
    category: ClassVar[str] = DSN_CATEGORY
    did: str
    domain: str
    #: The message id of what bounced.
    about: int
    next_attempt_at: int
    give_up_at: int
    #: The operator's domain and the selector stem of its keys: it is the relay that speaks.
    operator_domain: str
    operator_stem: str
    #: Right after the message id in the Message-ID header.
    message_id_entropy: str
    personal: Recipient | None = None


class MessageComplained(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The recipient called the message spam. Its status stays what it was."""

    TYPE = "message.complained"
    did: str
    message_id: int


# ------------------------------------------------------------------------------------------------ retention


class PayloadErased(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The personal data of these messages are gone for everybody from here on.

    `relay.operator.retention` has the whole story. Durable before the first byte of a payload is removed;
    `log.stripped` says that all of them were.
    """

    TYPE = "payload.erased"
    did: str
    #: `retention`: their time was over. `operator`: by an order.
    because: str
    message_ids: list[int] = []
    #: `send.accepted`s without a message: all recipients were rejected. Other sends go with the last of their messages.
    send_ids: list[int] = []
    #: The Unix user who gave the order, and why: kept for good, so it names nobody.
    by: str | None = None
    reason: str | None = None


# ------------------------------------------------------------------------------------------------ the log itself


class TornTailCut(Event, frozen=True, kw_only=True, omit_defaults=True):
    """At start-up, bytes that had never been acknowledged were cut off the end of the log; a copy was kept."""

    TYPE = "log.torn_tail_cut"
    segment: str
    offset: int
    bytes_cut: int
    #: False where LMDB's witness was gone too, so that the log alone had to judge.
    loss_ruled_out: bool


class LogStripped(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The payloads that `payload.erased` events up to this one named are in the log no more."""

    TYPE = "log.stripped"
    #: Sequence number of the last of these `payload.erased`.
    until: int
    #: How many segments were written anew, and what that removed.
    segments: int
    payloads: int
    bytes_freed: int


class ViewsRebuilt(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The views were built again from the log, and why."""

    TYPE = "log.views_rebuilt"
    because: str


EVENT_TYPES: dict[str, type[Event]] = {
    event_type.TYPE: event_type
    for event_type in (
        MemberAdded,
        DomainAdded,
        KeyIssued,
        KeyRevoked,
        MemberSuspended,
        MemberResumed,
        MemberLimitsSet,
        DomainVerified,
        DomainCheckFailed,
        DomainUnverified,
        DomainPaused,
        DomainResumed,
        DomainForwardSet,
        SendAccepted,
        MessageQueued,
        MessageHeld,
        MessageReleased,
        MessageRescheduled,
        RecipientSuppressed,
        RecipientUnsuppressed,
        UnsubscribeCalled,
        MessageComplained,
        AttemptStarted,
        AttemptInterrupted,
        MessageDeferred,
        MessageSent,
        MessageBounced,
        DsnQueued,
        PayloadErased,
        LogStripped,
        TornTailCut,
        ViewsRebuilt,
    )
}
