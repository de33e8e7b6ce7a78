"""Events and states as clients see them (SPEC 11): the JSON shapes of the API, and nothing else.

The same types are encoded, and described in `/openapi.json`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from relay.codec import Recorded
from relay.events import (
    AlarmQueued,
    AttemptInterrupted,
    AttemptStarted,
    ConfirmationQueued,
    DsnQueued,
    Event,
    ForwardQueued,
    MailReceived,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageHeld,
    MessageQueued,
    MessageReleased,
    MessageRescheduled,
    MessageSent,
    Notice,
    Outcome,
    ReportDetails,
    SendAccepted,
    WebhookNoticeQueued,
)
from relay.message import alarm_notice, confirmation, dsn, forward, notice, webhook_notice
from relay.message.advice import report_advice
from relay.times import rfc3339, rfc3339_or_none
from relay.views.messages import MessageState
from relay.views.suppressions import Suppression


class Accepted(msgspec.Struct, rename="camel"):
    #: As the client sent it, byte for byte.
    recipient: str
    message_id: int


class Rejected(msgspec.Struct, rename="camel"):
    recipient: str
    code: str
    #: The same text twice: clients in the wild read either.
    error: str
    reason: str


_SUPPRESSED_BECAUSE = {
    "unsubscribe": "the recipient unsubscribed from your mail",
    "complaint": "the recipient reported your mail as spam",
    "manual": "you suppressed this recipient",
    "bounced": "a mail to this recipient bounced, because there is no such mailbox any more",
}


def rejected_recipient(given: str, reason: str) -> Rejected:
    """A recipient on the member's suppression list, for this reason."""
    sentence = f"suppressed ({reason}): {_SUPPRESSED_BECAUSE[reason]}"
    return Rejected(given, "RECIPIENT_SUPPRESSED", sentence, sentence)


class SendAnswer(msgspec.Struct, rename="camel"):
    accepted: list[Accepted]
    rejected: list[Rejected]


class ErrorAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    error: str
    code: str
    #: With INTERNAL_ERROR: what to look for in the relay's log.
    request_id: str | None = None


class Reply(msgspec.Struct, rename="camel"):
    code: int | None
    enhanced: str | None
    text: str | None
    mx: str | None
    #: Why not, in one word of docs/BOUNCE_CLASSES.md.
    bounce_class: str | None


class Tls(msgspec.Struct, rename="camel"):
    version: str
    cipher: str | None
    certificate: str | None


class Report(msgspec.Struct, rename="camel"):
    """What somebody reported of a message, by mail, after its receiver had taken it. The message's status stays.

    All of it is what the report says, but for `seq`, `time` (when it came), `counts`, `bounceClass` and `advice`.
    """

    seq: int
    time: str
    #: `dsn`, `dsn_utf8`, `heuristic` (a bounce in no form that there is for it), `auto_reply`, `unknown` ...
    kind: str
    #: `failed`, `delayed`, `delivered`, `relayed` or `expanded`; null: it says none of them.
    reported_action: str | None
    enhanced: str | None
    code: int | None
    #: Why, in one word of docs/BOUNCE_CLASSES.md.
    bounce_class: str | None
    #: Of a provider's report that is no complaint, as `not-spam`.
    feedback_type: str | None
    #: Who reports, and whom it had asked.
    reporting_mta: str | None
    remote_mta: str | None
    #: In its own words.
    diagnostic: str | None
    #: It is the one that counts as a bounce does.
    counts: bool
    #: What to do, in a sentence.
    advice: str


