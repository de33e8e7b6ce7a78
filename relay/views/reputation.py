"""How each domain's mail fares, in rolling windows, and each member's by day (SPEC 1.3 and 4).

For the windows, one row for each final message and each complaint, with the running totals of its domain: any window is
the difference of two look-ups, and its evidence (counts, sequence range) can be named. Rows older than the longest
window that can be configured go when the next one comes, but for the last of them.

A bounce counts as one in the rate where it tells of the recipient (`RECIPIENT_CLASSES`). One that tells of the relay
(`RELAY_CLASSES`) is counted apart: it is no final message of the rate either. All others are final and not bounced. One
without a class was written by a relay that gave none, and nobody guesses it now.

A bounce that is reported later counts by the same classes, at the time of its report. Its message was final when it was
sent, and is not so again; only where the report came first, the outcome makes it final and is no bounce any more. Of
several reports that could count one does, and so it is with complaints: `relay.views.messages` has which.

What was never given to a receiver (`suppressed`, `cancelled`, the smoke sink) does not count in rates, and neither do
DSNs: they are the relay's own mail.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from operator import add
from typing import NamedTuple

from relay.codec import Recorded
from relay.events import (
    RECIPIENT_CLASSES,
    RELAY_CLASSES,
    Evidence,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageEvent,
    MessageSent,
    SendAccepted,
)
from relay.times import DAY_US
from relay.views import messages
from relay.views.keys import owned, read_u64, two_u64, u64
from spool.views import Snapshot, Transaction

#: What changes a domain's rates, so that it is to be judged.
RATED = (MessageSent, MessageBounced, MessageBounceReported, MessageComplained)

_FINALS = "reputation_finals"
_DAYS = "reputation_days"
#: domain, time, sequence number -> message id, of each bounce that counts in the rate
_BOUNCES = "reputation_bounces"
#: The same of each complaint.
_COMPLAINTS = "reputation_complaints"

#: So many bounces are looked through for different recipients, the newest first. A domain is judged after each of its
#: bounces, so a third recipient is missed only if that many bounces of the other two stand between.
_BOUNCES_LOOKED_AT_MAX = 2000

WINDOW_DAYS_MAX = 14
WINDOW_US_MAX = WINDOW_DAYS_MAX * DAY_US
#: Bounces that say nothing of the domain's mail.
UNCOUNTED_REASONS = ("suppressed", "cancelled")

_TOTALS = struct.Struct(">QQQQ")
_DAY = struct.Struct(">QQQQQ")


class Totals(NamedTuple):
    final: int = 0
    bounced: int = 0
    complaints: int = 0
    #: Refused for what the relay is.
    of_relay: int = 0


class Day(NamedTuple):
    """What became of a member's mail on one day (UTC)."""

    accepted: int = 0
    sent: int = 0
    bounced: int = 0
    complaints: int = 0
    #: Of `bounced`, those that were sent, on whatever day, and reported later.
    reported: int = 0


