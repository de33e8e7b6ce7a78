"""Whose personal data may be gone from a log, and whose must be: retention, reckoned anew from its events. Pure.

`Payloads` is told every event as it was when it became true, with its payload; then it judges what a log, or a backup
of it, holds of them, at any later moment and as often as one likes.

  1  only the payload goes: sequence number, time and all the rest of an event stay what they were
  2  no payload is gone that no `payload.erased` in the same log admits
  3  no `payload.erased` names a message that is not final, or whose notification is still under way
  4  once `log.stripped` is there, every payload that the `payload.erased` up to its `until` admit is gone
  5  whose erasure was acknowledged by then, of them no payload was left when it was
  6  no `payload.erased` names a single record that is in force, or belongs to a message

What a `payload.erased` admits: of each message that it names, everything that stands before it in the log, but for a
`recipient.suppressed`, which stays in force, a report that came by mail, which has its own time, and the notification
of its bounce, which is a message of its own; the `send.accepted` whose last message this is, the `mail.received` that
was passed on; and the ones it names itself, which are sends without a message, reports that no notification under way
quotes, or records of no message that are over: a removal, a `domain.forward_set` whose mailbox is in use no more, and a
`webhook.added` whose webhook was removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import msgspec

from relay.codec import Recorded
from relay.events import (
    AlarmQueued,
    ConfirmationQueued,
    DomainForwardSet,
    DomainRemoved,
    DsnQueued,
    ForwardQueued,
    LogStripped,
    MemberRemoved,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageQueued,
    MessageSent,
    PayloadErased,
    RecipientSuppressed,
    SendAccepted,
    WebhookAdded,
    WebhookNoticeQueued,
    WebhookRemoved,
)


class Payloads:
    def __init__(self) -> None:
        self.found: list[str] = []
        #: Each event as it was when it became true; the first is 1.
        self._events: list[Recorded] = []
        #: Those that had a payload which had gone before they were seen.
        self._late: set[int] = set()
        self._story: dict[int, list[int]] = defaultdict(list)
        self._notifications_of: dict[int, list[int]] = defaultdict(list)
        #: Reports that came by mail.
        self._reports: set[int] = set()
        self._send_of: dict[int, int] = {}
        self._left_of_send: dict[int, set[int]] = {}
        self._final: set[int] = set()
        self._erased: set[int] = set()
        #: (member, domain) -> the mailbox that hears of its bounces, and the records that name it.
        self._mailbox: dict[tuple[str, str], str | None] = {}
        self._in_force: dict[tuple[str, str], set[int]] = {}
        #: Webhook -> the record that has its URL.
        self._webhooks: dict[str, int] = {}
        #: Records of no message that are in force no more.
        self._over: set[int] = set()
        #: Payload -> the `payload.erased` that admits that it goes.
        self._admitted: dict[int, int] = {}
        #: Payload -> the `log.stripped` by which it is gone.
        self._gone: dict[int, int] = {}

    @property
    def count(self) -> int:
        """Of the events that were seen."""
        return len(self._events)

    @property
    def is_owed(self) -> bool:
        """Whether there is a `payload.erased` that no `log.stripped` has answered."""
        return self._admitted.keys() != self._gone.keys()

    def see(self, recorded: Iterable[Recorded], *, late: Collection[int] = ()) -> None:
        """`late`: of these the payload had gone before anybody could look, so that it is not known what it was."""
        self._late.update(late)
        for item in recorded:
            self._events.append(item)
            self._see(item)

    def _see(self, item: Recorded) -> None:
        seq, event = item.seq, item.event
        match event:
            case SendAccepted():
                self._left_of_send[seq] = set(range(seq + 1, seq + 1 + event.recipients))
                for message_id in self._left_of_send[seq]:
                    self._send_of[message_id] = seq
            case MessageQueued() | ConfirmationQueued() | WebhookNoticeQueued() | AlarmQueued():
                self._story[seq].append(seq)
            case DsnQueued():
                self._story[seq].append(seq)
                self._notifications_of[event.about].append(seq)
            case ForwardQueued():
                self._story[seq] += [seq - 1, seq]
            case MessageBounceReported() | MessageComplained() if event.sha256 is not None:
                self._reports.add(seq)
            case PayloadErased():
                self._see_erased(seq, event)
            case LogStripped():
                for payload, erased in self._admitted.items():
                    if erased <= event.until:
                        self._gone.setdefault(payload, seq)
            case DomainForwardSet():
                name, mailbox = (event.did, event.domain), event.personal and event.personal.address
                if mailbox is None or self._mailbox.get(name) != mailbox:
                    self._over |= self._in_force.pop(name, set())
                self._mailbox[name] = mailbox
                self._in_force.setdefault(name, set()).add(seq)
            case DomainRemoved():
                self._mailbox.pop((event.did, event.domain), None)
                self._over |= {seq, *self._in_force.pop((event.did, event.domain), set())}
            case MemberRemoved():
                self._over.add(seq)
            case WebhookAdded():
                self._webhooks[event.webhook_id] = seq
            case WebhookRemoved():
                self._over.add(self._webhooks[event.webhook_id])
            case RecipientSuppressed():
                pass
            case _ if (message_id := getattr(event, "message_id", None)) is not None:
                self._story[message_id].append(seq)
                if isinstance(event, MessageSent | MessageBounced):
                    self._final.add(message_id)

    def _see_erased(self, seq: int, event: PayloadErased) -> None:
        for message_id in event.message_ids:
            for needed in (message_id, *self._notifications_of[message_id]):
                if needed not in self._final:
                    self.found.append(f"seq {seq}: message {message_id} is erased, and {needed} is not final")
            self._erased.add(message_id)
            self._admit(self._story[message_id], seq)
            send = self._send_of.get(message_id)
            if send is not None:
                left = self._left_of_send[send]
                left.discard(message_id)
                if not left:
                    self._admit([send], seq)
        for send in event.send_ids:
            if self._left_of_send.get(send) != set():
                self.found.append(f"seq {seq}: send {send} is erased, and has messages")
            self._admit([send], seq)

        for single in event.seqs:
            if single in self._reports:
                quoting = single + 1
                if (
                    any(quoting in them for them in self._notifications_of.values())
                    and quoting not in self._final
                ):
                    self.found.append(f"seq {seq}: report {single} is erased, and {quoting} quotes it")
            elif single not in self._over:
                self.found.append(f"seq {seq}: record {single} is erased, and is in force")
            self._admit([single], seq)

    def _admit(self, payloads: Iterable[int], erased: int) -> None:
        for payload in payloads:
            self._admitted.setdefault(payload, erased)

    # ---------------------------------------------------------------- the judgement

    def compare(self, log: Sequence[Recorded]) -> None:
        """What the whole log holds now; `see` has been told of all of it."""
        self._compare(log, "")
        if len(log) != len(self._events):
            self.found.append(f"of {len(self._events)} events the log holds {len(log)}")

    def compare_beginning(self, log: Sequence[Recorded], *, name: str) -> None:
        """What a copy held, which had the log's first events and was complete by itself."""
        self._compare(log, f"{name} of {len(log)} events: ")

    def _compare(self, log: Sequence[Recorded], where: str) -> None:
        last_seq = len(log)
        for seen, held in zip(self._events, log, strict=False):
            seq = seen.seq
            if without_payload(held) != without_payload(seen):
                self.found.append(f"{where}seq {seq} is not the event that it was")
            elif held.event.personal is None:
                had_payload = seen.event.personal is not None or seq in self._late
                if had_payload and self._admitted.get(seq, last_seq + 1) > last_seq:
                    self.found.append(f"{where}the payload of {seq} is gone, and no payload.erased admits it")
            elif held != seen:
                self.found.append(f"{where}seq {seq} has another payload than it had")
            elif self._gone.get(seq, last_seq + 1) <= last_seq:
                self.found.append(
                    f"{where}the payload of {seq} is there, and log.stripped says that it is not"
                )

    def hear(self, acknowledged: Iterable[tuple[int, int]]) -> None:
        """(message, the last event of the log at that time) of each erasure that was answered."""
        for message_id, last_seq in acknowledged:
            gone = self._gone.get(message_id)
            if message_id not in self._erased or gone is None or gone > last_seq:
                self.found.append(f"message {message_id} was said to be erased")


def without_payload(item: Recorded) -> Recorded:
    return item._replace(event=msgspec.structs.replace(item.event, personal=None))
