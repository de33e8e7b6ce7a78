"""What was asked of a relay, what it answered, and what its listeners heard: what promises are held against."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.codec import Recorded
from relay.events import (
    SendAccepted,
)


class Answer(NamedTuple):
    status: int
    body: bytes
    #: The relay's time and the last event of its log when it was given. A refusal leaves nothing in the log, so that a
    #: clock that is set back afterwards can let the log go on at an earlier time.
    at_us: int = 0
    at_seq: int = 0

    @property
    def code(self) -> str:
        return str(json.loads(self.body).get("code", ""))


@dataclass
class SendRequest:
    """One body that a client posted, perhaps several times; its subject is `request NUMBER`."""

    number: int
    did: str
    domain: str
    recipients: list[str]
    body: bytes
    key: str | None = None
    #: When its member wants it sent, where that is not at once.
    scheduled_at: int | None = None
    answers: list[Answer] = field(default_factory=list)
    #: How often nobody answered, or with a 503 that leaves it open.
    unknown: int = 0

    @property
    def may_be_true(self) -> bool:
        return bool(self.unknown) or any(answer.status == 200 for answer in self.answers)


@dataclass
class Heard:
    """What one listener was told on `/v1/stream`, whatever broke in between."""

    did: str
    #: The cursor before its first frame; None: it was never told.
    begin: int | None
    #: (sequence number, type, time) of each frame.
    frames: list[tuple[int, str, str]] = field(default_factory=list)
    #: It has listened long enough to have heard all events up to this one; more may come before the relay ends. None:
    #: it went away before.
    whole_until: int | None = None


@dataclass
class Ledger:
    """All that clients and the operator remember."""

    requests: list[SendRequest] = field(default_factory=list)
    #: (member, address) whose suppression was acknowledged.
    suppressed: list[tuple[str, str]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    #: (message, time) of each that its member has moved.
    moved: list[tuple[int, int]] = field(default_factory=list)
    #: (message, last event of the log when it was answered) of each whose erasure was acknowledged.
    erased: list[tuple[int, int]] = field(default_factory=list)
    #: (message, digest) of each report, and the digest of each mail to be passed on, that was acknowledged.
    reported: list[tuple[int, str]] = field(default_factory=list)
    passed_on: list[str] = field(default_factory=list)
    #: Member -> (sequence number, type) of each event that it was shown in `/v1/events`.
    followed: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    #: All members have read on until nothing more came, after this event. None: they never have.
    followed_until: int | None = None
    heard: list[Heard] = field(default_factory=list)


class Entry(NamedTuple):
    """An event, and the number of the batch it was written in."""

    recorded: Recorded
    batch: int


#: How long an accepted send may be on its way into the log, at most.
ON_ITS_WAY_US = 60_000_000


@dataclass
class _Call:
    """Of a member's own unsubscribe URL."""

    due_at: int
    give_up_at: int
    attempts: int = 0
    is_over: bool = False


@dataclass
class _Send:
    seq: int
    event: SendAccepted
    batch: int
    request: int
    message_ids: list[int] = field(default_factory=list)


HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
GRACE_US = 3 * DAY_US
#: After call 1, 2, 3 ... of a member's own unsubscribe URL; ten per cent more or less.
CALL_DELAYS_SECONDS = (60, 300, 900, 3600, 3 * 3600, 6 * 3600)
