"""The due queue: which message is to be tried next, lane by lane.

A *lane* is what takes turns in delivery: the messages of one member and one class to one recipient domain. One row
for each message that is not final, keyed by (lane, next attempt time, message id), so that the next message of a lane
is one look-up, however many wait in others; and one row for the same messages by time, so that what is due next of
all is found without a walk through every lane. A message that must not be tried now is taken out of the queue and kept
by what holds it (by one holder, the last), until that lets go. `in_flight` has the attempts that were started and
have no outcome: after a crash, these are the interrupted ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from relay.codec import Recorded
from relay.events import (
    TRANSACTIONAL_CATEGORIES,
    AttemptInterrupted,
    AttemptStarted,
    DomainResumed,
    HeldReleased,
    MemberResumed,
    MessageDeferred,
    MessageEvent,
    MessageHeld,
    MessageQueued,
    MessageReleased,
    MessageRescheduled,
    Notice,
    Outcome,
)
from relay.views import messages
from relay.views.keys import read_u64, two_u64, u64
from spool.views import Snapshot, Transaction

#: lane, next attempt time, message id -> nothing
_DUE = "due"
#: next attempt time, message id -> lane
_DUE_BY_TIME = "due_by_time"
#: message id -> next attempt time, lane
_WAITING = "waiting"
#: holder, message id -> nothing
_HELD = "held"
#: message id -> holder
_HELD_BY = "held_by"
_IN_FLIGHT = "in_flight"

#: What the operator holds, of whatever member.
_OPERATOR = b"operator \0"

_TRANSACTIONAL, _BULK = b"0", b"1"
_MEMBER_OCTETS = 16


class Lane(NamedTuple):
    """The messages of one member and class to one recipient domain."""

    domain: str
    """Empty where retention has removed the address since."""
    bulk: bool
    #: Of its DID a digest, because a domain and a DID together are longer than a key may be.
    member: bytes

    @property
    def key(self) -> bytes:
        """Prefix of the lane's rows. A domain holds no NUL, and what follows it has a fixed length."""
        return self.domain.encode() + b"\0" + (_BULK if self.bulk else _TRANSACTIONAL) + self.member


def lane_of(*, did: str, category: str, address: str) -> Lane:
    """A DSN is in no hurry: it waits with the bulk mail, and overtakes nobody's login link."""
    return Lane(address.rpartition("@")[2], category not in TRANSACTIONAL_CATEGORIES, _member_digest(did))


@lru_cache(maxsize=4096)
def _member_digest(did: str) -> bytes:
    return hashlib.sha256(did.encode()).digest()[:_MEMBER_OCTETS]


def _lane_from(key: bytes) -> Lane:
    domain, _, rest = key.partition(b"\0")
    return Lane(domain.decode(), rest[:1] == _BULK, rest[1 : 1 + _MEMBER_OCTETS])


class DueProjector:
    name = "due"
    version = 7
    tables = (_DUE, _DUE_BY_TIME, _WAITING, _HELD, _HELD_BY, _IN_FLIGHT)
    minds = (MessageQueued, Notice, MessageEvent, HeldReleased, DomainResumed, MemberResumed)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case MessageQueued() | Notice():
                # Without its payload it is final further on in the log. Who looks back to before that still sees that
                # it waited, in a lane of no domain.
                address = "" if event.personal is None else event.personal.address
                lane = lane_of(did=event.did, category=event.category, address=address)
                self._enter(tx, recorded.seq, lane.key, event.next_attempt_at)
            case AttemptStarted():
                tx.put(_IN_FLIGHT, u64(event.message_id), u64(event.attempt))
                self._move(tx, event.message_id, event.next_attempt_at)
            case AttemptInterrupted():
                tx.delete(_IN_FLIGHT, u64(event.message_id))
                self._move(tx, event.message_id, event.next_attempt_at)
            case Outcome():
                tx.delete(_IN_FLIGHT, u64(event.message_id))
                next_attempt_at = event.next_attempt_at if isinstance(event, MessageDeferred) else None
                self._move(tx, event.message_id, next_attempt_at)
            case MessageHeld():
                self._hold(tx, event)
            case MessageReleased():
                if tx.get(_HELD_BY, u64(event.message_id)) == _OPERATOR:
                    self._release(tx, _OPERATOR + u64(event.message_id))
            case MessageRescheduled():
                self._reschedule(tx, event.message_id, event.next_attempt_at)
            case HeldReleased():
                for message_id in event.message_ids:
                    self._release_one(tx, event.because, message_id)
            case DomainResumed() if not event.in_steps:
                self._release(tx, _holder("domain", event.domain))
            case MemberResumed() if not event.in_steps:
                self._release(tx, _holder("member", event.did))
            case _:
                pass

    def _enter(self, tx: Transaction, message_id: int, lane: bytes, at: int) -> None:
        tx.put(_WAITING, u64(message_id), u64(at) + lane)
        tx.put(_DUE, lane + two_u64(at, message_id), b"")
        tx.put(_DUE_BY_TIME, two_u64(at, message_id), lane)

    def _leave(self, tx: Transaction, message_id: int, lane: bytes, at: int) -> None:
        tx.delete(_DUE, lane + two_u64(at, message_id))
        tx.delete(_DUE_BY_TIME, two_u64(at, message_id))

    def _move(self, tx: Transaction, message_id: int, at: int | None) -> None:
        """Give the message another time, or take it out for good."""
        key = u64(message_id)
        value = tx.get(_WAITING, key)
        if value is None:  # it is final
            return
        before, lane = read_u64(value), value[8:]
        self._leave(tx, message_id, lane, before)
        self._let_go(tx, key)
        if at is None:
            tx.delete(_WAITING, key)
        else:
            self._enter(tx, message_id, lane, at)

    def _reschedule(self, tx: Transaction, message_id: int, at: int) -> None:
        """Another time, and whoever holds the message goes on doing so."""
        key = u64(message_id)
        value = tx.get(_WAITING, key)
        if value is not None and tx.get(_HELD_BY, key) is not None:
            tx.put(_WAITING, key, u64(at) + value[8:])
        else:
            self._move(tx, message_id, at)

    def _hold(self, tx: Transaction, event: MessageHeld) -> None:
        key = u64(event.message_id)
        value = tx.get(_WAITING, key)
        state = messages.message(tx, event.message_id)
        if value is None or state is None:
            return
        self._leave(tx, event.message_id, value[8:], read_u64(value))
        self._let_go(tx, key)
        if event.because == "operator":
            holder = _OPERATOR
        else:
            holder = _holder(event.because, state.domain if event.because == "domain" else state.did)
        tx.put(_HELD_BY, key, holder)
        tx.put(_HELD, holder + key, b"")

    def _let_go(self, tx: Transaction, key: bytes) -> None:
        """Whoever holds the message does so no more."""
        holder = tx.get(_HELD_BY, key)
        if holder is not None:
            tx.delete(_HELD_BY, key)
            tx.delete(_HELD, holder + key)

    def _release_one(self, tx: Transaction, because: str, message_id: int) -> None:
        holder = tx.get(_HELD_BY, u64(message_id))
        if holder is not None and holder.startswith(because.encode() + b" "):
            self._release(tx, holder + u64(message_id))

    def _release(self, tx: Transaction, held_prefix: bytes) -> None:
        """Back into the queue, each at its old time."""
        for held, _ in list(tx.scan_prefix(_HELD, held_prefix)):
            key = held[-8:]
            self._let_go(tx, key)
            value = tx.get(_WAITING, key)
            assert value is not None
            self._enter(tx, read_u64(key), value[8:], read_u64(value))


