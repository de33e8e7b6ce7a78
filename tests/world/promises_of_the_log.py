"""What a log must show by itself, whoever was told what: the promises 6 to 11 of `tests.world.promises`, and a few of
its other ones that need no client.

It reads the log once, and remembers what those who were told of it are judged by. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from relay.config import Config
from relay.events import (
    AlarmQueued,
    AttemptStarted,
    ConfirmationQueued,
    DomainAdded,
    DomainCheckFailed,
    DomainPaused,
    DomainResumed,
    DomainUnverified,
    DomainVerified,
    DsnQueued,
    ForwardQueued,
    HeldReleased,
    MailReceived,
    MemberLimitsSet,
    MemberResumed,
    MemberSuspended,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageHeld,
    MessageQueued,
    MessageReleased,
    MessageRescheduled,
    Outcome,
    PayloadErased,
    RecipientSuppressed,
    RecipientUnsuppressed,
    SendAccepted,
    UnsubscribeCalled,
    WebhookDisabled,
    WebhookNoticeQueued,
)
from relay.times import rfc3339
from tests.world.ledger import CALL_DELAYS_SECONDS, DAY_US, GRACE_US, ON_ITS_WAY_US, Entry, _Call, _Send
from tests.world.promises_of_limits import IN_FLIGHT_BATCHES, LimitJudge

#: About one message, by mail.
REPORTS_MAX = 20
REPEAT_US = 5 * DAY_US
BULK = ("bulk", "broadcast")


class LogJudge(LimitJudge):
    def __init__(self, log: Sequence[Entry], config: Config, back_us: int) -> None:
        super().__init__(config)
        self.log = log
        self.back_us = back_us
        self.last_time_us = 0
        #: By its digest: of a send to nobody the log keeps no more.
        self.request_of_body: dict[str, int] = {}
        self.addresses: dict[int, str] = {}
        self._given: dict[int, str] = {}
        self._queued: dict[int, MessageQueued] = {}
        self._held: dict[int, str] = {}
        self._tried: set[int] = set()
        #: (member, address) -> reason -> the batch of the suppression.
        self._suppressed: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self._forwards: set[str] = set()
        #: By their `recipient.suppressed`.
        self._calls: dict[int, _Call] = {}
        #: Message whose URL is called -> since when; those that have one; those whose personal data are gone.
        self._called: dict[int, int] = {}
        self._with_url: set[int] = set()
        self._erased: set[int] = set()
        self._verified: set[str] = set()
        #: Domain -> the batch of its last `domain.unverified`.
        self._unverified: dict[str, int] = {}
        #: Domain -> the time of its first failed check since it was right.
        self._failing_since: dict[str, int] = {}
        #: Domain -> (sequence number, time, whether it was verified from there on).
        self._verdicts: dict[str, list[tuple[int, int, bool]]] = defaultdict(list)
        self._keys: dict[tuple[str, str], int] = {}
        self._told_of: set[int] = set()
        #: Message -> digests of the reports about it, and how many came by mail; those of which one counted.
        self._reports: dict[int, list[str]] = defaultdict(list)
        self._by_mail: Counter[int] = Counter()
        self._reported: set[int] = set()
        #: Digest of mail that was passed on -> when.
        self._received: dict[str, int] = {}
        #: Address -> when its owner was last asked to confirm a `forward_to`.
        self._asked: dict[str, int] = {}
        #: Member, alarm and what it is about -> when it was last told of.
        self._alarmed: dict[tuple[str, str, str], int] = {}

    # ---------------------------------------------------------------- the log by itself

    def read_log(self) -> None:
        last_seq = 0
        for entry in self.log:
            if entry.recorded.seq != last_seq + 1 or entry.recorded.time_us < self.last_time_us:
                self._break(entry, f"it follows {last_seq}, of {self.last_time_us} us")
            self._see(entry)
            last_seq, self.last_time_us = entry.recorded.seq, entry.recorded.time_us
        self.found += [
            f"the call for {seq} never ended" for seq, call in self._calls.items() if not call.is_over
        ]

    def _see(self, entry: Entry) -> None:
        (seq, time_us, event), batch = entry
        match event:
            case DomainAdded():
                if not self.config.require_verified_domains:
                    self._born[event.domain] = time_us
            case DomainVerified() | DomainCheckFailed() | DomainUnverified():
                self._see_check(entry, event)
            case MemberLimitsSet():
                own = None if event.hour is None or event.day is None else (event.hour, event.day)
                self._own_limits[event.did].append((batch, own))
                self._limits_set[event.did].append((seq, time_us, own))
            case SendAccepted():
                self._see_send(entry, event)
            case MessageQueued():
                assert event.personal is not None
                self._queued[seq] = event
                self.addresses[seq] = event.personal.address
                self._given[seq] = event.personal.given
                self.sends[-1].message_ids.append(seq)
                if self.sends[-1].batch != batch:
                    self._break(entry, "a crash could part it from its send")
                content = self.sends[-1].event.personal
                if content is not None and content.unsubscribe_url is not None:
                    self._with_url.add(seq)
                self._check_suppression(entry, event.did, event.personal.address, event.category)
                if event.scheduled:
                    self._plan(entry, event)
            case DsnQueued():
                self._see_notification(entry, event)
            case WebhookNoticeQueued():
                self._see_webhook_notice(entry, event)
            case AlarmQueued():
                self._see_alarm(entry, event)
            case ConfirmationQueued():
                self._see_confirmation(entry, event)
            case ForwardQueued():
                self._see_forward(entry, event)
            case MessageBounceReported() | MessageComplained():
                self._see_report(entry, event)
            case RecipientSuppressed():
                assert event.personal is not None
                reasons = self._suppressed[event.did, event.personal.address.lower()]
                reasons.setdefault(event.reason, batch)
                self._see_click(entry, event)
            case UnsubscribeCalled():
                self._see_call(entry, event)
            case PayloadErased():
                self._erased.update(event.message_ids)
            case RecipientUnsuppressed():
                assert event.personal is not None
                reasons = self._suppressed[event.did, event.personal.address.lower()]
                for reason in ("unsubscribe", "manual", "bounced"):
                    reasons.pop(reason, None)
            case DomainPaused():
                self._paused.setdefault((event.domain, "bulk"), batch)
                self._trickles[event.domain].append((seq, time_us if event.stops == "bulk" else None))
                if event.stops == "all":
                    self._paused.setdefault((event.domain, "transactional"), batch)
            case MemberSuspended():
                for kind in ("bulk", "transactional"):
                    self._paused.setdefault((event.did, kind), batch)
            case DomainResumed():
                self._resume(event.domain)
                self._trickles[event.domain].append((seq, None))
                if not event.in_steps:
                    self._release("domain", lambda queued: queued.domain == event.domain)
            case MemberResumed():
                self._resume(event.did)
                if not event.in_steps:
                    self._release("member", lambda queued: queued.did == event.did)
            case HeldReleased():
                self._see_released(entry, event)
            case MessageHeld():
                self._held[event.message_id] = event.because
            case MessageReleased():
                if self._held.get(event.message_id) == "operator":
                    del self._held[event.message_id]
            case MessageRescheduled():
                self._see_rescheduled(entry, event)
            case AttemptStarted():
                self._see_start(entry, event)
                self._tried.add(event.message_id)
            case Outcome():
                if isinstance(event, MessageBounced):
                    self._withdraw(event)
                if self._held.pop(event.message_id, None) and isinstance(event, MessageDeferred):
                    self._break(entry, "it is held")
            case _:
                pass

    def _see_check(self, entry: Entry, event: DomainVerified | DomainCheckFailed | DomainUnverified) -> None:
        (seq, time_us, _), batch = entry
        if isinstance(event, DomainVerified):
            self._born.setdefault(event.domain, time_us)
            self._verified.add(event.domain)
            self._failing_since.pop(event.domain, None)
        elif event.domain not in self._verified:
            self._break(entry, f"{event.domain} was not verified")
        else:
            since = self._failing_since.setdefault(event.domain, time_us)
            # Decided by the time of a moment before, and stamped when it was written.
            if isinstance(event, DomainCheckFailed) and time_us >= since + GRACE_US + ON_ITS_WAY_US:
                self._break(entry, f"the grace time of {event.domain} is over, and it may go on")
            if isinstance(event, DomainUnverified):
                if time_us < since + GRACE_US:
                    self._break(entry, f"{event.domain} had no grace")
                self._verified.remove(event.domain)
                self._unverified[event.domain] = batch
        self._verdicts[event.domain].append((seq, time_us, event.domain in self._verified))

    def _see_click(self, entry: Entry, event: RecipientSuppressed) -> None:
        message_id = event.message_id
        if event.reason != "unsubscribe" or message_id not in self._with_url:
            return
        if event.call_at is not None:
            self._calls[entry.recorded.seq] = _Call(event.call_at, event.call_at + DAY_US)
            # Two clicks on a disk that stalls: nobody waits for the first any more, and the second does not see it.
            since = self._called.setdefault(message_id, entry.recorded.time_us)
            if entry.recorded.time_us > since + ON_ITS_WAY_US:
                self._break(entry, "its URL is called already")
        elif message_id not in self._called and message_id not in self._erased:
            self._break(entry, "the member's own URL is not called")

    def _see_call(self, entry: Entry, event: UnsubscribeCalled) -> None:
        time_us, call = entry.recorded.time_us, self._calls.get(event.suppressed_seq)
        if call is None or call.is_over:
            self._break(entry, "nobody has asked for it")
            return
        call.attempts += 1
        if event.attempt != call.attempts:
            self._break(entry, f"it is numbered {event.attempt}, and is the {call.attempts}.")
        if call.due_at - time_us > (self.back_us if time_us == self.last_time_us else 0):
            self._break(entry, "it was made too early")
        delay = CALL_DELAYS_SECONDS[min(call.attempts, len(CALL_DELAYS_SECONDS)) - 1] * 1_000_000
        is_done = event.status is not None and 200 <= event.status < 300
        next_at = event.next_attempt_at
        if next_at is None:
            call.is_over = True
            may_be_over = is_done or event.message_id in self._erased
            if not may_be_over and time_us + 1.1 * delay <= call.give_up_at:
                self._break(entry, "it was given up before its time")
            return
        if is_done:
            self._break(entry, "it has succeeded, and is to be made again")
        if (
            not min(call.due_at, time_us) + 0.9 * delay
            <= next_at
            <= min(time_us + 1.1 * delay, call.give_up_at)
        ):
            self._break(
                entry, f"it is to be made again at {rfc3339(next_at)}, which is not the schedule's time"
            )
        call.due_at = next_at

    def _see_send(self, entry: Entry, event: SendAccepted) -> None:
        (seq, time_us, _), batch = entry
        assert event.personal is not None
        if event.recipients:
            request = int(event.personal.subject.removeprefix("request "))
        else:
            request = self.request_of_body.get(event.body_sha256 or "", 0)
        self.sends.append(_Send(seq, event, batch, request))
        if self._is_paused(event.domain, event.category, batch):
            self._break(entry, f"the domain {event.domain} is paused")
        if self.config.require_verified_domains and event.domain not in self._verified:
            since = self._unverified.get(event.domain)
            if since is None or batch > since + IN_FLIGHT_BATCHES:
                self._break(entry, f"the domain {event.domain} is not verified")
        if event.idempotency_key is not None:
            key = event.did, event.idempotency_key
            if key in self._keys and time_us < self._keys[key] + DAY_US:
                self._break(entry, "its Idempotency-Key stands for another send of the last 24 hours")
            self._keys[key] = time_us
        self._check_limits(entry, event)

    def _see_notification(self, entry: Entry, event: DsnQueued) -> None:
        seq = entry.recorded.seq
        assert event.personal is not None
        self.addresses[seq] = event.personal.address
        before = self.log[seq - 2]
        match before.recorded.event:
            case (MessageBounced() | MessageBounceReported(is_failure=True)) as told if (
                told.message_id == event.about
            ):
                pass
            case _:
                self._break(entry, "it does not stand right behind its bounce, or the report of it")
        if before.batch != entry.batch:
            self._break(entry, "a crash could part it from its bounce")
        if event.about in self._told_of:
            self._break(entry, f"it is the second about message {event.about}")
        self._told_of.add(event.about)

    def _see_webhook_notice(self, entry: Entry, event: WebhookNoticeQueued) -> None:
        assert event.personal is not None
        self.addresses[entry.recorded.seq] = event.personal.address
        before = self.log[entry.recorded.seq - 2]
        disabled = before.recorded.event
        if not isinstance(disabled, WebhookDisabled) or disabled.webhook_id != event.webhook_id:
            self._break(entry, "it does not stand right behind what it tells of")
        elif before.batch != entry.batch:
            self._break(entry, "a crash could part it from what it tells of")

    def _see_alarm(self, entry: Entry, event: AlarmQueued) -> None:
        assert event.personal is not None
        self.addresses[entry.recorded.seq] = event.personal.address
        about, time_us = (event.did, event.alarm, event.about), entry.recorded.time_us
        if time_us - self._alarmed.get(about, -DAY_US) < DAY_US:
            self._break(entry, "who is told was told of the same in the last 24 hours")
        self._alarmed[about] = time_us

    def _see_report(self, entry: Entry, event: MessageBounceReported | MessageComplained) -> None:
        message_id = event.message_id
        if message_id not in self.addresses:
            self._break(entry, "there is no such message")
        if isinstance(event, MessageBounceReported) and event.counts:
            if message_id not in self._queued:
                self._break(entry, "it counts, and is about no member's message")
            if message_id in self._reported:
                self._break(entry, "it is the second that counts")
            self._reported.add(message_id)
        if event.sha256 is None:
            return
        if event.sha256 in self._reports[message_id]:
            self._break(entry, "the same mail is recorded already")
        self._reports[message_id].append(event.sha256)
        self._by_mail[message_id] += event.by is None
        if self._by_mail[message_id] > REPORTS_MAX:
            self._break(entry, f"it is report {self._by_mail[message_id]} about it that came by mail")

    def _see_rescheduled(self, entry: Entry, event: MessageRescheduled) -> None:
        """Whoever holds it goes on doing so."""
        message_id = event.message_id
        if message_id not in self._tried:
            self._plan(entry, event)
        elif event.by is None:
            self._break(entry, "its member has moved it, and it was tried")

    def _see_forward(self, entry: Entry, event: ForwardQueued) -> None:
        seq = entry.recorded.seq
        assert event.personal is not None
        self.addresses[seq] = event.personal.address
        before = self.log[seq - 2]
        received = before.recorded.event
        if not isinstance(received, MailReceived) or (received.did, received.domain) != (
            event.did,
            event.domain,
        ):
            self._break(entry, "what it passes on does not stand right before it")
            return
        if before.batch != entry.batch:
            self._break(entry, "a crash could part it from what it passes on")
        if entry.recorded.time_us < self._received.get(received.digest, -REPEAT_US) + REPEAT_US:
            self._break(entry, "the same mail was passed on within five days")
        self._received[received.digest] = entry.recorded.time_us

    def _see_confirmation(self, entry: Entry, event: ConfirmationQueued) -> None:
        seq, time_us = entry.recorded.seq, entry.recorded.time_us
        assert event.personal is not None
        address = event.personal.address
        self.addresses[seq] = address
        if time_us - self._asked.get(address.lower(), -DAY_US) < DAY_US:
            self._break(entry, "its recipient was asked in the last 24 hours")
        self._asked[address.lower()] = time_us
        for (_, suppressed), reasons in self._suppressed.items():
            if suppressed == address.lower() and reasons:
                self._break(entry, "its recipient is on a suppression list")

    def _see_start(self, entry: Entry, event: AttemptStarted) -> None:
        if event.message_id in self._held:
            self._break(entry, f"it is held ({self._held[event.message_id]})")
        queued = self._queued.get(event.message_id)
        if queued is None:
            return  # a notification: nothing stops it
        assert queued.personal is not None
        self._check_suppression(entry, queued.did, queued.personal.address, queued.category)
        for who in (queued.domain, queued.did):
            if self._is_paused(who, queued.category, entry.batch):
                self._break(entry, f"{who} is paused")

    def _check_suppression(self, entry: Entry, did: str, address: str, category: str) -> None:
        for reason, since in self._suppressed.get((did, address.lower()), {}).items():
            concerns = category in BULK or reason not in ("unsubscribe", "bounced")
            if concerns and entry.batch > since + IN_FLIGHT_BATCHES:
                self._break(entry, f"its recipient is suppressed ({reason})")

    def _is_paused(self, who: str, category: str, batch: int) -> bool:
        since = self._paused.get((who, "bulk" if category in BULK else "transactional"))
        return since is not None and batch > since + IN_FLIGHT_BATCHES

    def _resume(self, who: str) -> None:
        for kind in ("bulk", "transactional"):
            self._paused.pop((who, kind), None)

    def _see_released(self, entry: Entry, event: HeldReleased) -> None:
        for message_id in event.message_ids:
            queued = self._queued[message_id]
            who = queued.domain if event.because == "domain" else queued.did
            if self._is_paused(who, queued.category, entry.batch):
                self._break(entry, f"{who} is paused, and message {message_id} is released")
            if self._held.get(message_id) == event.because:
                del self._held[message_id]

    def _release(self, because: str, concerns: Callable[[MessageQueued], bool]) -> None:
        for message_id, held_by in list(self._held.items()):
            if held_by == because and concerns(self._queued[message_id]):
                del self._held[message_id]
