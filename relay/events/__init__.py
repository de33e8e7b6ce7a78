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
for each. To change an event, give the class the next version and add a pure function to `relay.codec.UPCASTS`, and to
`relay.codec.DOWNCASTS` how nodes get it that run an older version of the relay for a while, or that they get none.

To add an event:

1. Write its class into the module here of what it is about, with `TYPE` and `STREAMED`. The class that it is made from
   (`MessageEvent`, `DomainEvent` ...) says what it is about, `ABOUT`.
2. Name it in the two lists below.
3. Say in `relay.codec.DOWNCASTS` that nodes of an older version cannot read it.
4. Give `tests/golden_events/literals.py` one with a value in every field, and have its file written (README.md there).

That is all that an event needs. It can be written and read, and it has its place: one about a message stands in that
message's timeline, and its payload goes when the message's does; one that is streamed stands in its member's stream
and in `/v1/events`, with its type and what it is about.

What else it means is said where that is decided, and only there: in the view whose rows it changes (`relay.views`, the
fold named `apply`, which is given the classes of events in `minds`); in `relay.presentation.timeline_entry` or
`relay.stream_events.stream_event`, where members are to see more of it than its type; in `tools/log`, where the
operator is to read a sentence instead of its fields.

This room may import nothing of ours. It must never hold anything but words: what follows from an event is decided
above.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.events.base import (
    About,
    DomainEvent,
    Event,
    KeyEvent,
    LogEvent,
    MemberEvent,
    MessageEvent,
    OwnedEvent,
    Personal,
    RecipientEvent,
    RelayEvent,
)
from relay.events.console import ConsoleEpochRaised
from relay.events.delivery import (
    RECIPIENT_CLASSES,
    RELAY_CLASSES,
    AttemptInterrupted,
    AttemptStarted,
    MessageBounced,
    MessageDeferred,
    MessageSent,
    Outcome,
    RemoteSide,
)
from relay.events.handles import (
    HandleEvent,
    MemberHandleCheckFailed,
    MemberHandleLost,
    MemberHandleSet,
    MemberHandleVerified,
)
from relay.events.inbound import (
    ForwardQueued,
    IncomingMail,
    MailReceived,
    MessageBounceReported,
    MessageComplained,
    ReportDetails,
)
from relay.events.log import LogStripped, PayloadErased, TornTailCut, ViewsRebuilt
from relay.events.members import (
    DomainAdded,
    DomainCheckFailed,
    DomainForwardConfirmed,
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
from relay.events.network import ProviderReported, SourceDelisted, SourceListed
from relay.events.nodes import NodeLeads
from relay.events.queue import HeldReleased, MessageHeld, MessageReleased, MessageRescheduled, OperatorsReason
from relay.events.removal import DomainRemoved, MemberRemoved
from relay.events.rotation import (
    DomainKeyCreated,
    DomainKeySwitched,
    OperatorKeyCreated,
    OperatorKeySwitched,
    PepperRotated,
    SigningKeyDeleted,
)
from relay.events.sending import (
    ALARM_CATEGORY,
    BULK_CATEGORIES,
    CONFIRMATION_CATEGORY,
    DSN_CATEGORY,
    FORWARD_CATEGORY,
    NOBODY,
    NOTICE_CATEGORIES,
    TRANSACTIONAL_CATEGORIES,
    WEBHOOK_CATEGORY,
    Addressee,
    AlarmQueued,
    Attachment,
    Calendar,
    ConfirmationQueued,
    Content,
    DsnQueued,
    Heading,
    MessageQueued,
    Notice,
    OwnNotice,
    Recipient,
    SendAccepted,
    WebhookNoticeQueued,
)
from relay.events.suppression import (
    CallResult,
    RecipientSuppressed,
    RecipientUnsuppressed,
    SuppressedRecipient,
    UnsubscribeCalled,
)
from relay.events.webhooks import (
    WebhookAdded,
    WebhookDisabled,
    WebhookEvent,
    WebhookOrder,
    WebhookPaused,
    WebhookProgressed,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSecretRotated,
    WebhookSkipped,
    WebhookUrl,
)

__all__ = [
    "ALARM_CATEGORY",
    "BULK_CATEGORIES",
    "CONFIRMATION_CATEGORY",
    "DSN_CATEGORY",
    "EVENT_TYPES",
    "FORWARD_CATEGORY",
    "NOBODY",
    "NOTICE_CATEGORIES",
    "RECIPIENT_CLASSES",
    "RELAY_CLASSES",
    "TRANSACTIONAL_CATEGORIES",
    "WEBHOOK_CATEGORY",
    "About",
    "Addressee",
    "AlarmQueued",
    "Attachment",
    "AttemptInterrupted",
    "AttemptStarted",
    "Calendar",
    "CallResult",
    "ConfirmationQueued",
    "ConsoleEpochRaised",
    "Content",
    "DomainAdded",
    "DomainCheckFailed",
    "DomainEvent",
    "DomainForwardConfirmed",
    "DomainForwardSet",
    "DomainKeyCreated",
    "DomainKeySwitched",
    "DomainPaused",
    "DomainRemoved",
    "DomainResumed",
    "DomainUnverified",
    "DomainVerified",
    "DsnQueued",
    "Event",
    "Evidence",
    "ForwardAddress",
    "ForwardQueued",
    "HandleEvent",
    "Heading",
    "HeldReleased",
    "IncomingMail",
    "KeyEvent",
    "KeyIssued",
    "KeyRevoked",
    "LogEvent",
    "LogStripped",
    "MailReceived",
    "MemberAdded",
    "MemberEvent",
    "MemberHandleCheckFailed",
    "MemberHandleLost",
    "MemberHandleSet",
    "MemberHandleVerified",
    "MemberLimitsSet",
    "MemberRemoved",
    "MemberResumed",
    "MemberSuspended",
    "MessageBounceReported",
    "MessageBounced",
    "MessageComplained",
    "MessageDeferred",
    "MessageEvent",
    "MessageHeld",
    "MessageQueued",
    "MessageReleased",
    "MessageRescheduled",
    "MessageSent",
    "NodeLeads",
    "Notice",
    "OperatorKeyCreated",
    "OperatorKeySwitched",
    "OperatorsReason",
    "Outcome",
    "OwnNotice",
    "OwnedEvent",
    "PayloadErased",
    "PepperRotated",
    "Personal",
    "ProviderReported",
    "Recipient",
    "RecipientEvent",
    "RecipientSuppressed",
    "RecipientUnsuppressed",
    "RelayEvent",
    "RemoteSide",
    "ReportDetails",
    "SendAccepted",
    "SigningKeyDeleted",
    "SourceDelisted",
    "SourceListed",
    "SuppressedRecipient",
    "TornTailCut",
    "UnsubscribeCalled",
    "ViewsRebuilt",
    "WebhookAdded",
    "WebhookDisabled",
    "WebhookEvent",
    "WebhookNoticeQueued",
    "WebhookOrder",
    "WebhookPaused",
    "WebhookProgressed",
    "WebhookRemoved",
    "WebhookResumed",
    "WebhookRewound",
    "WebhookSecretRotated",
    "WebhookSkipped",
    "WebhookUrl",
]


def _kinds(of: type[Event]) -> Iterator[type[Event]]:
    """The classes of events that can stand in a log, in the order in which they are defined."""
    for kind in of.__subclasses__():
        if "TYPE" in vars(kind):
            yield kind
        yield from _kinds(kind)


#: By what stands in the log.
EVENT_TYPES: dict[str, type[Event]] = {kind.TYPE: kind for kind in _kinds(Event)}
