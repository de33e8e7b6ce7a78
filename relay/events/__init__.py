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

from collections.abc import Iterator

from relay.events.base import Event, Personal
from relay.events.delivery import (
    AttemptInterrupted,
    AttemptStarted,
    MessageBounced,
    MessageComplained,
    MessageDeferred,
    MessageSent,
    Outcome,
    RemoteSide,
)
from relay.events.log import LogStripped, PayloadErased, TornTailCut, ViewsRebuilt
from relay.events.members import (
    DomainAdded,
    DomainCheckFailed,
    DomainForwardSet,
    DomainPaused,
    DomainResumed,
    DomainUnverified,
    DomainVerified,
    Evidence,
    ForwardAddress,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MemberLimitsSet,
    MemberResumed,
    MemberSuspended,
)
from relay.events.queue import MessageHeld, MessageReleased, MessageRescheduled, OperatorsReason
from relay.events.sending import (
    BULK_CATEGORIES,
    DSN_CATEGORY,
    TRANSACTIONAL_CATEGORIES,
    Content,
    DsnQueued,
    MessageQueued,
    Recipient,
    SendAccepted,
)
from relay.events.suppression import (
    CallResult,
    RecipientSuppressed,
    RecipientUnsuppressed,
    SuppressedRecipient,
    UnsubscribeCalled,
)

__all__ = [
    "BULK_CATEGORIES",
    "DSN_CATEGORY",
    "EVENT_TYPES",
    "TRANSACTIONAL_CATEGORIES",
    "AttemptInterrupted",
    "AttemptStarted",
    "CallResult",
    "Content",
    "DomainAdded",
    "DomainCheckFailed",
    "DomainForwardSet",
    "DomainPaused",
    "DomainResumed",
    "DomainUnverified",
    "DomainVerified",
    "DsnQueued",
    "Event",
    "Evidence",
    "ForwardAddress",
    "KeyIssued",
    "KeyRevoked",
    "LogStripped",
    "MemberAdded",
    "MemberLimitsSet",
    "MemberResumed",
    "MemberSuspended",
    "MessageBounced",
    "MessageComplained",
    "MessageDeferred",
    "MessageHeld",
    "MessageQueued",
    "MessageReleased",
    "MessageRescheduled",
    "MessageSent",
    "OperatorsReason",
    "Outcome",
    "PayloadErased",
    "Personal",
    "Recipient",
    "RecipientSuppressed",
    "RecipientUnsuppressed",
    "RemoteSide",
    "SendAccepted",
    "SuppressedRecipient",
    "TornTailCut",
    "UnsubscribeCalled",
    "ViewsRebuilt",
]


def _kinds(of: type[Event]) -> Iterator[type[Event]]:
    """The classes of events that can stand in a log, in the order in which they are defined."""
    for kind in of.__subclasses__():
        if "TYPE" in vars(kind):
            yield kind
        yield from _kinds(kind)


#: By what stands in the log.
EVENT_TYPES: dict[str, type[Event]] = {kind.TYPE: kind for kind in _kinds(Event)}
