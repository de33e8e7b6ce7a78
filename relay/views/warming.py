"""How much each domain has sent in the last hour and day, and how many bytes each member: exactly (SPEC 4, 13).

One row for each accepted send with the running total of its domain, and one with that of its member, so that the count
of any window is the difference of two look-ups. Rows older than the longest window go when the next send comes, but for
the last of them, from which the window's difference is taken.

A message that its member has scheduled counts at its own time, and not when it was accepted. It may be moved or
cancelled before that, and another may come before it, so there is no running total of these: one row for each domain
and minute says how many have their time in it. A window has all of a minute of which it has a part, so that it never
has fewer than there are. A message that ended without having been tried counts no more. Octets count when they are
accepted, for it is the disk that they take.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.codec import Recorded
from relay.events import (
    AttemptStarted,
    MessageBounced,
    MessageDeferred,
    MessageQueued,
    MessageRescheduled,
    MessageSent,
    SendAccepted,
)
from relay.times import DAY_US, MINUTE_US
from relay.views.keys import owned, read_u64, two_u64, u64
from spool.views import Snapshot, Transaction

_SENDS = "warming_sends"
#: member, time, sequence number -> octets of all its sends up to this one
_BYTES = "accepted_bytes"
#: domain, minute -> how many scheduled messages have their time in it
_SCHEDULED = "scheduled_minutes"
#: Scheduled message that was not tried yet -> its minute and domain
_UNTRIED = "scheduled_untried"

WINDOW_US_MAX = DAY_US
#: What a message that bounces at once takes in the log and in the views, about.
SUPPRESSED_OCTETS = 2048


class WarmingProjector:
    name = "warming"
    version = 3
    tables = (_SENDS, _BYTES, _SCHEDULED, _UNTRIED)
    minds = (
        SendAccepted,
        MessageQueued,
        MessageRescheduled,
        AttemptStarted,
        MessageSent,
        MessageDeferred,
        MessageBounced,
    )

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case SendAccepted():
                if event.recipients:
                    self._accepted(tx, recorded, event)
            case MessageQueued():
                if event.scheduled:
                    self._plan(tx, recorded.seq, event.domain, minute_of(event.next_attempt_at))
                    self._forget_minutes(tx, event.domain, recorded.time_us)
            case MessageRescheduled():
                # One that was tried counts where it did: it has left already, perhaps.
                domain = self._withdraw(tx, event.message_id)
                if domain is not None:
                    self._plan(tx, event.message_id, domain, minute_of(event.next_attempt_at))
            case MessageBounced() if not event.attempt:
                self._withdraw(tx, event.message_id)
            case AttemptStarted() | MessageSent() | MessageDeferred() | MessageBounced():
                key = u64(event.message_id)
                if tx.get(_UNTRIED, key) is not None:
                    tx.delete(_UNTRIED, key)
            case _:
                pass

    def _accepted(self, tx: Transaction, recorded: Recorded, event: SendAccepted) -> None:
        time = recorded.time_us
        of_domain, of_member, now = _prefix(event.domain), owned(event.did), two_u64(time, recorded.seq)
        # Forgotten first: LMDB is given a row when it is next asked for one, and here that is once for each send.
        if event.wanted and event.scheduled_at is None:
            self._forget(tx, _SENDS, of_domain, time - WINDOW_US_MAX)
            tx.put(_SENDS, of_domain + now, u64(_until(tx, _SENDS, of_domain, time) + event.wanted))
        octets = octets_counted(event.size, event.suppressed)
        self._forget(tx, _BYTES, of_member, time - WINDOW_US_MAX)
        tx.put(_BYTES, of_member + now, u64(_until(tx, _BYTES, of_member, time) + octets))

    def _plan(self, tx: Transaction, message_id: int, domain: str, minute_us: int) -> None:
        tx.put(_UNTRIED, u64(message_id), u64(minute_us) + domain.encode())
        self._count(tx, domain, minute_us, 1)

    def _withdraw(self, tx: Transaction, message_id: int) -> str | None:
        """A scheduled message that was not tried counts no more. Its domain; None: it is no such message."""
        value = tx.get(_UNTRIED, u64(message_id))
        if value is None:
            return None
        tx.delete(_UNTRIED, u64(message_id))
        domain = value[8:].decode()
        self._count(tx, domain, read_u64(value), -1)
        return domain

    def _count(self, tx: Transaction, domain: str, minute_us: int, change: int) -> None:
        key = _prefix(domain) + u64(minute_us)
        value = tx.get(_SCHEDULED, key)
        count = (read_u64(value) if value else 0) + change
        if count > 0:
            tx.put(_SCHEDULED, key, u64(count))
        elif value is not None:  # None: it was held so long that nobody counts that minute any more
            tx.delete(_SCHEDULED, key)

    def _forget_minutes(self, tx: Transaction, domain: str, now_us: int) -> None:
        prefix = _prefix(domain)
        for key in tx.keys(_SCHEDULED, prefix, prefix + u64(max(0, minute_of(now_us - WINDOW_US_MAX)))):
            tx.delete(_SCHEDULED, key)

    def _forget(self, tx: Transaction, table: str, prefix: bytes, until_us: int) -> None:
        for key in tx.keys(table, prefix, prefix + u64(max(0, until_us) + 1))[:-1]:
            tx.delete(table, key)


def _prefix(domain: str) -> bytes:
    return domain.encode() + b"\0"


def minute_of(time_us: int) -> int:
    """When the minute begins that this time is in."""
    return time_us - time_us % MINUTE_US


def scheduled_since(view: Snapshot, domain: str, time_us: int) -> bool:
    """Whether a scheduled message of the domain has its time in the minute of this one, or later. One look-up."""
    prefix = _prefix(domain)
    last = view.last(_SCHEDULED, prefix, prefix + b"\xff" * 8)
    return last is not None and read_u64(last[0], len(prefix)) >= minute_of(time_us)


def scheduled_minutes(view: Snapshot, domain: str, start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    """(beginning of the minute, how many scheduled messages have their time in it) of the minutes that begin in
    [start, end], the earliest first."""
    prefix = _prefix(domain)
    for key, value in view.scan(_SCHEDULED, prefix + u64(max(0, start_us)), prefix + u64(end_us + 1)):
        yield read_u64(key, len(prefix)), read_u64(value)


def total_until(view: Snapshot, domain: str, time_us: int) -> int:
    """How many recipients the domain's sends up to and including that time had, since it was enrolled. Scheduled ones
    are not among them.

    Exact for times that are not older than the longest window before the domain's last send.
    """
    return _until(view, _SENDS, _prefix(domain), time_us)


def octets_counted(size: int, suppressed: int) -> int:
    """What a send of this size counts as, among the octets of its member. No limit of recipients bounds how many
    suppressed ones there are, and they become messages, too."""
    return size + suppressed * SUPPRESSED_OCTETS


def bytes_until(view: Snapshot, did: str, time_us: int) -> int:
    """As `total_until`: how many octets the member's sends had of which anything was kept."""
    return _until(view, _BYTES, owned(did), time_us)


