"""What retention has to do: whose time is running, whose payloads are owed to nobody any more, what crashes left lying.

Nothing here comes from a payload, so these rows are the same whether the log is folded before or after a strip.

Some payloads belong to no message: why a domain or a member was removed, the URL of a webhook, and the mailbox of a
`domain.forward_set`. The reason is over when it is recorded; the URL when the webhook is removed; the mailbox when the
domain is removed, or hears of its bounces elsewhere. While it names the same mailbox again, the earlier records stay,
too: the confirmation of its owner hangs on the first of them (`relay.views.members`), and a fold that could not read it
would lose that. So of one mailbox all go, the oldest first.

Reports that came in as mail (`message.bounce_reported`, `message.complained`) are in the story of their message, but
have a time of their own, which begins when they come: also where the message's personal data are long gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from heapq import merge

from relay.codec import Recorded
from relay.events import (
    DomainForwardSet,
    DomainRemoved,
    LogStripped,
    MemberRemoved,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageSent,
    PayloadErased,
    SendAccepted,
    TornTailCut,
    UnsubscribeCalled,
    WebhookAdded,
    WebhookRemoved,
)
from relay.views import members, messages
from relay.views.keys import owned, read_u64, two_u64, u64
from spool.views import Snapshot, Transaction

#: (time, message id) of the messages that became final then and have their personal data
_FINAL = "retention_final"
#: `send.accepted` without a message -> its time
_SENDS = "retention_sends"
#: (message id, sequence number) of its `unsubscribe.called`, which are not in its timeline
_CALLS = "retention_calls"
#: record of no message whose payload is needed no more -> since when; and the member whose it is
_SINGLE = "retention_single"
#: report that came in as mail -> when; and the member whose message it is about
_REPORTS = "retention_reports"
#: (member, domain, sequence number) of the `domain.forward_set` that name the mailbox in use
_MAILBOX = "retention_mailbox"
#: webhook id -> its `webhook.added`
_URL = "retention_url"
#: `payload.erased` whose payloads may still be in the log
_OWED = "retention_owed"
#: (time, sequence number) of a torn tail that was cut -> how the names of its copies begin
_TORN = "retention_torn"


class RetentionProjector:
    name = "retention"
    version = 4
    tables = (_FINAL, _SENDS, _CALLS, _SINGLE, _REPORTS, _MAILBOX, _URL, _OWED, _TORN)
    minds = (
        MessageSent,
        MessageBounced,
        MessageBounceReported,
        MessageComplained,
        SendAccepted,
        UnsubscribeCalled,
        DomainForwardSet,
        DomainRemoved,
        MemberRemoved,
        WebhookAdded,
        WebhookRemoved,
        PayloadErased,
        LogStripped,
        TornTailCut,
    )

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case MessageSent() | MessageBounced():
                state = messages.message(tx, event.message_id)
                assert state is not None
                if state.outcome_seq == recorded.seq:  # a second outcome changes nothing
                    tx.put(_FINAL, two_u64(recorded.time_us, event.message_id), b"")
            case SendAccepted() if event.recipients == 0:
                tx.put(_SENDS, u64(recorded.seq), u64(recorded.time_us))
            # What the operator says by hand has no payload.
            case MessageBounceReported() | MessageComplained() if event.sha256 is not None:
                tx.put(_REPORTS, u64(recorded.seq), u64(recorded.time_us) + event.did.encode())
            case UnsubscribeCalled():
                tx.put(_CALLS, two_u64(event.message_id, recorded.seq), b"")
            case DomainForwardSet():
                enrolled = members.enrolment(tx, event.did, event.domain)
                assert enrolled is not None
                if enrolled.forward_seq == recorded.seq:  # another mailbox, or none
                    self._mailbox_unused(tx, recorded, event)
                tx.put(_MAILBOX, _of_domain(event) + u64(recorded.seq), b"")
            case DomainRemoved():
                self._mailbox_unused(tx, recorded, event)
                self._over(tx, recorded.seq, recorded.time_us, event.did)
            case WebhookAdded():
                tx.put(_URL, event.webhook_id.encode(), u64(recorded.seq))
            case WebhookRemoved():
                self._url_unused(tx, recorded, event)
            case MemberRemoved():
                self._over(tx, recorded.seq, recorded.time_us, event.did)
            case PayloadErased():
                self._erased(tx, event)
                tx.put(_OWED, u64(recorded.seq), b"")
            case LogStripped():
                for key, _ in list(tx.scan(_OWED, b"", u64(event.until + 1))):
                    tx.delete(_OWED, key)
            case TornTailCut():
                stem = f"{event.segment.removesuffix('.seg')}-{event.offset}."
                tx.put(_TORN, two_u64(recorded.time_us, recorded.seq), stem.encode())
            case _:
                pass

    def _erased(self, tx: Transaction, event: PayloadErased) -> None:
        for message_id in event.message_ids:
            state = messages.message(tx, message_id)
            assert state is not None, f"{event.TYPE} for message {message_id}, which was never queued"
            assert state.final_at is not None, f"{event.TYPE} for message {message_id}, which is not final"
            tx.delete(_FINAL, two_u64(state.final_at, message_id))
        for seq in event.send_ids:
            tx.delete(_SENDS, u64(seq))
        for seq in event.seqs:
            tx.delete(_SINGLE, u64(seq))
            tx.delete(_REPORTS, u64(seq))

    def _mailbox_unused(
        self, tx: Transaction, recorded: Recorded, event: DomainForwardSet | DomainRemoved
    ) -> None:
        for key, _ in list(tx.scan_prefix(_MAILBOX, _of_domain(event))):
            tx.delete(_MAILBOX, key)
            self._over(tx, read_u64(key, len(key) - 8), recorded.time_us, event.did)

    def _url_unused(self, tx: Transaction, recorded: Recorded, event: WebhookRemoved) -> None:
        added = tx.get(_URL, event.webhook_id.encode())
        if added is not None:
            tx.delete(_URL, event.webhook_id.encode())
            self._over(tx, read_u64(added), recorded.time_us, event.did)

    def _over(self, tx: Transaction, seq: int, time_us: int, did: str) -> None:
        tx.put(_SINGLE, u64(seq), u64(time_us) + did.encode())


def _of_domain(event: DomainForwardSet | DomainRemoved) -> bytes:
    return owned(event.did) + hashlib.sha256(event.domain.encode()).digest()[:16]


def final_until(
    view: Snapshot, time_us: int, *, after: tuple[int, int] = (0, 0)
) -> Iterator[tuple[int, int]]:
    """(time, message id) of those that became final up to that time and have their personal data, in this order.
    `after` is the one to go on behind."""
    start = two_u64(after[0], after[1] + 1)
    for key, _ in view.scan(_FINAL, start, u64(time_us + 1)):
        yield read_u64(key), read_u64(key, 8)


def sends_without_messages(view: Snapshot, time_us: int, *, after: int = 0) -> Iterator[int]:
    """Those that were accepted up to that time and have their personal data."""
    for key, value in view.scan(_SENDS, u64(after + 1)):
        if read_u64(value) > time_us:
            return
        yield read_u64(key)


def single_records(view: Snapshot, time_us: int, *, after: int = 0) -> Iterator[tuple[int, str]]:
    """(sequence number, member) of the single records whose payload is needed no more since then, the oldest first:
    they are to go in this order. Those of no message, and reports."""
    return merge(_over_until(view, time_us, after), _reports_until(view, time_us, after))


def _over_until(view: Snapshot, time_us: int, after: int) -> Iterator[tuple[int, str]]:
    for key, value in view.scan(_SINGLE, u64(after + 1)):
        if read_u64(value) <= time_us:
            yield read_u64(key), value[8:].decode()


def _reports_until(view: Snapshot, time_us: int, after: int) -> Iterator[tuple[int, str]]:
    for key, value in view.scan(_REPORTS, u64(after + 1)):
        if read_u64(value) > time_us:
            return  # what follows came later still
        yield read_u64(key), value[8:].decode()


def reports_about(view: Snapshot, message_id: int) -> list[int]:
    """Sequence numbers of the reports about the message whose payload nobody has erased."""
    return [seq for seq in messages.timeline(view, message_id) if is_report(view, seq)]


def is_report(view: Snapshot, seq: int) -> bool:
    """Whether the record is a report whose payload nobody has erased."""
    return view.get(_REPORTS, u64(seq)) is not None


def calls_of(view: Snapshot, message_id: int) -> list[int]:
    """Sequence numbers of the message's `unsubscribe.called`."""
    return [read_u64(key, 8) for key, _ in view.scan_prefix(_CALLS, u64(message_id))]