def _holder(because: str, name: str) -> bytes:
    return because.encode() + b" " + name.encode() + b"\0"


class WaitingMessage(NamedTuple):
    """A message that is not final."""

    message_id: int
    lane: Lane
    next_attempt_at: int
    #: `domain`, `member` or `operator`; None where nothing holds it.
    held_by: str | None


def waiting(view: Snapshot, message_id: int) -> WaitingMessage | None:
    """None where it is final, or there never was such a message."""
    value = view.get(_WAITING, u64(message_id))
    return None if value is None else _waiting(view, u64(message_id), value)


def recipient_domain(view: Snapshot, message_id: int) -> str | None:
    """Of a message that is not final; empty where retention has removed it since. None where it is final."""
    value = view.get(_WAITING, u64(message_id))
    return None if value is None else value[8:].partition(b"\0")[0].decode()


def waiting_after(view: Snapshot, message_id: int) -> Iterator[WaitingMessage]:
    """All that are not final, held or not, in the order of their ids, from just after this one."""
    for key, value in view.scan(_WAITING, u64(message_id + 1)):
        yield _waiting(view, key, value)


def _waiting(view: Snapshot, key: bytes, value: bytes) -> WaitingMessage:
    holder = view.get(_HELD_BY, key)
    held_by = None if holder is None else holder.partition(b" ")[0].decode()
    return WaitingMessage(read_u64(key), _lane_from(value[8:]), read_u64(value), held_by)


def due(view: Snapshot, lane: Lane) -> Iterator[tuple[int, int]]:
    """(next attempt time, message id) of the messages in a lane, the earliest first."""
    prefix = lane.key
    for key, _ in view.scan_prefix(_DUE, prefix):
        yield read_u64(key, len(prefix)), read_u64(key, len(prefix) + 8)


def due_from(view: Snapshot, at: int, message_id: int) -> Iterator[tuple[int, int, Lane]]:
    """(next attempt time, message id, lane) of all in the queue in this order, from these two on."""
    for key, lane in view.scan(_DUE_BY_TIME, two_u64(at, message_id)):
        yield read_u64(key), read_u64(key, 8), _lane_from(lane)


def earliest(view: Snapshot) -> int | None:
    """The earliest next attempt time in the queue; None where it is empty."""
    return next((at for at, _, _ in due_from(view, 0, 0)), None)


def in_flight(view: Snapshot) -> list[tuple[int, int]]:
    """(message id, attempt) of the attempts that were started and have no outcome."""
    return [(read_u64(key), read_u64(value)) for key, value in view.scan(_IN_FLIGHT)]


def held_from(view: Snapshot, because: str, name: str, message_id: int) -> Iterator[int]:
    """The messages that this domain or member (`because`) holds, in the order of their ids, from this one on."""
    holder = _holder(because, name)
    for key, _ in view.scan(_HELD, holder + u64(message_id), holder + b"\xff" * 9):
        yield read_u64(key, len(holder))


def held_count(view: Snapshot) -> int:
    return view.count(_HELD)
