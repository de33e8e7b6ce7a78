"""What was sent in a round of `make crash`, and what has become of it so far."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

RECIPIENTS_MAX = 4
#: How far clocks jump and processes stand still, so that times between events say nothing.
CLOCK_SLACK_US = 24 * 3600 * 1_000_000


class Violation(AssertionError):
    """The relay has broken a promise."""


@dataclass
class Send:
    did: str
    key: str
    body: bytes
    recipients: list[str]
    #: The 200 that was read to its end.
    answer: bytes | None = None
    #: Answered 503 QUEUE_FULL, and not sent again since: the log must not know it.
    refused: bool = False
    #: An order to erase one of its messages was given: from some moment on a replay is refused.
    erasing: bool = False
    #: It names a time a moment ahead. Who asks again for a mail that was not accepted may come too late for that.
    scheduled: bool = False


@dataclass
class Tally:
    """What has happened, for the record."""

    answers: int = 0
    #: Messages that the answers told of.
    told: int = 0
    replays: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    #: kill -9 of the relay, by what chose the moment.
    kills: Counter[str] = field(default_factory=Counter)
    #: kill -9 of a command, and not of the relay.
    command_kills: Counter[str] = field(default_factory=Counter)
    #: What was sent to children of the relay, by signal and role.
    worker_signals: Counter[str] = field(default_factory=Counter)
    starts: list[Start] = field(default_factory=list)
    #: Ends of the log that `log verify` found torn after a kill.
    torn: int = 0
    #: Of the log as it is in the end, or was when last it could be read.
    events: Counter[str] = field(default_factory=Counter)
    #: Receipts but for each message's first, by what excuses them.
    received_again: Counter[str] = field(default_factory=Counter)
    payloads_gone: int = 0
    frames: int = 0
    streams: int = 0
    hook_requests: int = 0
    #: How often each check was made.
    checks: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def start_seconds_median(self) -> float:
        return statistics.median(start.own_seconds for start in self.starts)


class Start(NamedTuple):
    """How long the relay took until it served."""

    seconds: float
    #: Of them it stood ready to run, and waited for a core.
    waiting_seconds: float

    @property
    def own_seconds(self) -> float:
        return self.seconds - self.waiting_seconds
