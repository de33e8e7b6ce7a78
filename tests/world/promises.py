"""What the relay promises to those who use it, as a checker of a log and of what its clients were told.

`tests.world.checker` holds the promise of delivery; this one holds the others. It knows SPEC, and nothing of how the
relay keeps its word: every rule is reckoned anew, by a simple loop over the log. Pure.

Of every request to send, by the clients' `Ledger`:
  1  a 200 is in the log: each message id is that recipient's `message.queued`, in that member's send of that request;
     a send and its messages are one batch
  2  what was refused left nothing; what is in the log was acknowledged, or its client does not know
  3  without an Idempotency-Key a request is in the log once at most
  4  a key stands for one send in 24 hours of the log's time; whoever was told of the same send was told the same bytes
  5  a reason to suppress, a hold, a cancellation and another time that were acknowledged are in the log
Of the log:
  6  no domain has more recipients accepted in a rolling hour or day than its tier, or its member's own limits, allow;
     and nobody is refused for a limit that would not be passed, whatever was on its way into the log meanwhile
  7  no bulk mail is accepted for, or begun to be handed to, an address after its suppression was durable. Nor any mail
     where the reason is `complaint` or `manual`. Nor is mail of a suspended member begun, nor of a paused domain: any
     mail, or that of the bulk class, as the pause says.
     *After*: more than IN_FLIGHT_BATCHES batches later. An attempt looks, takes a step or two, and appends its start;
     what becomes durable meanwhile comes too late for it.
  8  what is held is not tried before it is released; here nothing is in flight, so there is no such allowance
  9  where it is asked for, no mail of a domain is accepted that was not verified, or is not any more; a domain loses
     that for no failed check within 72 hours of the first, and by the first one after them; and who was verified is
     not refused for it
 10  who unsubscribes from mail with an unsubscribe URL of the member's has it called, once a message: until it answers
     2xx, and by its schedule, or until 24 hours are over
 11  a notification is the only one of its bounce, and stands right behind it, and that a webhook is disabled is told
     so, too; sequence numbers have no gap, and times never decrease, whatever the clock did
Of what was received (`Receipt`s), 12: it went to the recipient of that message, and its member has not cancelled it.
Of what a member has followed page by page, over all lives of the relay, 13: it is that member's events, each once, in
the log's order, and no other. Of each websocket, over all its connections, 14: it is the same, from where it began
until where it was cut.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256

from relay.config import Config
from relay.events import (
    DomainAdded,
    MessageBounced,
    MessageHeld,
    MessageRescheduled,
)
from relay.times import rfc3339
from tests.world.internet import Receipt
from tests.world.ledger import (
    ON_ITS_WAY_US,
    Answer,
    Entry,
    Heard,
    Ledger,
    SendRequest,
    _Send,
)
from tests.world.promises_of_the_log import LogJudge

#: What a member's stream has of the events that are its own (SPEC 11).
STREAMED = (
    "message",
    "dsn",
    "forward",
    "webhook_notice",
    "alarm",
    "attempt",
    "recipient",
    "domain",
    "member",
)


def broken_promises(
    log: Sequence[Entry], config: Config, ledger: Ledger, receipts: Iterable[Receipt], *, back_us: int = 0
) -> list[str]:
    """A sentence for each promise that was broken. `back_us`: the clock was set back by so much at most. What was under
    way then is stamped with the log's last time, which is earlier than when it began."""
    judge = _Judge(log, config, back_us)
    judge.request_of_body = {sha256(request.body).hexdigest(): request.number for request in ledger.requests}
    judge.read_log()
    judge.hear(ledger)
    judge.look_at(receipts)
    return judge.found


