"""Calls of members' own unsubscribe URLs that are still to be made (SPEC 3.3), by the time of the next try."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from relay.codec import Recorded
from relay.events import RecipientSuppressed, UnsubscribeCalled
from relay.views.keys import read_u64, two_u64, u64
from spool.views import Snapshot, Transaction

_DUE = "calls_due"
#: sequence number of the `recipient.suppressed` -> next time, attempts made
_CALLS = "calls"


#: message id -> the `recipient.suppressed` for which its URL was called, or will be
_CALLED = "calls_of"


class Call(NamedTuple):
    at_us: int
    suppressed_seq: int
    attempts: int


class CallsProjector:
    name = "calls"
    version = 2
    tables = (_DUE, _CALLS, _CALLED)
    minds = (RecipientSuppressed, UnsubscribeCalled)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, RecipientSuppressed) and event.call_at is not None:
            self._enter(tx, recorded.seq, event.call_at, 0)
            if event.message_id is not None:
                tx.put(_CALLED, u64(event.message_id), u64(recorded.seq))
        elif isinstance(event, UnsubscribeCalled):
            value = tx.get(_CALLS, u64(event.suppressed_seq))
            assert value is not None, f"a call for {event.suppressed_seq}, which asked for none"
            tx.delete(_DUE, two_u64(read_u64(value), event.suppressed_seq))
            tx.delete(_CALLS, u64(event.suppressed_seq))
            if event.next_attempt_at is not None:
                self._enter(tx, event.suppressed_seq, event.next_attempt_at, event.attempt)

    def _enter(self, tx: Transaction, seq: int, at: int, attempts: int) -> None:
        tx.put(_CALLS, u64(seq), two_u64(at, attempts))
        tx.put(_DUE, two_u64(at, seq), b"")


def is_called(view: Snapshot, message_id: int) -> bool:
    """Whether the URL of this message was called already, or is going to be."""
    return view.get(_CALLED, u64(message_id)) is not None


def all_calls(view: Snapshot) -> Iterator[Call]:
    """All calls to be made, in the order of the suppressions that they are about."""
    for key, value in view.scan(_CALLS):
        yield Call(read_u64(value), read_u64(key), read_u64(value, 8))


def is_call_pending(view: Snapshot, message_id: int) -> bool:
    """Whether the URL of this message is still to be called, and so still needed."""
    suppressed_seq = view.get(_CALLED, u64(message_id))
    return suppressed_seq is not None and view.get(_CALLS, suppressed_seq) is not None


def calls(view: Snapshot) -> Iterator[Call]:
    """All calls to be made, the next one first."""
    for key, _ in view.scan(_DUE):
        at, seq = read_u64(key), read_u64(key, 8)
        value = view.get(_CALLS, u64(seq))
        assert value is not None
        yield Call(at, seq, read_u64(value, 8))
