"""Who leads, as a node that follows reads it from the database: another, nobody, or one that is about to.

The invariant: **that nobody leads is believed when the lease has been read for its time, and was always the same.**
What was not answered in between, or by an old primary, proves nothing, and it begins anew (`relay.nodes.lease`).
"""

from __future__ import annotations

from relay.nodes.lease import LeaseWatch, Led, read_address
from spool.replicated.following import Seen
from spool.replicated.table import NOBODY, Head, Lease


class WhoLeads:
    """Of one node. `now`: when the answer was there, by trio's clock."""

    def __init__(self, lease_seconds: float) -> None:
        self._watch = LeaseWatch(lease_seconds)
        #: As the lease said last, however old that is.
        self.led: Led | None = None
        #: The lease does not move, as far as is known.
        self.is_stale = False
        #: It did not move for its time, and is still the same.
        self.is_nobody = False
        self._lease: tuple[object, ...] | None = None
        self._given_time = 0

    def see(self, seen: Seen, now: float) -> bool:
        """Whether the lease is another one than it was."""
        lease = seen.lease
        if lease is not None:
            self.led = read_address(lease.address) or self.led
        self.is_stale = self.is_still_stale(lease, seen.host, sent_at=seen.at, now=now)
        value = None if lease is None else (lease.epoch, lease.holder, lease.counter)
        has_changed = value != self._lease
        self.is_nobody = self.is_stale or (self.is_nobody and not has_changed)
        self._lease = value
        return has_changed

    def is_still_stale(self, lease: Lease | None, host: str, *, sent_at: float, now: float) -> bool:
        """It was read on another connection."""
        return self._watch.read(lease, host, sent_at=sent_at, answered_at=now)

    def begin_anew(self) -> None:
        self._watch.begin_anew()

    def is_about_to_lead(self, head: Head, lease: Lease | None) -> bool:
        """Another has taken the head, and its lease does not say so yet. It has its time, once: it may have died."""
        holder, epoch = (NOBODY, 0) if lease is None else (lease.holder, lease.epoch)
        if head.holder == holder or head.epoch <= epoch:
            return False
        is_new = head.epoch != self._given_time
        self._given_time = head.epoch
        return is_new
