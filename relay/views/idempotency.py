"""Idempotency keys: which send a key stands for, for 24 hours of the log's own time.

The key lives in the accepted event itself (SPEC 1.1); this is the way to find it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from relay.codec import Recorded
from relay.events import SendAccepted
from relay.times import DAY_US
from relay.views.keys import owned, two_u64
from spool.views import Snapshot, Transaction

_KEYS = "idempotency_keys"
#: time, sequence number -> key in `idempotency_keys`: the order in which they are forgotten
_BY_TIME = "idempotency_by_time"

KEPT_US = DAY_US
_VALUE = struct.Struct(">QQ32s")
#: The digest of a key, and with the NUL before it.
_DIGEST = 32
_KEY_TAIL = _DIGEST + 1


class First(NamedTuple):
    """The first request with a key: where its `send.accepted` stands, and what its body was."""

    seq: int
    time_us: int
    body_sha256: str


class IdempotencyProjector:
    name = "idempotency"
    version = 1
    tables = (_KEYS, _BY_TIME)
    minds = (SendAccepted,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, SendAccepted) or event.idempotency_key is None:
            return
        assert event.body_sha256 is not None
        self._forget(tx, recorded.time_us - KEPT_US)
        key = _key(event.did, event.idempotency_key)
        tx.put(_KEYS, key, _VALUE.pack(recorded.seq, recorded.time_us, bytes.fromhex(event.body_sha256)))
        tx.put(_BY_TIME, two_u64(recorded.time_us, recorded.seq), key)

    def _forget(self, tx: Transaction, until_us: int) -> None:
        for when, key in list(tx.scan(_BY_TIME, b"", two_u64(max(0, until_us) + 1, 0))):
            tx.delete(_BY_TIME, when)
            value = tx.get(_KEYS, key)
            # The key may have been used again since, once it was too old to count.
            if value is not None and two_u64(_VALUE.unpack(value)[1], _VALUE.unpack(value)[0]) == when:
                tx.delete(_KEYS, key)


def _key(did: str, key_sha256: str) -> bytes:
    return owned(did) + bytes.fromhex(key_sha256)


def all_first_uses(view: Snapshot) -> Iterator[tuple[bytes, str, str, First]]:
    """(table key, DID, SHA-256 of the Idempotency-Key, what it stands for), those included that are only not forgotten
    yet."""
    for key, value in view.scan(_KEYS):
        seq, time_us, body = _VALUE.unpack(value)
        yield key, key[:-_KEY_TAIL].decode(), key[-_DIGEST:].hex(), First(seq, time_us, body.hex())


def first_use(view: Snapshot, did: str, key_sha256: str, now_us: int) -> First | None:
    """The send that this key stands for, if it was accepted in the last 24 hours."""
    value = view.get(_KEYS, _key(did, key_sha256))
    if value is None:
        return None
    seq, time_us, body = _VALUE.unpack(value)
    return First(seq, time_us, body.hex()) if time_us > now_us - KEPT_US else None
