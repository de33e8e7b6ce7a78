"""The lease of whoever leads: is somebody there, and may the dot be sent.

It is for liveness alone. Who may append is decided by the head of the table (`spool.replicated.table`), and no clock
has a part in that. What a clock may cost is time without a leader, or a leader that takes the place of one that lives.

Times are of this process's own monotonic clock, in seconds, and of one clock at a time: no two machines' clocks are
compared. *Who reads* takes the lease for stale when all that it read for `lease_seconds` was the same. Reads that
failed, or were far apart, prove nothing: then the database was away, or this process stood still, and so perhaps could
nobody renew it. *Who leads* counts from before it sent the renewal that succeeded. So it stops before others may begin:
who takes the head begins with the very lease that it found stale (`Connection.take_lease`), and where that was renewed
in the same moment, it does not begin.

An old primary that has come back shows a lease that does not move. So who reads looks at another host, too, before it
believes that nobody leads; what it reads there is held against the highest that it has seen anywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from spool.replicated.table import Lease

#: Of a lease, until it is renewed. So three renewals may fail before others take notice.
RENEWED_AFTER: Final = 0.25
WITNESSED_WITHIN: Final = 0.5
#: A node whose clock is further off from the database's neither leads nor appends: its times would be the log's.
CLOCK_OFF_US_MAX: Final = 1_000_000


class LeaseWatch:
    """Of who reads."""

    def __init__(self, lease_seconds: float) -> None:
        self._seconds = lease_seconds
        self._highest: tuple[int, int] | None = None
        #: What was read last, and of which host.
        self._shown: tuple[int, int] | None = None
        self._host = ""
        #: Since when it has not moved, and until when that is known. None: no read counts.
        self._since: float | None = None
        self._until = 0.0

    def read(self, lease: Lease | None, host: str, *, sent_at: float, answered_at: float) -> bool:
        """A read that was answered. True: nobody leads, as far as it shows. No lease: nobody has led yet."""
        value = (0, 0) if lease is None else (lease.epoch, lease.counter)
        is_higher = self._highest is None or value > self._highest
        # On one host any change tells that somebody writes. What another host shows may be old.
        has_moved = is_higher or (host == self._host and self._shown is not None and value != self._shown)
        if is_higher:
            self._highest = value
        self._shown, self._host = value, host
        if has_moved or self._since is None or sent_at - self._until > self._seconds:
            self._since = self._until = answered_at
            return False
        self._until = max(self._until, sent_at)
        return self._until - self._since >= self._seconds

    def begin_anew(self) -> None:
        """A read was not answered: what had been read before counts no more. Or somebody is about to lead: it has its
        time."""
        self._since = None
        self._shown = None


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

    @property
    def witness_seconds(self) -> float:
        """A renewal waits so long until it counts. Who reads sees the next one before it takes this one for stale."""
        return self._seconds * WITNESSED_WITHIN

    def next_counter(self) -> int:
        """Of the renewal that is about to be sent. One that fails has used its own, too."""
        self.counter += 1
        return self.counter

    def confirmed(self, sent_at: float) -> None:
        """A renewal that was sent then has succeeded, and outlives a failover."""
        if self._confirmed_at is None or sent_at > self._confirmed_at:
            self._confirmed_at = sent_at

    def may_send_dot(self, now: float) -> bool:
        """Whether nobody else can take the lease for stale yet: what leaves now is not sent by two."""
        return now < self.good_until

    @property
    def good_until(self) -> float:
        """Nobody else could lead before this moment."""
        return float("-inf") if self._confirmed_at is None else self._confirmed_at + self._seconds


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


class Led(NamedTuple):
    """Who leads, as a node says it of itself in its lease."""

    name: str
    #: Where other nodes reach it.
    address: str


def written_address(name: str, address: str) -> str:
    return f"{name} {address}"


def read_address(written: str) -> Led | None:
    """None: it is none of ours."""
    name, _, address = written.partition(" ")
    return Led(name, address) if name and address else None