class _Judge(LogJudge):
    """The log and those who were told of it."""

    def hear(self, ledger: Ledger) -> None:
        by_request: dict[int, list[_Send]] = defaultdict(list)
        for send in self.sends:
            by_request[send.request].append(send)
        for request in ledger.requests:
            if request.unknown:
                self._unknown[request.domain] += len(request.recipients) * request.unknown
        for request in ledger.requests:
            self._hear_request(request, by_request.pop(request.number, []))
        for number in by_request:
            self.found.append(f"request {number} is in the log, and nobody made it")
        for did, address in ledger.suppressed:
            if (did, address.lower()) not in self._suppressed:
                self.found.append("a suppression was acknowledged, and is not in the log")
        held = {item.event.message_id for item, _ in self.log if isinstance(item.event, MessageHeld)}
        self.found += [
            f"message {number} was said to be held" for number in ledger.held if number not in held
        ]
        self._hear_orders(ledger)
        self.found += [
            f"a report about message {number} was acknowledged, and is not in the log"
            for number, digest in ledger.reported
            if digest not in self._reports[number]
        ]
        self.found += [
            f"mail {digest[:8]} was acknowledged, and is not in the log"
            for digest in ledger.passed_on
            if digest not in self._received
        ]

        if ledger.followed_until is None:
            self.found.append("nobody has read the events until their end")
        else:
            for did in {item.event.did: None for item, _ in self.log if isinstance(item.event, DomainAdded)}:
                self._hear_pages(did, ledger.followed.get(did, []), ledger.followed_until)
        for heard in ledger.heard:
            self._hear_frames(heard)

    def _hear_orders(self, ledger: Ledger) -> None:
        cancelled = {
            item.event.message_id
            for item, _ in self.log
            if isinstance(item.event, MessageBounced) and item.event.reason == "cancelled"
        }
        self.found += [
            f"message {number} was said to be cancelled"
            for number in ledger.cancelled
            if number not in cancelled
        ]
        # Moved to where it is, it has not been moved.
        times = {
            (message_id, queued.next_attempt_at)
            for message_id, queued in self._queued.items()
            if queued.scheduled
        } | {
            (item.event.message_id, item.event.next_attempt_at)
            for item, _ in self.log
            if isinstance(item.event, MessageRescheduled)
        }
        self.found += [
            f"message {number} was said to be moved to {rfc3339(at_us)}"
            for number, at_us in ledger.moved
            if (number, at_us) not in times
        ]

    def _events_of(self, did: str) -> list[tuple[int, str, str]]:
        return [
            (item.seq, item.event.TYPE, rfc3339(item.time_us))
            for item, _ in self.log
            if getattr(item.event, "did", None) == did and item.event.TYPE.split(".")[0] in STREAMED
        ]

    def _hear_frames(self, heard: Heard) -> None:
        begin = heard.begin
        if begin is None:
            return
        expected = [event for event in self._events_of(heard.did) if event[0] > begin]
        owed = sum(event[0] <= (heard.whole_until or 0) for event in expected)
        expected = expected[: max(owed, len(heard.frames))]
        if heard.frames != expected:
            wrong = sorted({*heard.frames} ^ {*expected}) or "their order, or one came twice"
            self.found.append(f"{heard.did} did not hear exactly its events behind {begin}: {wrong}")

    def _hear_pages(self, did: str, followed: list[tuple[int, str]], whole_until: int) -> None:
        expected = [(seq, name) for seq, name, _ in self._events_of(did)]
        owed = sum(seq <= whole_until for seq, _ in expected)
        expected = expected[: max(owed, len(followed))]
        if followed != expected:
            wrong = sorted(set(followed) ^ set(expected)) or "their order, or one came twice"
            self.found.append(f"{did} was not shown exactly its events: {wrong}")

    def _hear_request(self, request: SendRequest, sends: list[_Send]) -> None:
        name = f"request {request.number}"
        if sends and not request.may_be_true:
            statuses = sorted({answer.status for answer in request.answers})
            self.found.append(f"{name} was refused ({statuses}), and is in the log")
        if len(sends) > 1 and request.key is None:
            self.found.append(f"{name} is in the log {len(sends)} times")
        for send in sends:
            if send.event.did != request.did:
                self.found.append(f"{name} is in the log as another member's")
            is_kept = request.key is not None or not send.event.wanted
            digest = sha256(request.body).hexdigest() if is_kept else None
            if send.event.body_sha256 != digest:
                self.found.append(f"{name} is in the log with another body")
        told: dict[tuple[int, ...], set[bytes]] = defaultdict(set)
        for answer in request.answers:
            if answer.status == 200:
                told[self._hear_answer(name, request, sends, answer)].add(answer.body)
            elif answer.status == 429:
                self._hear_limit(name, request, answer)
            elif answer.status == 403 and answer.code == "DOMAIN_UNVERIFIED":
                self._hear_unverified(name, request, answer)
            elif answer.status >= 500 and answer.status != 503:
                self.found.append(f"{name} was answered {answer.status}: {answer.code}")
        if any(len(bodies) > 1 for bodies in told.values()):
            self.found.append(f"{name} was answered differently about the same send")
        nobody = [ids for ids in told if not ids]
        if nobody and not sends:
            self.found.append(f"{name} was answered 200, and is not in the log")

    def _hear_limit(self, name: str, request: SendRequest, answer: Answer) -> None:
        """Whether a refusal was due. What was on its way then is what the log has a little later, or nobody knows."""
        at_us, limits_set = answer.at_us, self._limits_set[request.did]
        if any(abs(time_us - at_us) < ON_ITS_WAY_US for _, time_us, _ in limits_set):
            return  # either limit may have been the one that held
        own = next((own for seq, _, own in reversed(limits_set) if seq <= answer.at_seq), None)
        count, at = len(request.recipients), max(request.scheduled_at or 0, at_us)
        if not self._would_fit(request.domain, at, now_us=at_us, count=count, own=own):
            return
        trickled = self._trickled(request.domain, answer.at_seq, at_us, ON_ITS_WAY_US)
        if trickled is not None:
            trickled += self._unknown[request.domain] + len(self._ever_planned[request.domain])
            if trickled + count > self._trickle:
                return
        self.found.append(f"{name} was refused for a limit that it would not have passed")

    def _hear_unverified(self, name: str, request: SendRequest, answer: Answer) -> None:
        before = [verdict for verdict in self._verdicts[request.domain] if verdict[0] <= answer.at_seq]
        if before and before[-1][2] and before[-1][1] < answer.at_us - ON_ITS_WAY_US:
            self.found.append(f"{name} was refused, because {request.domain} is not verified, and it is")

    def _hear_answer(
        self, name: str, request: SendRequest, sends: list[_Send], answer: Answer
    ) -> tuple[int, ...]:
        said = json.loads(answer.body)
        ids = tuple(item["messageId"] for item in said["accepted"])
        if ids and list(ids) not in [send.message_ids for send in sends]:
            self.found.append(f"{name} was accepted as messages {ids}, and they are not in the log")
        for item in said["accepted"]:
            if self._given.get(item["messageId"]) != item["recipient"]:
                self.found.append(
                    f"{name}: message {item['messageId']} is not to the recipient it was said to be"
                )
        answered = Counter(item["recipient"] for item in said["accepted"] + said["rejected"])
        if answered != Counter(request.recipients):
            self.found.append(f"{name}: its answer does not name each recipient once")
        return ids

    def look_at(self, receipts: Iterable[Receipt]) -> None:
        cancelled = {
            item.event.message_id
            for item, _ in self.log
            if isinstance(item.event, MessageBounced) and item.event.key_id is not None
        }
        for receipt in receipts:
            if receipt.message_id in cancelled:
                self.found.append(f"message {receipt.message_id} was cancelled by its member, and received")
            if receipt.recipient != self.addresses.get(receipt.message_id):
                self.found.append(f"message {receipt.message_id} went to somebody else")