class TimelineEntry(msgspec.Struct, rename="camel", omit_defaults=True):
    """One event of a message. `status` is there where the event sets it.

    A `dsn.queued` is in two timelines: its own, and that of the message that it is `about`.
    """

    seq: int
    time: str
    type: str
    status: str | None = None
    #: With `dsn.queued`: the DSN's, and that of the message whose bounce it tells of.
    message_id: int | None = None
    about: int | None = None
    attempt: int | None = None
    reply: Reply | None = None
    next_attempt_at: str | None = None
    reason: str | None = None
    because: str | None = None
    command: str | None = None
    mx_address: str | None = None
    tls: Tls | None = None
    duration_ms: float | None = None
    sha256: str | None = None
    size: int | None = None
    #: With `message.bounce_reported`.
    report: Report | None = None
    #: With `message.complained`: how it came, `report` or `operator`; who signed the report, if it is one that is
    #: believed; which feedback it is (RFC 5965); and whether it counts as a complaint, or only as an unsubscribe.
    via: str | None = None
    provider: str | None = None
    feedback_type: str | None = None
    authenticated: bool | None = None


class MessageSummary(msgspec.Struct, rename="camel", kw_only=True):
    """A message as it is now. What was personal is null once retention has removed it.

    Of mail that came in and is passed on (category `forward`), `from` and `subject` are what its own header says, where
    it says one thing; `recipient` is the mailbox that it goes to.
    """

    message_id: int
    #: What stands for all messages of its send; null: nobody sent it.
    send_id: int | None
    status: str
    category: str
    sender: str | None = msgspec.field(name="from")
    recipient: str | None
    subject: str | None
    #: The door that it came in by, `http` or `smtp`; null: a notification, or mail that is passed on.
    via: str | None
    #: False: a recipient of a conversation whom nobody sees (`bcc`).
    shown: bool
    tag: str | None
    #: The member's own words; null: there are none.
    metadata: dict[str, str] | None
    #: The time that the member has chosen.
    scheduled_at: str | None
    accepted_at: str
    attempts: int
    next_attempt_at: str | None
    last_reply: Reply | None


class MessageDetail(MessageSummary, rename="camel", kw_only=True):
    #: In the order in which they came.
    reports: list[Report]
    timeline: list[TimelineEntry]


class MessagePage(msgspec.Struct, rename="camel"):
    messages: list[MessageSummary]
    next: str | None


class SuppressionReason(msgspec.Struct, rename="camel", omit_defaults=True):
    reason: str
    since: str
    #: Of its `recipient.suppressed` event.
    seq: int
    #: The member's own, beside `manual`.
    note: str | None = None


class SuppressedAddress(msgspec.Struct, rename="camel"):
    """An address on the member's suppression list. `reason`, `since` and `seq` are those of the first of `reasons`."""

    recipient: str
    reason: str
    since: str
    seq: int
    #: All that hold, in the order in which they came.
    reasons: list[SuppressionReason]


class SuppressionPage(msgspec.Struct, rename="camel"):
    suppressions: list[SuppressedAddress]
    next: str | None


def suppressed_address(state: Suppression) -> SuppressedAddress:
    reasons = [
        SuppressionReason(reason.reason, rfc3339(reason.since), reason.seq, reason.note)
        for reason in state.reasons
    ]
    first = reasons[0]
    return SuppressedAddress(state.address, first.reason, first.since, first.seq, reasons)


class MemberDomain(msgspec.Struct):
    domain: str
    status: str
    verified: bool
    #: Who is told of its bounces; null: nobody.
    forward_to: str | None
    #: Whether its owner has confirmed that; until then nobody is told.
    forward_confirmed: bool


class ForwardTo(msgspec.Struct):
    """Who is told of a domain's bounces, once its owner has confirmed it by the link in a mail; null: nobody."""

    domain: str
    forward_to: str | None
    forward_confirmed: bool


class MemberStatus(msgspec.Struct):
    """`status` is `active`, `paused...` (every one of its domains is paused) or `suspended`."""

    did: str
    status: str
    labels: list[str]
    domains: list[MemberDomain]
    #: By which the member may log in over SMTP; null: it has none.
    handle: str | None
    #: Whether it was seen to be the DID's.
    handle_proved: bool


