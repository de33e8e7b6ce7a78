"""The lease of whoever leads: is somebody there, and may the dot be sent.

It is for liveness alone. Who may append is decided by the head of the table (`spool.replicated.table`), and no clock
has a part in that. What a clock may cost is time without a leader, or a leader that takes the place of one that lives.

Times are of this process's own monotonic clock, in seconds, and of one clock at a time: no two machines' clocks are
compared. *Who reads* takes the lease for stale when all that it read for `lease_seconds` was the same. Reads that
failed, or were far apart, prove nothing: then the database was away, or this process stood still, and so perhaps could
nobody renew it. *Who leads* counts from before it sent the renewal that succeeded. So it stops before others may begin.

An old primary that has come back shows a lease that does not move. So who reads looks at another host before it
believes that nobody leads.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from spool.replicated.table import Lease

#: Of a lease, until it is renewed. So three renewals may fail before others take notice.
RENEWED_AFTER: Final = 0.25
#: A node whose clock is further off from the database's neither leads nor appends: its times would be the log's.
CLOCK_OFF_US_MAX: Final = 1_000_000


class Seen(Enum):
    """What the reads of the lease come to."""

    LED = "somebody leads, or it is not known yet that nobody does"
    LOOK_ELSEWHERE = "it does not move: read it from another host before that is believed"
    STALE = "nobody leads"


class LeaseWatch:
    """Of who reads."""

    def __init__(self, lease_seconds: float) -> None:
        self._seconds = lease_seconds
        self._highest: tuple[int, int] | None = None
        #: What this connection showed last. None: nothing yet.
        self._shown: tuple[int, int] | None = None
        #: Since when it has not moved, and until when that is known. None: no read counts.
        self._since: float | None = None
        self._until = 0.0
        self._has_looked_elsewhere = False

    def read(self, lease: Lease | None, sent_at: float, answered_at: float) -> Seen:
        """A read that was answered. No lease: nobody has led yet, or nobody since the tables were made."""
        value = (0, 0) if lease is None else (lease.epoch, lease.counter)
        is_higher = self._highest is None or value > self._highest
        # On one connection any change tells that somebody writes.
        has_moved = is_higher or (self._shown is not None and value != self._shown)
        if is_higher:
            self._highest = value
        self._shown = value
        if has_moved:
            self._has_looked_elsewhere = False
        if has_moved or self._since is None or sent_at - self._until > self._seconds:
            self._since = answered_at
            self._until = answered_at
            return Seen.LED
        self._until = max(self._until, sent_at)
        if self._until - self._since < self._seconds:
            return Seen.LED
        return Seen.STALE if self._has_looked_elsewhere else Seen.LOOK_ELSEWHERE

    def failed(self) -> None:
        """A read that was not answered: what had been read before counts no more."""
        self._since = None
        self._shown = None

    def looks_elsewhere(self) -> None:
        """The next read is another connection's, as LOOK_ELSEWHERE asked for."""
        self._shown = None
        self._has_looked_elsewhere = True

    def begin_anew(self) -> None:
        """Somebody else was quicker to lead, or it could not be done: it has its time once more."""
        self.failed()
        self._has_looked_elsewhere = False


class HeldLease:
    """Of who leads."""

    def __init__(self, lease_seconds: float) -> None:
        self._seconds = lease_seconds
        self._confirmed_at: float | None = None
        self.counter = 0

    @property
    def renewal_seconds(self) -> float:
        """From one renewal to the next."""
        return self._seconds * RENEWED_AFTER

    def next_counter(self) -> int:
        """Of the renewal that is about to be sent. One that fails has used its own, too."""
        self.counter += 1
        return self.counter

    def confirmed(self, sent_at: float) -> None:
        """A renewal that was sent then has succeeded."""
        if self._confirmed_at is None or sent_at > self._confirmed_at:
            self._confirmed_at = sent_at

    def may_send_dot(self, now: float) -> bool:
        """Whether nobody else can take the lease for stale yet: what leaves now is not sent by two."""
        return self._confirmed_at is not None and now - self._confirmed_at < self._seconds


def clock_off_us(before_us: int, database_us: int, after_us: int) -> int:
    """How far the database's clock is ahead of ours, at the least; below zero: behind. `before_us` and `after_us`: ours
    when it was asked, and when it had answered.

    What an answer takes tells nothing of the clocks, so a slow one is in our favour.
    """
    if database_us > after_us:
        return database_us - after_us
    if database_us < before_us:
        return database_us - before_us
    return 0


def is_clock_off(off_us: int) -> bool:
    return abs(off_us) > CLOCK_OFF_US_MAX
