"""What became of members' mail, counted: by hour and by day (UTC), for each member, sending domain and provider.

The invariant: **every outcome of a member's mail that a receiver was asked for, or could not be, is in one row of its
hour and in one of its day.** It counts at its own time. Not counted is what was never meant to reach anybody (reasons
`suppressed` and `cancelled`, the smoke sink), what comes after a message is final, and the relay's own mail (notices).

`accepted` counts a message when its provider is first known, or when it ends without one: so of each provider, what
was accepted is what was later sent, deferred and bounced there. Providers are words of `relay.providers`; events of
before they were recorded count as UNKNOWN, and so does mail that found nobody to ask. Nothing here is personal.
Rows of days stay for good, those of hours as long as they are asked for; `relay.views.receivers` has the same by MX
host and recipient domain, for as long as personal data are kept, and is filled from here.

This fold stands before that of `messages`: it sees each message as it was before the event.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from relay.codec import Recorded
from relay.events import (
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageSent,
    Outcome,
    PayloadErased,
    RecipientSuppressed,
)
from relay.providers import UNKNOWN
from relay.times import DAY_US, HOUR_US
from relay.views import messages, receivers
from relay.views.counting import Traffic, bucket_of
from relay.views.reputation import UNCOUNTED_REASONS
from spool.views import Snapshot, Transaction

#: hour, digest of the member, digest of domain and provider -> Row
_HOURS = "traffic_hours"
#: The same by day.
_DAYS = "traffic_days"

#: What lies further back is told by whole days: there may be thousands of rows in each hour.
HOURS_EXACT: Final = 2 * 24
#: Whoever asks is not always as late as the last event was.
_HOURS_KEPT: Final = HOURS_EXACT + 24
#: Whenever a row of a new hour is made, so many old ones go: no one event has to clear a whole hour away.
_HOURS_FORGOTTEN: Final = 20

_NUMBER = struct.Struct(">I")
_DIGEST_OCTETS = 16


class Row(msgspec.Struct, array_like=True):
    did: str
    domain: str
    #: A word of `relay.providers`, or UNKNOWN.
    provider: str
    traffic: Traffic


class Period(NamedTuple):
    """One hour, or one day, of UTC."""

    is_hour: bool
    #: Since the epoch.
    number: int

    @property
    def start_us(self) -> int:
        return self.number * (HOUR_US if self.is_hour else DAY_US)

    @property
    def end_us(self) -> int:
        return (self.number + 1) * (HOUR_US if self.is_hour else DAY_US)


_row = msgspec.msgpack.Decoder(Row)
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class TrafficProjector:
    name = "traffic"
    version = 1
    tables = (_HOURS, _DAYS, *receivers.TABLES)
    minds = (Outcome, MessageBounceReported, MessageComplained, RecipientSuppressed, PayloadErased)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case Outcome():
                self._outcome(tx, recorded, event)
            case MessageBounceReported() if event.counts:
                before = _state(tx, event.message_id)
                if before.reported_seq is None and before.status != "bounced":
                    name = event.bounce_class or UNKNOWN
                    self._count_later(tx, recorded, before, "reported", name)
            case MessageComplained() if event.authenticated:
                before = _state(tx, event.message_id)
                if before.complained_seq is None:
                    self._count_later(tx, recorded, before, "complaints", "")
            case RecipientSuppressed() if event.reason == "unsubscribe" and event.message_id is not None:
                self._count_later(tx, recorded, _state(tx, event.message_id), "unsubscribes", "")
            case PayloadErased():
                for message_id in event.message_ids:
                    receivers.forget(tx, message_id)
            case _:
                pass

    def _outcome(self, tx: Transaction, recorded: Recorded, event: Outcome) -> None:
        if isinstance(event, MessageBounced):
            if event.reason in UNCOUNTED_REASONS:
                return
        elif not event.attempt:
            return  # the smoke sink
        before = _state(tx, event.message_id)
        if before.final_at is not None or before.is_notice:
            return
        is_over = not isinstance(event, MessageDeferred)
        bucket = 0
        match event:
            case MessageSent():
                what, name = "sent", ""
                bucket = bucket_of(recorded.time_us - max(before.accepted_at, before.scheduled_at or 0))
            case MessageBounced():
                what, name = "bounced", event.bounce_class or UNKNOWN
            case _:
                what, name = "deferred", event.bounce_class or UNKNOWN
        counted = receivers.Counted(
            recorded.time_us // HOUR_US, what, name, bucket, event.tls_version is not None
        )
        accepted = before.provider is None and (event.provider is not None or is_over)
        self._count(tx, before, event.provider or before.provider or UNKNOWN, counted, accepted)
        if event.personal is not None:
            receivers.count_outcome(tx, event.message_id, event.personal.mx, counted)

    def _count_later(
        self, tx: Transaction, recorded: Recorded, before: messages.MessageState, what: str, name: str
    ) -> None:
        """Of a message that was sent."""
        if before.is_notice:
            return
        counted = receivers.Counted(recorded.time_us // HOUR_US, what, name)
        self._count(tx, before, before.provider or UNKNOWN, counted, accepted=False)
        receivers.count_later(tx, before.message_id, counted)

    def _count(
        self,
        tx: Transaction,
        state: messages.MessageState,
        provider: str,
        counted: receivers.Counted,
        accepted: bool,
    ) -> None:
        behind = _member_digest(state.did) + _pair_digest(state.domain, provider)
        for table, number in ((_HOURS, counted.hour), (_DAYS, counted.hour * HOUR_US // DAY_US)):
            key = _NUMBER.pack(number) + behind
            value = tx.get(table, key)
            row = _row.decode(value) if value else Row(state.did, state.domain, provider, Traffic())
            row.traffic.accepted += accepted
            counted.add_to(row.traffic, 1)
            tx.put(table, key, _encode(row))
            if value is None and table is _HOURS:
                _forget_hours(tx, number)


def _forget_hours(tx: Transaction, now_hour: int) -> None:
    end = _NUMBER.pack(max(0, now_hour - _HOURS_KEPT))
    for key in [key for key, _ in islice(tx.scan(_HOURS, b"", end), _HOURS_FORGOTTEN)]:
        tx.delete(_HOURS, key)


def _state(tx: Transaction, message_id: int) -> messages.MessageState:
    state = messages.message(tx, message_id)
    assert state is not None
    return state


@lru_cache(maxsize=4096)
def _member_digest(did: str) -> bytes:
    return hashlib.sha256(did.encode()).digest()[:_DIGEST_OCTETS]


@lru_cache(maxsize=4096)
def _pair_digest(domain: str, provider: str) -> bytes:
    return hashlib.sha256(f"{domain}\0{provider}".encode()).digest()[:_DIGEST_OCTETS]


def periods(since_us: int, until_us: int, now_us: int) -> list[Period]:
    """The hours and days that together are the time from `since` to `until`, in order, each once: days where whole days
    are asked for, hours at the ends of it. What lies further back than HOURS_EXACT is told by whole days, and no time
    is told more exactly than by the hour: so it may begin a little earlier than asked for, and end a little later. (To
    look at hours behind `now` finds nothing in them, so today is one day where it is asked for to its end.)"""
    exact_from = now_us // HOUR_US - HOURS_EXACT
    if until_us >= now_us:
        until_us = (now_us // DAY_US + 1) * DAY_US
    first, end = since_us // HOUR_US, -(-until_us // HOUR_US)
    if first < exact_from:
        first -= first % 24
    if end < exact_from:
        end += -end % 24
    found: list[Period] = []
    hour = first
    while hour < end:
        if hour % 24 == 0 and (hour + 24 <= end or hour < exact_from):
            found.append(Period(is_hour=False, number=hour // 24))
            hour += 24
        else:
            found.append(Period(is_hour=True, number=hour))
            hour += 1
    return found


def rows_of(
    view: Snapshot, period: Period, *, did: str | None = None, after: bytes = b""
) -> Iterator[tuple[bytes, Row]]:
    """What was counted in it, of all members or of one: (key, row) in the order of their keys, from behind the key
    `after` on."""
    prefix = _NUMBER.pack(period.number)
    if did is not None:
        prefix += _member_digest(did)
    for key, value in view.scan(
        _HOURS if period.is_hour else _DAYS, max(prefix, after + b"\0" if after else b""), _end(prefix)
    ):
        yield key, _row.decode(value)


def _end(prefix: bytes) -> bytes:
    return prefix + b"\xff" * (2 * _DIGEST_OCTETS + 1)


def days_of(view: Snapshot, did: str, now_us: int, count: int = 14) -> list[Traffic]:
    """A member's last days (UTC), the oldest first, today last."""
    today = now_us // DAY_US
    found = []
    for day in range(today - count + 1, today + 1):
        total = Traffic()
        for _, row in rows_of(view, Period(is_hour=False, number=max(0, day)), did=did):
            total.add(row.traffic)
        found.append(total)
    return found