class DomainLimits(msgspec.Struct):
    """What one of the member's domains may do now."""

    domain: str
    status: str
    verified: bool
    #: With a paused one: `all`, or `bulk` where the transactional class goes on.
    stops: str | None
    #: Of an active domain, those of its age or of the member. 0 while nothing may be sent; while only the bulk class is
    #: stopped, what is left to the transactional one.
    hourly_limit: int
    daily_limit: int


class Deliverability(msgspec.Struct):
    """The names are those that clients in the wild read. Days are UTC, the oldest first, today last."""

    did: str
    status: str
    sent_14d: int
    bounced_14d: int
    complaints_14d: int
    bounce_rate: float
    daily_sends: list[int]
    hourly_limit: int
    daily_limit: int
    labels: list[str]
    #: Each by itself; the two limits above are the sums of those of the active ones.
    domains: list[DomainLimits]


def timeline_entry(recorded: Recorded, message_id: int) -> TimelineEntry:
    """The event as it stands in the timeline of this message, as its member sees it: why the operator did something,
    but not which of the operator's people it was."""
    event = recorded.event
    assert event.ABOUT == "message", f"{event.TYPE} is in no message's timeline"
    entry = TimelineEntry(recorded.seq, rfc3339(recorded.time_us), event.TYPE)
    match event:
        case MessageQueued():
            entry.status = "queued"
            entry.next_attempt_at = rfc3339(event.next_attempt_at) if event.scheduled else None
        case DsnQueued():
            entry.message_id, entry.about = recorded.seq, event.about
            entry.status = "queued" if message_id == recorded.seq else None
        case ConfirmationQueued() | ForwardQueued() | WebhookNoticeQueued() | AlarmQueued():
            entry.status = "queued"
        case AttemptStarted() | AttemptInterrupted():
            entry.attempt = event.attempt
            if isinstance(event, AttemptInterrupted):
                entry.next_attempt_at = rfc3339(event.next_attempt_at)
        case Outcome():
            _describe_outcome(entry, event)
        case MessageHeld():
            entry.because = event.because
            entry.reason = None if event.personal is None else event.personal.why
        case MessageReleased() | MessageRescheduled():
            entry.reason = None if event.personal is None else event.personal.why
            if isinstance(event, MessageRescheduled):
                entry.next_attempt_at = rfc3339(event.next_attempt_at)
        case MessageBounceReported():
            entry.report = report_of(recorded)
            entry.reason = None if event.personal is None else event.personal.why
        case MessageComplained():
            entry.via, entry.provider = event.via, event.provider
            entry.feedback_type, entry.authenticated = event.feedback_type, event.authenticated
            entry.reason = None if event.personal is None else event.personal.why
        case _:
            pass  # its type says it all
    return entry


def report_of(recorded: Recorded) -> Report:
    """Without where it was handed in: that is for the operator to know."""
    event = recorded.event
    assert isinstance(event, MessageBounceReported)
    details = event.personal or ReportDetails()
    return Report(
        seq=recorded.seq,
        time=rfc3339(recorded.time_us),
        kind=event.kind,
        reported_action=event.action,
        enhanced=event.enhanced,
        code=event.code,
        bounce_class=event.bounce_class,
        feedback_type=event.feedback_type,
        reporting_mta=details.reporting_mta,
        remote_mta=details.remote_mta,
        diagnostic=details.diagnostic,
        counts=event.counts,
        advice=report_advice(event),
    )


def _describe_outcome(entry: TimelineEntry, event: Outcome) -> None:
    entry.attempt = event.attempt or None
    entry.reply = reply_of(event)
    entry.command = event.command
    entry.mx_address = None if event.personal is None else event.personal.address
    if event.tls_version is not None:
        entry.tls = Tls(event.tls_version, event.tls_cipher, event.tls_certificate)
    entry.duration_ms = event.duration_us / 1000
    entry.sha256 = event.sha256
    entry.size = event.size
    match event:
        case MessageDeferred():
            entry.status = "deferred"
            entry.next_attempt_at = rfc3339(event.next_attempt_at)
        case MessageSent():
            entry.status = "sent"
        case MessageBounced():
            entry.status = "bounced"
            entry.reason = event.reason