def _until(view: Snapshot, table: str, prefix: bytes, time_us: int) -> int:
    last = view.last(table, prefix, prefix + u64(max(0, time_us) + 1))
    return 0 if last is None else read_u64(last[1])


def used(view: Snapshot, domain: str, at_us: int, window_us: int) -> int:
    """Recipients in the window (at - window, at]: those that were accepted in it, and the scheduled ones whose time is
    in it. Of a scheduled message's time, `at_us` may be to come."""
    start_us = at_us - window_us
    at_once = total_until(view, domain, at_us) - total_until(view, domain, start_us)
    return at_once + sum(count for _, count in scheduled_minutes(view, domain, minute_of(start_us), at_us))


def sends_after(view: Snapshot, domain: str, time_us: int) -> Iterator[tuple[int, int]]:
    """(time, running total) of the domain's sends after that time, the oldest first."""
    return _after(view, _SENDS, _prefix(domain), time_us)


def bytes_after(view: Snapshot, did: str, time_us: int) -> Iterator[tuple[int, int]]:
    """As `sends_after`, of a member's octets."""
    return _after(view, _BYTES, owned(did), time_us)


def _after(view: Snapshot, table: str, prefix: bytes, time_us: int) -> Iterator[tuple[int, int]]:
    start = prefix + u64(time_us + 1)
    for key, value in view.scan(table, start, prefix + b"\xff" * 16):
        yield read_u64(key, len(prefix)), read_u64(value)
