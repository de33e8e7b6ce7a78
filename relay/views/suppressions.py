"""Suppression lists: to whom a member's mail may not go, and why (SPEC 3.4).

Addresses are compared as people compare them (`relay.characters.comparable`): who unsubscribed as `Bob@` did not ask to
be written to as `bob@`.
Several reasons can hold at once, each since its own event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from relay.characters import UNICODE_VERSION, comparable
from relay.codec import Recorded
from relay.events import RecipientSuppressed, RecipientUnsuppressed
from relay.views.keys import owned, read_u64, u64
from spool.views import Snapshot, Transaction

_SUPPRESSIONS = "suppressions"
#: member, sequence number of the first reason -> key in `suppressions`: the order of listings
_BY_SEQ = "suppressions_by_seq"
#: member -> how many there are
_COUNTS = "suppression_counts"
#: digest of an address -> how many members' lists it is on
_LISTS = "suppression_lists"

REASONS = ("unsubscribe", "complaint", "manual", "bounced")
#: What a member may take back itself.
REVOCABLE = ("unsubscribe", "manual", "bounced")
#: What stops the bulk class only. A click, or a mailbox that a receiver did not know for an hour, must not lock someone
#: out of their own login.
_OF_BULK = ("unsubscribe", "bounced")


class Reason(msgspec.Struct, array_like=True):
    reason: str
    since: int
    seq: int
    note: str | None = None


class Suppression(msgspec.Struct, array_like=True):
    address: str
    #: In the order in which they came.
    reasons: list[Reason]

    @property
    def seq(self) -> int:
        return self.reasons[0].seq


_suppression = msgspec.msgpack.Decoder(Suppression)
_encode = msgspec.msgpack.Encoder().encode


#: A NUL and the digest, behind the DID.
_KEY_TAIL = 17


def _key(did: str, address: str) -> bytes:
    return owned(did) + _digest(address)


def _digest(address: str) -> bytes:
    return hashlib.sha256(comparable(address).encode()).digest()[:16]


class SuppressionsProjector:
    name = "suppressions"
    #: Which characters fold to which is Unicode's, and grows with Python.
    version = 400 + UNICODE_VERSION
    tables = (_SUPPRESSIONS, _BY_SEQ, _COUNTS, _LISTS)
    minds = (RecipientSuppressed, RecipientUnsuppressed)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, RecipientSuppressed) and event.personal is not None:
            key = _key(event.did, event.personal.address)
            state = suppression(tx, event.did, event.personal.address)
            if state is None:
                state = Suppression(event.personal.address, [])
                _count(tx, event.did, event.personal.address, 1)
            if any(reason.reason == event.reason for reason in state.reasons):
                return
            state.reasons.append(Reason(event.reason, recorded.time_us, recorded.seq, event.personal.note))
            self._put(tx, event.did, key, state)
        elif isinstance(event, RecipientUnsuppressed) and event.personal is not None:
            key = _key(event.did, event.personal.address)
            state = suppression(tx, event.did, event.personal.address)
            if state is None:
                return
            tx.delete(_BY_SEQ, owned(event.did) + u64(state.seq))
            state.reasons = [reason for reason in state.reasons if reason.reason not in REVOCABLE]
            if state.reasons:
                self._put(tx, event.did, key, state)
            else:
                tx.delete(_SUPPRESSIONS, key)
                _count(tx, event.did, event.personal.address, -1)

    def _put(self, tx: Transaction, did: str, key: bytes, state: Suppression) -> None:
        tx.put(_SUPPRESSIONS, key, _encode(state))
        tx.put(_BY_SEQ, owned(did) + u64(state.seq), key)


def _count(tx: Transaction, did: str, address: str, change: int) -> None:
    tx.put(_COUNTS, owned(did), u64(count_of(tx, did) + change))
    lists = _lists_with(tx, address) + change
    if lists:
        tx.put(_LISTS, _digest(address), u64(lists))
    else:
        tx.delete(_LISTS, _digest(address))


def _lists_with(view: Snapshot, address: str) -> int:
    value = view.get(_LISTS, _digest(address))
    return 0 if value is None else read_u64(value)


def is_on_any_list(view: Snapshot, address: str) -> bool:
    """Whether any member may not write to the address, for whatever reason."""
    return _lists_with(view, address) > 0


def count_of(view: Snapshot, did: str) -> int:
    """How many addresses the member's list has."""
    value = view.get(_COUNTS, owned(did))
    return 0 if value is None else read_u64(value)


def suppression(view: Snapshot, did: str, address: str) -> Suppression | None:
    value = view.get(_SUPPRESSIONS, _key(did, address))
    return None if value is None else _suppression.decode(value)


def blocking_reason(view: Snapshot, did: str, address: str, *, bulk: bool) -> str | None:
    """Why a mail of this class may not go to the address; None: it may."""
    state = suppression(view, did, address)
    if state is None:
        return None
    reasons = [reason.reason for reason in state.reasons if bulk or reason.reason not in _OF_BULK]
    return reasons[0] if reasons else None


def has_complained(view: Snapshot, did: str, address: str) -> bool:
    """Whether the address called a mail of this member's spam, which nothing takes back."""
    state = suppression(view, did, address)
    return state is not None and any(reason.reason == "complaint" for reason in state.reasons)


def suppressions_of(view: Snapshot, did: str, *, before: int | None = None) -> Iterator[Suppression]:
    """A member's suppressions, the newest first; `before` is the sequence number to go on from."""
    prefix = owned(did)
    stop = None if before is None else prefix + u64(before)
    for _, key in view.scan_prefix(_BY_SEQ, prefix, before=stop, reverse=True):
        value = view.get(_SUPPRESSIONS, key)
        assert value is not None
        yield _suppression.decode(value)


def by_address(view: Snapshot) -> Iterator[tuple[bytes, str, Suppression]]:
    """(table key, DID, suppression) of every member, each under the key that its address keeps."""
    for key, value in view.scan(_SUPPRESSIONS):
        yield key, key[:-_KEY_TAIL].decode(), _suppression.decode(value)