def reply_of(event: Outcome) -> Reply:
    remote = event.personal
    return Reply(
        event.code,
        event.enhanced,
        None if remote is None else remote.text,
        None if remote is None else remote.mx,
        event.bounce_class,
    )


def mailbox(name: str, address: str) -> str:
    return f"{name} <{address}>" if name else address


def _subject_of_notice(notice: Notice) -> str:
    match notice:
        case DsnQueued():
            return dsn.SUBJECT
        case WebhookNoticeQueued():
            return webhook_notice.SUBJECT
        case AlarmQueued():
            return alarm_notice.subject(notice)
        case _:
            return confirmation.SUBJECT


def message_summary(state: MessageState, get: Callable[[int], Recorded]) -> MessageSummary:
    """`get` reads an event of the log by its sequence number: what is personal is only there."""
    queued = get(state.message_id).event
    assert isinstance(queued, MessageQueued | Notice)
    sender: str | None
    subject: str | None
    via: str | None = None
    metadata: dict[str, str] | None = None
    if isinstance(queued, ForwardQueued):
        sender, subject = _sender_and_subject_of_forward(get(state.message_id - 1).event)
    elif isinstance(queued, Notice):
        own = notice.sender(queued.operator_domain)
        sender = mailbox(own.name, own.address)
        subject = _subject_of_notice(queued)
    else:
        sender, subject, via = _heading(queued, state, get)
        metadata = metadata_of(queued)
    last_reply = None
    if state.outcome_seq is not None:
        outcome = get(state.outcome_seq).event
        assert isinstance(outcome, Outcome)
        last_reply = reply_of(outcome)
    return MessageSummary(
        message_id=state.message_id,
        send_id=None if state.is_notice else state.send_seq,
        status=state.status,
        category=state.category,
        sender=sender,
        recipient=None if queued.personal is None else queued.personal.address,
        subject=subject,
        via=via,
        shown=queued.shown if isinstance(queued, MessageQueued) else True,
        tag=state.tag,
        metadata=metadata,
        scheduled_at=rfc3339_or_none(state.scheduled_at),
        accepted_at=rfc3339(state.accepted_at),
        attempts=state.attempts,
        next_attempt_at=rfc3339_or_none(state.next_attempt_at),
        last_reply=last_reply,
    )


def metadata_of(queued: MessageQueued) -> dict[str, str] | None:
    return None if queued.personal is None else queued.personal.metadata or None


def _heading(
    queued: MessageQueued, state: MessageState, get: Callable[[int], Recorded]
) -> tuple[str | None, str | None, str]:
    """From, subject, and the door that it came in by. Of a large send all of it stands with the message."""
    if queued.personal is not None and queued.personal.heading is not None:
        heading = queued.personal.heading
        return mailbox(heading.from_name, heading.from_address), heading.subject, heading.via
    accepted = get(state.send_seq).event
    assert isinstance(accepted, SendAccepted)
    content = accepted.personal
    if content is None:
        return None, None, accepted.via
    return mailbox(content.from_name, content.from_address), content.subject, accepted.via


def _sender_and_subject_of_forward(received: Event) -> tuple[str | None, str | None]:
    assert isinstance(received, MailReceived)
    if received.personal is None:
        return None, None
    found, subject = forward.from_and_subject(received.personal.raw)
    return None if found is None else mailbox(found.name, found.address), subject


def message_detail(state: MessageState, timeline: list[int], get: Callable[[int], Recorded]) -> MessageDetail:
    summary = message_summary(state, get)
    fields = {name: getattr(summary, name) for name in summary.__struct_fields__}
    entries = [timeline_entry(get(seq), state.message_id) for seq in timeline]
    reports = [entry.report for entry in entries if entry.report is not None]
    return MessageDetail(**fields, reports=reports, timeline=entries)
