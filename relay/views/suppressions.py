"""Suppression lists: to whom a member's mail may not go, and why (SPEC 3.4).

Addresses are compared without regard to case: who unsubscribed as `Bob@` did not ask to be written to as `bob@`.
Several reasons can hold at once, each since its own event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from relay.codec import Recorded
from relay.events import RecipientSuppressed, RecipientUnsuppressed
from relay.views.keys import owned, u64
from spool.views import Snapshot, Transaction

_SUPPRESSIONS = "suppressions"
#: member, sequence number of the first reason -> key in `suppressions`: the order of listings
_BY_SEQ = "suppressions_by_seq"

#: What a member may take back itself.
REVOCABLE = ("unsubscribe", "manual")


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
    return owned(did) + hashlib.sha256(address.lower().encode()).digest()[:16]


class SuppressionsProjector:
    name = "suppressions"
    version = 1
    tables = (_SUPPRESSIONS, _BY_SEQ)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, RecipientSuppressed) and event.personal is not None:
            key = _key(event.did, event.personal.address)
            state = suppression(tx, event.did, event.personal.address)
            state = state or Suppression(event.personal.address, [])
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

    def _put(self, tx: Transaction, did: str, key: bytes, state: Suppression) -> None:
        tx.put(_SUPPRESSIONS, key, _encode(state))
        tx.put(_BY_SEQ, owned(did) + u64(state.seq), key)


def suppression(view: Snapshot, did: str, address: str) -> Suppression | None:
    value = view.get(_SUPPRESSIONS, _key(did, address))
    return None if value is None else _suppression.decode(value)


def blocking_reason(view: Snapshot, did: str, address: str, *, bulk: bool) -> str | None:
    """Why a mail of this class may not go to the address; None: it may. A click on `unsubscribe` must not lock
    someone out of their own login, so it stops the bulk class only."""
    state = suppression(view, did, address)
    if state is None:
        return None
    reasons = [reason.reason for reason in state.reasons if bulk or reason.reason != "unsubscribe"]
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
