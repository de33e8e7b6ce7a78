"""What became of members' mail at each MX host and recipient domain, for as long as personal data are kept.

The invariant: **a row here is the sum over the messages whose personal data nobody has erased, and nothing else.**
Which host was talked to and which domain a message went to are personal. So each message has a row of its own that says
where it was counted, and when its payload is erased, all that it had added is taken back: a row to which nobody else
has added is gone. The same comes of folding a log from which the payloads were removed, byte for byte.

No projector of its own: that of `relay.views.traffic` fills these tables, so both count the same events.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from relay.times import DAY_US, HOUR_US
from relay.views import due
from relay.views.counting import Traffic, count_in
from relay.views.keys import read_u64, u64
from spool.views import Snapshot, Transaction

if TYPE_CHECKING:
    from relay.views.traffic import Period

#: hour, digest of MX host and recipient domain -> ReceiverRow
_HOURS = "receiver_hours"
#: The same by day.
_DAYS = "receiver_days"
#: digest of an MX host, message id -> nothing: of messages that were tried there
_BY_HOST = "by_mx_host"
#: message id -> where it was counted, a list of _Where
_COUNTED = "counted_at_receivers"

TABLES: Final = (_HOURS, _DAYS, _BY_HOST, _COUNTED)

_NUMBER = struct.Struct(">I")
_DIGEST_OCTETS = 16


class Counted(NamedTuple):
    """One thing that is counted once: which counter of `Traffic`, and what in it."""

    hour: int
    #: `sent`, `deferred`, `bounced`, `reported`, `complaints` or `unsubscribes`
    what: str
    #: A class of bounces, where there is one.
    name: str = ""
    #: With `sent`.
    bucket: int = 0
    tls: bool = False

    def add_to(self, traffic: Traffic, change: int) -> None:
        """1, or -1 to take it back."""
        match self.what:
            case "sent":
                traffic.sent += change
                traffic.tls += change * self.tls
                count_in(traffic.waits, str(self.bucket), change)
            case "deferred":
                count_in(traffic.deferred, self.name, change)
            case "bounced":
                count_in(traffic.bounced, self.name, change)
            case "reported":
                count_in(traffic.reported, self.name, change)
            case "complaints":
                traffic.complaints += change
            case _:
                assert self.what == "unsubscribes"
                traffic.unsubscribes += change


class _Where(NamedTuple):
    mx: str
    site: str
    counted: Counted


class ReceiverRow(msgspec.Struct, array_like=True):
    #: Host; empty where nobody could be asked.
    mx: str
    #: Recipient domain.
    site: str
    traffic: Traffic


_row = msgspec.msgpack.Decoder(ReceiverRow)
_counted = msgspec.msgpack.Decoder(list[_Where])
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_NOTHING = Traffic()


def count_outcome(tx: Transaction, message_id: int, mx: str | None, counted: Counted) -> None:
    """Of a message that waits, as the `due` view still has it."""
    mx = (mx or "").lower()
    where = _Where(mx, due.recipient_domain(tx, message_id) or "", counted)
    value = tx.get(_COUNTED, u64(message_id))
    before = _counted.decode(value) if value else []
    tx.put(_COUNTED, u64(message_id), _encode([*before, where]))
    if mx:
        tx.put(_BY_HOST, _digest(mx) + u64(message_id), b"")
    _count(tx, where, 1)


def count_later(tx: Transaction, message_id: int, counted: Counted) -> None:
    """Where the message was last counted; nowhere, where that was erased."""
    value = tx.get(_COUNTED, u64(message_id))
    if value is None:
        return
    before = _counted.decode(value)
    where = before[-1]._replace(counted=counted)
    tx.put(_COUNTED, u64(message_id), _encode([*before, where]))
    _count(tx, where, 1)


def forget(tx: Transaction, message_id: int) -> None:
    """Take back all that the message has added."""
    value = tx.get(_COUNTED, u64(message_id))
    if value is None:
        return
    tx.delete(_COUNTED, u64(message_id))
    for where in _counted.decode(value):
        _count(tx, where, -1)
        if where.mx:
            tx.delete(_BY_HOST, _digest(where.mx) + u64(message_id))


def _count(tx: Transaction, where: _Where, change: int) -> None:
    behind = _digest(f"{where.mx}\0{where.site}")
    hour = where.counted.hour
    for table, number in ((_HOURS, hour), (_DAYS, hour * HOUR_US // DAY_US)):
        key = _NUMBER.pack(number) + behind
        value = tx.get(table, key)
        row = _row.decode(value) if value else ReceiverRow(where.mx, where.site, Traffic())
        where.counted.add_to(row.traffic, change)
        if change < 0 and row.traffic == _NOTHING:
            tx.delete(table, key)
        else:
            tx.put(table, key, _encode(row))


@lru_cache(maxsize=4096)
def _digest(name: str) -> bytes:
    """Of a host, or of a host and a domain: the name of a host is a stranger's, and may be longer than a key."""
    return hashlib.sha256(name.encode()).digest()[:_DIGEST_OCTETS]


def rows_of(view: Snapshot, period: Period, *, after: bytes = b"") -> Iterator[tuple[bytes, ReceiverRow]]:
    """What was counted in it: (key, row) in the order of their keys, from behind the key `after` on."""
    prefix = _NUMBER.pack(period.number)
    start = after + b"\0" if after else prefix
    table = _HOURS if period.is_hour else _DAYS
    for key, value in view.scan(table, start, prefix + b"\xff" * (_DIGEST_OCTETS + 1)):
        yield key, _row.decode(value)


def tried_at(view: Snapshot, mx: str, *, before: int | None = None) -> Iterator[int]:
    """Ids of the messages that were tried at this host, newest first; `before` is the one to go on from."""
    prefix = _digest(mx.lower())
    stop = None if before is None else prefix + u64(before)
    for key, _ in view.scan_prefix(_BY_HOST, prefix, before=stop, reverse=True):
        yield read_u64(key, _DIGEST_OCTETS)


def was_tried_at(view: Snapshot, mx: str, message_id: int) -> bool:
    return view.get(_BY_HOST, _digest(mx.lower()) + u64(message_id)) is not None