class ReputationProjector:
    name = "reputation"
    version = 5
    tables = (_FINALS, _DAYS, _BOUNCES, _COMPLAINTS)
    minds = (SendAccepted, MessageSent, MessageBounced, MessageBounceReported, MessageComplained)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case SendAccepted() if event.wanted:
                self._count_day(tx, event.did, recorded.time_us, Day(accepted=event.wanted))
            case MessageSent() if event.attempt:
                self._count(tx, recorded, event, Totals(final=1), Day(sent=1))
            case MessageBounced():
                state = _state(tx, event)
                if state.report_counts:
                    self._count(tx, recorded, event, Totals(final=1), Day())
                elif event.reason not in UNCOUNTED_REASONS:
                    bounced = _bounce_in_rates(event.bounce_class)
                    self._count(tx, recorded, event, bounced, Day(bounced=1))
            case MessageBounceReported():
                state = _state(tx, event)
                if event.counts and state.reported_seq == recorded.seq and state.status != "bounced":
                    reported = _bounce_in_rates(event.bounce_class)._replace(final=0)
                    self._count(tx, recorded, event, reported, Day(bounced=1, reported=1))
            case MessageComplained():
                if _state(tx, event).complained_seq == recorded.seq:
                    self._count(tx, recorded, event, Totals(complaints=1), Day(complaints=1))
            case _:
                pass

    def _count(
        self, tx: Transaction, recorded: Recorded, event: MessageEvent, more: Totals, more_of_day: Day
    ) -> None:
        state = _state(tx, event)
        if state.is_notice:
            return
        self._count_day(tx, event.did, recorded.time_us, more_of_day)
        prefix = _prefix(state.domain)
        before = totals_until(tx, state.domain, recorded.time_us)
        after = map(add, before, more)
        tx.put(_FINALS, prefix + two_u64(recorded.time_us, recorded.seq), _TOTALS.pack(*after))
        oldest = prefix + u64(max(0, recorded.time_us - WINDOW_US_MAX) + 1)
        for key in tx.keys(_FINALS, prefix, oldest)[:-1]:
            tx.delete(_FINALS, key)
        table = _BOUNCES if more.bounced else _COMPLAINTS if more.complaints else None
        if table is not None:
            tx.put(table, prefix + two_u64(recorded.time_us, recorded.seq), u64(event.message_id))
            for key in tx.keys(table, prefix, oldest):
                tx.delete(table, key)

    def _count_day(self, tx: Transaction, did: str, time_us: int, more: Day) -> None:
        key = owned(did) + u64(time_us // DAY_US)
        value = tx.get(_DAYS, key)
        tx.put(_DAYS, key, _DAY.pack(*(map(add, _DAY.unpack(value), more) if value else more)))


def _state(tx: Transaction, event: MessageEvent) -> messages.MessageState:
    state = messages.message(tx, event.message_id)
    assert state is not None
    return state


def _bounce_in_rates(bounce_class: str | None) -> Totals:
    if bounce_class in RELAY_CLASSES:
        return Totals(of_relay=1)
    return Totals(final=1, bounced=int(bounce_class in RECIPIENT_CLASSES))


def _prefix(domain: str) -> bytes:
    return domain.encode() + b"\0"


def totals_until(view: Snapshot, domain: str, time_us: int) -> Totals:
    prefix = _prefix(domain)
    last = view.last(_FINALS, prefix, prefix + u64(time_us + 1))
    return Totals() if last is None else Totals(*_TOTALS.unpack(last[1]))


def bounced_recipients(view: Snapshot, domain: str, start_us: int, end_us: int, count_max: int) -> int:
    """How many different recipients bounced in (start, end], as addresses are compared; `count_max` at most.

    To whom a message was whose address was erased, nobody knows: it counts as one to somebody else.
    """
    prefix = _prefix(domain)
    rows = view.scan(_BOUNCES, prefix + u64(start_us + 1), prefix + u64(end_us + 1), reverse=True)
    found: set[bytes] = set()
    for _, message_id in islice(rows, _BOUNCES_LOOKED_AT_MAX):
        found.add(messages.recipient_digest(view, read_u64(message_id)) or message_id)
        if len(found) >= count_max:
            break
    return len(found)


def counted(
    view: Snapshot, domain: str, start_us: int, end_us: int, *, complaints: bool
) -> Iterator[tuple[int, int]]:
    """(sequence number of what counted, message id) in (start, end], the newest first: the bounces of the rate, or the
    complaints."""
    prefix = _prefix(domain)
    first, end = prefix + u64(start_us + 1), prefix + u64(end_us + 1)
    for key, value in view.scan(_COMPLAINTS if complaints else _BOUNCES, first, end, reverse=True):
        yield read_u64(key, len(key) - 8), read_u64(value)


def evidence(view: Snapshot, domain: str, start_us: int, end_us: int) -> Evidence:
    """What happened to the domain's mail in (start, end]."""
    before, until = totals_until(view, domain, start_us), totals_until(view, domain, end_us)
    prefix = _prefix(domain)
    first_key, end_key = prefix + u64(start_us + 1), prefix + u64(end_us + 1)
    first = next(view.scan(_FINALS, first_key, end_key), None)
    last = view.last(_FINALS, first_key, end_key)
    return Evidence(
        window_start=start_us,
        window_end=end_us,
        first_seq=0 if first is None else read_u64(first[0], len(first[0]) - 8),
        last_seq=0 if last is None else read_u64(last[0], len(last[0]) - 8),
        final=until.final - before.final,
        bounced=until.bounced - before.bounced,
        complaints=until.complaints - before.complaints,
    )


def all_days(view: Snapshot) -> Iterator[tuple[bytes, str, int, Day]]:
    """(table key, DID, beginning of the day, what became of its mail) of every member."""
    for key, value in view.scan(_DAYS):
        yield key, key[:-9].decode(), read_u64(key, len(key) - 8) * DAY_US, Day(*_DAY.unpack(value))


def days(view: Snapshot, did: str, now_us: int, count: int = 14) -> list[Day]:
    """The member's last days (UTC), the oldest first, today last."""
    today = now_us // DAY_US
    found = []
    for day in range(today - count + 1, today + 1):
        value = view.get(_DAYS, owned(did) + u64(max(0, day)))
        found.append(Day(*_DAY.unpack(value)) if value else Day())
    return found
