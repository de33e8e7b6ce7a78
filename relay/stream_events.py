"""One event as its member sees it on the stream and in `/v1/events`: the JSON shape, and nothing else.

An event of a message is its timeline entry with `messageId` and `recipient`. As there, the member is told why the
operator did something, but not which of the operator's people it was. What was personal is null once retention has
removed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from relay.codec import Recorded
from relay.events import (
    DomainCheckFailed,
    DomainEvent,
    DomainForwardConfirmed,
    DomainForwardSet,
    DomainPaused,
    DomainRemoved,
    DomainResumed,
    DomainUnverified,
    Evidence,
    HandleEvent,
    MemberAdded,
    MemberHandleCheckFailed,
    MemberHandleLost,
    MemberHandleSet,
    MemberLimitsSet,
    MemberRemoved,
    MemberResumed,
    MemberSuspended,
    MessageQueued,
    Notice,
    RecipientSuppressed,
    RecipientUnsuppressed,
)
from relay.presentation import TimelineEntry, metadata_of, timeline_entry
from relay.times import rfc3339
from relay.views.messages import message_id_of


class RateEvidence(msgspec.Struct, rename="camel"):
    """What the rate of a paused domain was computed from: its final messages in that window."""

    window_start: str
    window_end: str
    first_seq: int
    last_seq: int
    final: int
    bounced: int
    complaints: int


class StreamEvent(TimelineEntry, rename="camel", omit_defaults=True, kw_only=True):
    """One event of the member: of one of its messages, of its suppression list, of a domain, or of the member itself.

    `status` is that of what the event is about, where the event sets it: the message, the domain or the member.
    """

    recipient: str | UnsetType | None = UNSET
    #: With what is about a message of the member's: what stands for all messages of its send, and the words by which
    #: the member knows it.
    send_id: int | None = None
    tag: str | None = None
    metadata: dict[str, str] | None = None
    domain: str | None = None
    #: With `domain.check_failed` and `domain.unverified`: the DNS checks that failed. With `member.handle_check_failed`
    #: and `member.handle_lost`: `handle` does not name the DID, `document` does not name the handle.
    failed: list[str] | None = None
    #: With a `domain.paused` for a rate.
    evidence: RateEvidence | None = None
    #: With `domain.forward_set`; null: nobody is told of bounces any more.
    forward_to: str | UnsetType | None = UNSET
    #: With `domain.forward_set` and `domain.forward_confirmed`: whether the mailbox's owner wants that. Until then
    #: nobody is told.
    forward_confirmed: bool | None = None
    key_id: str | None = None
    #: With `recipient.suppressed`: the member's own.
    note: str | None = None
    #: With what happens to the member's handle.
    handle: str | None = None
    #: With `member.handle_set`: whether it was seen to be the DID's. Else that is found out soon.
    handle_proved: bool | None = None
    #: With `member.limits_set`; both null: those of the domains' age again.
    hour: int | UnsetType | None = UNSET
    day: int | UnsetType | None = UNSET


class EventPage(msgspec.Struct, omit_defaults=True):
    events: list[StreamEvent]
    #: Go on from here: the last event's sequence number, or what was asked with where there is none.
    cursor: int
    #: `OutdatedCursor`, and a sentence: something is missing before the first event.
    info: str | None = None
    message: str | None = None


class Labels(NamedTuple):
    """What each event of a message says of it."""

    #: None, as `metadata`, where retention has removed it.
    recipient: str | None
    send_id: int | None = None
    tag: str | None = None
    metadata: dict[str, str] | None = None


def labels_of(queued: Recorded) -> Labels:
    """Of the event by which a message was queued."""
    event = queued.event
    assert isinstance(event, MessageQueued | Notice)
    recipient = None if event.personal is None else event.personal.address
    if isinstance(event, Notice):
        return Labels(recipient)
    return Labels(recipient, queued.seq - event.index, event.tag, metadata_of(event))


def stream_event(recorded: Recorded, labels: Callable[[int], Labels]) -> StreamEvent:
    """`labels` finds what is said of a message."""
    event = recorded.event
    assert event.STREAMED, f"{event.TYPE} is in no member's stream"
    if event.ABOUT == "message":
        return _of_message(recorded, labels)
    shown = StreamEvent(seq=recorded.seq, time=rfc3339(recorded.time_us), type=event.TYPE)
    match event:
        case RecipientSuppressed() | RecipientUnsuppressed():
            _describe_suppression(shown, event)
        case MemberAdded():
            shown.status = "active"
        case MemberSuspended() | MemberResumed():
            shown.status = "suspended" if isinstance(event, MemberSuspended) else "active"
            shown.reason = event.reason
        case MemberRemoved():
            shown.status = "removed"
            shown.reason = None if event.personal is None else event.personal.why
        case HandleEvent():
            _describe_handle(shown, event)
        case MemberLimitsSet():
            shown.hour, shown.day = event.hour, event.day
        case DomainEvent():
            shown.domain = event.domain
            _describe_domain(shown, event)
        case _:
            pass  # its type says it all
    return shown


def rate_evidence(evidence: Evidence) -> RateEvidence:
    fields = msgspec.structs.asdict(evidence)
    fields["window_start"] = rfc3339(evidence.window_start)
    fields["window_end"] = rfc3339(evidence.window_end)
    return RateEvidence(**fields)


def _of_message(recorded: Recorded, labels: Callable[[int], Labels]) -> StreamEvent:
    message_id = message_id_of(recorded)
    entry = timeline_entry(recorded, message_id)
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    fields["message_id"] = message_id
    return StreamEvent(**fields, **labels(message_id)._asdict())


def _describe_suppression(shown: StreamEvent, event: RecipientSuppressed | RecipientUnsuppressed) -> None:
    shown.recipient = None if event.personal is None else event.personal.address
    if isinstance(event, RecipientSuppressed):
        shown.message_id = event.message_id
        shown.reason = event.reason
        shown.note = None if event.personal is None else event.personal.note


def _describe_handle(shown: StreamEvent, event: HandleEvent) -> None:
    """Without who else holds or held it."""
    shown.handle = event.handle
    match event:
        case MemberHandleSet():
            shown.handle_proved = event.proved
        case MemberHandleCheckFailed():
            shown.failed = event.failed
        case MemberHandleLost():
            shown.because, shown.failed = event.because, event.failed
        case _:
            pass


def _describe_domain(shown: StreamEvent, event: DomainEvent) -> None:
    match event:
        case DomainCheckFailed() | DomainUnverified():
            shown.failed = event.failed
        case DomainPaused():
            shown.status, shown.reason = event.status, event.reason
            shown.evidence = None if event.evidence is None else rate_evidence(event.evidence)
        case DomainResumed():
            shown.status, shown.reason = "active", event.reason
        case DomainRemoved():
            shown.status, shown.because = "removed", event.because
            shown.reason = None if event.personal is None else event.personal.why
        case DomainForwardSet():
            shown.forward_to = None if event.personal is None else event.personal.address
            shown.key_id = event.key_id
            if event.personal is not None:
                shown.forward_confirmed = event.key_id is None
        case DomainForwardConfirmed():
            shown.forward_confirmed = True
        case _:
            pass
