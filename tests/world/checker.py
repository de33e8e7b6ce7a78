"""What must be true of any log of the relay, whatever happened to it: the contract of delivery as a checker.

`breaches` takes all events of a log and, where they are known, what the receivers got and how many connections they
had; it returns a sentence for each thing that is not as it must be, and nothing else. Pure: a later run, a crashed
relay's log or a log of production can be judged as well.

Of each message, by its timeline:
  1  its status moves along the arrows of SPEC 2: queued → deferred → sent | bounced, and nothing after that
  2  attempts are numbered 1, 2, 3, …, and each has exactly one outcome (or was named interrupted); one that sent no
     byte of the message needs no `attempt.started`
  3  no attempt begins before the `nextAttemptAt` of the event before it, which is the member's where it has scheduled
     the message or moved it, nor after its give-up time
  4  `nextAttemptAt` is the schedule's delay for that attempt, 10 % more or less, after the attempt ended; of one that
     was interrupted, after a moment between its beginning and its end, for it was chosen before the dot
  5  every attempt that sent the message sent the same bytes
  6  it is final (where `all_final`)
Of receivers and log together:
  7  what is `sent` was received, with exactly the bytes whose digest the event has
  8  what was received more than once has, but for one, an attempt without a confirmed outcome: interrupted, or ended
     after its dot without a reply
  9  nothing is received that the log does not know, and nothing that was bounced by a reply to the dot
 10  no site ever had more connections than it may have

`half_accepted` looks at what comes before all that: that a send is in the log with all its messages, or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.codec import Recorded
from relay.config import Config
from relay.decisions.retry import JITTER
from relay.delivery.reply_reader import Command
from relay.events import (
    AttemptInterrupted,
    AttemptStarted,
    Event,
    MessageBounced,
    MessageDeferred,
    MessageQueued,
    MessageRescheduled,
    MessageSent,
    Notice,
    Outcome,
    SendAccepted,
)
from tests.world.internet import Receipt

#: An event is stamped when it is written, a moment after its attempt was decided to have ended. Where disks are slow
#: and clocks are set, the moment is longer.
SLACK_US = 1_000_000


@dataclass
class _Message:
    """A message, as far as the log has been read."""

    message_id: int
    due_at: int
    give_up_at: int
    attempts: int = 0
    open_attempt: bool = False
    started_at: int = 0
    final: str | None = None
    digests: set[str] = field(default_factory=set)
    #: Attempts after which the receiver may have the message, though no reply said so.
    doubtful: int = 0


def breaches(
    events: Iterable[Recorded],
    config: Config,
    *,
    receipts: Iterable[Receipt] | None = None,
    connections_max: Iterable[int] = (),
    all_final: bool = True,
    slack_us: int = SLACK_US,
    back_us: int = 0,
) -> list[str]:
    """See the module. `receipts` None: nobody knows what was received. Empty: all is as it must be.

    `back_us`: the clock was set back by so much at most. An attempt that had begun is then stamped with the log's last
    time, which is earlier than when it began.
    """
    checker = _Checker(config, slack_us, back_us)
    for item in events:
        checker.see(item)
    if all_final:
        checker.found += [
            f"message {message.message_id} is not final"
            for message in checker.messages.values()
            if message.final is None
        ]
    if receipts is not None:
        checker.compare(list(receipts))
    limit = config.delivery.connections_per_site_max
    checker.found += [
        f"{count} connections to one site at once, {limit} are allowed"
        for count in connections_max
        if count > limit
    ]
    return checker.found


class _Checker:
    def __init__(self, config: Config, slack_us: int, back_us: int) -> None:
        self.delays = config.retry.delays_seconds
        self.slack_us = slack_us
        self.back_us = back_us
        self.last_us = 0
        self.messages: dict[int, _Message] = {}
        self.found: list[str] = []

    def see(self, item: Recorded) -> None:
        self._see(item)
        self.last_us = item.time_us

    def _see(self, item: Recorded) -> None:
        event = item.event
        if isinstance(event, MessageQueued | Notice):
            self.messages[item.seq] = _Message(item.seq, event.next_attempt_at, event.give_up_at)
            return
        if not isinstance(event, Outcome | AttemptStarted | AttemptInterrupted | MessageRescheduled):
            return
        message = self.messages.get(event.message_id)
        if message is None:
            self._breach(item, "there is no such message")
            return
        if message.final is not None:
            self._breach(item, f"it had been {message.final} already")
        match event:
            case AttemptStarted():
                self._see_start(item, message, event)
            case MessageRescheduled():
                message.due_at = event.next_attempt_at
                message.give_up_at = event.give_up_at or message.give_up_at
            case AttemptInterrupted():
                self._see_end(item, message, event.attempt)
                self._see_next(item, message, event.next_attempt_at, since_us=message.started_at)
                message.doubtful += 1
            case _:
                self._see_outcome(item, message, event)

    def _see_start(self, item: Recorded, message: _Message, event: AttemptStarted) -> None:
        if message.open_attempt:
            self._breach(item, f"attempt {message.attempts} has no outcome")
        self._see_begin(item, message, event.attempt)
        message.open_attempt = True
        message.started_at = item.time_us

    def _see_begin(self, item: Recorded, message: _Message, attempt: int) -> None:
        if attempt != message.attempts + 1:
            self._breach(item, f"it is numbered {attempt}, after {message.attempts}")
        early_us = message.due_at - item.time_us
        if early_us > (self.back_us if item.time_us == self.last_us else 0):
            self._breach(item, f"it begins {early_us / 1e6} s too early")
        if item.time_us > message.give_up_at + self.slack_us:
            self._breach(
                item, f"it begins {(item.time_us - message.give_up_at) / 1e6} s after the give-up time"
            )
        message.attempts = attempt

    def _see_end(self, item: Recorded, message: _Message, attempt: int) -> None:
        if not message.open_attempt or attempt != message.attempts:
            self._breach(item, f"it is of attempt {attempt}, which is not under way")
        message.open_attempt = False

    def _see_next(
        self, item: Recorded, message: _Message, next_at: int, *, since_us: int | None = None
    ) -> None:
        delay = self.delays[min(max(message.attempts, 1), len(self.delays)) - 1] * 1_000_000
        since_us = item.time_us if since_us is None else since_us
        earliest = since_us + delay * (1 - JITTER) - self.slack_us
        if not earliest <= next_at <= item.time_us + delay * (1 + JITTER) + self.slack_us:
            seconds = (next_at - item.time_us) / 1e6
            self._breach(item, f"it is tried again after {seconds} s, where the schedule says {delay / 1e6}")
        # An interrupted attempt has chosen its time before its dot; when that comes, the message is given up.
        if next_at > message.give_up_at and not isinstance(item.event, AttemptInterrupted):
            self._breach(item, "it is to be tried again after its give-up time")
        message.due_at = next_at

    def _see_outcome(self, item: Recorded, message: _Message, event: Outcome) -> None:
        if event.attempt and event.sha256 is None and not message.open_attempt:
            self._see_begin(item, message, event.attempt)
        elif event.attempt:
            self._see_end(item, message, event.attempt)
        elif message.open_attempt or isinstance(event, MessageDeferred):
            self._breach(item, "it names no attempt")
        if event.sha256 is not None:
            message.digests.add(event.sha256)
            if len(message.digests) > 1:
                self._breach(item, "it sent other bytes than an attempt before it")
        match event:
            case MessageDeferred():
                self._see_next(item, message, event.next_attempt_at)
            case MessageSent():
                message.final = "sent"
            case MessageBounced():
                message.final = "bounced"
        if event.command == Command.END_OF_DATA.value and event.code is None:
            message.doubtful += 1

    def compare(self, receipts: list[Receipt]) -> None:
        by_message: dict[int, list[Receipt]] = defaultdict(list)
        for receipt in receipts:
            by_message[receipt.message_id].append(receipt)
        for message_id, received in by_message.items():
            message = self.messages.get(message_id)
            if message is None:
                self.found.append(f"a message {message_id} was received that the log does not know")
                continue
            # Of an attempt that was interrupted no event has the digest: then the receivers must agree.
            bytes_received = {receipt.sha256 for receipt in received}
            if len(bytes_received | message.digests) > 1:
                self.found.append(f"message {message_id} was received with bytes that no attempt sent")
            confirmed = sum(receipt.confirmed for receipt in received)
            if confirmed != (message.final == "sent") and not message.doubtful:
                self.found.append(
                    f"message {message_id} is {message.final}, and {confirmed} receivers said 250"
                )
            if len(received) > (message.final == "sent") + message.doubtful:
                self.found.append(
                    f"message {message_id} was received {len(received)} times, "
                    f"with {message.doubtful} attempts in doubt"
                )
        for message in self.messages.values():
            if message.final == "sent" and message.attempts and message.message_id not in by_message:
                self.found.append(f"message {message.message_id} is sent, and nobody received it")

    def _breach(self, item: Recorded, sentence: str) -> None:
        event: Event = item.event
        self.found.append(f"seq {item.seq}, {event.TYPE} of message {event.message_id}: {sentence}")  # type: ignore[attr-defined]


def half_accepted(events: Iterable[Recorded]) -> list[str]:
    """Each `send.accepted` is followed at once by its messages, all of them; and there are no others."""
    found = []
    expected: list[int] = []
    for item in events:
        event = item.event
        if isinstance(event, MessageQueued):
            if expected[:1] != [event.index]:
                found.append(
                    f"seq {item.seq}: recipient {event.index} is queued, of a send that is not before it"
                )
            expected = expected[1:]
            continue
        if expected:
            found.append(f"seq {item.seq}: {event.TYPE}, where recipient {expected[0]} of a send should be")
        expected = list(range(1, event.recipients + 1)) if isinstance(event, SendAccepted) else []
    if expected:
        found.append(f"the log ends, and recipient {expected[0]} of its last send is not there")
    return found