def owed(view: Snapshot) -> Iterator[int]:
    """The `payload.erased` that no `log.stripped` has answered, the oldest first."""
    return (read_u64(key) for key, _ in view.scan(_OWED))


def torn_until(view: Snapshot, time_us: int) -> list[str]:
    """How the names of the copies begin of all tails that were cut up to that time."""
    return [value.decode() for _, value in view.scan(_TORN, b"", u64(time_us + 1))]


def payloads_of(view: Snapshot, erased_seq: int, erased: PayloadErased) -> set[int]:
    """Sequence numbers of all records whose payload has to go because of this event.

    The content of a send is shared by its recipients, and goes with the last of them. Mail that was passed on goes with
    its `forward.queued`. A notification of a bounce is in the story of what bounced, but it is a message of its own,
    whose time comes later; and a report has its own time, too.
    """
    seqs = {*erased.send_ids, *erased.seqs}
    for message_id in erased.message_ids:
        state = messages.message(view, message_id)
        assert state is not None
        story = messages.timeline(view, message_id) + calls_of(view, message_id)
        apart = {dsn.message_id for dsn in messages.dsns_about(view, state)}
        apart.update(reports_about(view, message_id))
        # What is recorded after the event is written by who knows of it, and may stand in the segment that is open.
        seqs.update(seq for seq in story if seq < erased_seq and seq not in apart)
        if state.is_forward:
            seqs.add(message_id - 1)
        if not state.is_notice and not any(
            messages.has_personal_data(view, other.message_id)
            for other in messages.messages_of_send(view, state.send_seq)
        ):
            seqs.add(state.send_seq)
    return seqs
