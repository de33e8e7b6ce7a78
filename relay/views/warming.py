"""How much each domain has sent in the last hour and day, and how many bytes each member: exactly (SPEC 4, 13).

One row for each accepted send with the running total of its domain, and one with that of its member, so that the count
of any window is the difference of two look-ups. Rows older than the longest window go when the next send comes, but for
the last of them, from which the window's difference is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.codec import Recorded
from relay.events import SendAccepted
from relay.times import DAY_US
from relay.views.keys import owned, read_u64, two_u64, u64
from spool.views import Snapshot, Transaction

_SENDS = "warming_sends"
#: member, time, sequence number -> octets of all its sends up to this one
_BYTES = "accepted_bytes"

WINDOW_US_MAX = DAY_US


class WarmingProjector:
    name = "warming"
    version = 2
    tables = (_SENDS, _BYTES)
    minds = (SendAccepted,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if not isinstance(event, SendAccepted) or not event.wanted:
            return
        time = recorded.time_us
        of_domain, of_member, now = _prefix(event.domain), owned(event.did), two_u64(time, recorded.seq)
        tx.put(_SENDS, of_domain + now, u64(_until(tx, _SENDS, of_domain, time) + event.wanted))
        tx.put(_BYTES, of_member + now, u64(_until(tx, _BYTES, of_member, time) + event.size))
        self._forget(tx, _SENDS, of_domain, time - WINDOW_US_MAX)
        self._forget(tx, _BYTES, of_member, time - WINDOW_US_MAX)

    def _forget(self, tx: Transaction, table: str, prefix: bytes, until_us: int) -> None:
        for key in tx.keys(table, prefix, prefix + u64(max(0, until_us) + 1))[:-1]:
            tx.delete(table, key)


def _prefix(domain: str) -> bytes:
    return domain.encode() + b"\0"


def total_until(view: Snapshot, domain: str, time_us: int) -> int:
    """How many recipients the domain's sends up to and including that time had, since it was enrolled.

    Exact for times that are not older than the longest window before the domain's last send.
    """
    return _until(view, _SENDS, _prefix(domain), time_us)


def bytes_until(view: Snapshot, did: str, time_us: int) -> int:
    """As `total_until`: how many octets the member's sends had, that went to anybody."""
    return _until(view, _BYTES, owned(did), time_us)


def _until(view: Snapshot, table: str, prefix: bytes, time_us: int) -> int:
    last = view.last(table, prefix, prefix + u64(max(0, time_us) + 1))
    return 0 if last is None else read_u64(last[1])


def used(view: Snapshot, domain: str, now_us: int, window_us: int) -> int:
    """Accepted recipients in the window (now - window, now]."""
    return total_until(view, domain, now_us) - total_until(view, domain, now_us - window_us)


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
