"""What alarms stand on: which names are in trouble, and when who was last told of what.

A name is in trouble while it is enrolled and paused, or while the DNS records of one of its enrolments are wrong that
were right once. The row only says where to look; what is so, `relay.views.members` knows, which is folded before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from relay.codec import Recorded
from relay.events import AlarmQueued, DomainEvent
from relay.views import members
from relay.views.keys import owned, read_u64, u64
from spool.views import Snapshot, Transaction

#: name -> nothing
_TROUBLED = "alarm_names"
#: DID (none: the operator), a digest of the alarm's name and of what it is about -> when its mail was queued last
_TOLD = "alarm_told"


class AlarmsProjector:
    name = "alarms"
    version = 1
    tables = (_TROUBLED, _TOLD)
    minds = (DomainEvent, AlarmQueued)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, AlarmQueued):
            tx.put(_TOLD, _told_key(event.did, event.alarm, event.about), u64(recorded.time_us))
        elif isinstance(event, DomainEvent):
            name = event.domain.encode()
            if any(map(is_in_trouble, members.enrolments(tx, event.domain))):
                tx.put(_TROUBLED, name, b"")
            else:
                tx.delete(_TROUBLED, name)


def is_in_trouble(state: members.DomainState) -> bool:
    return state.status != "active" or has_lost_records(state)


def has_lost_records(state: members.DomainState) -> bool:
    """Its DNS records are wrong, and were right once."""
    return state.proved_at is not None and (not state.verified or state.failing_since is not None)


def _told_key(did: str, alarm: str, about: str) -> bytes:
    """A digest, because what it is about may be longer than a key."""
    return owned(did) + hashlib.sha256(f"{alarm}\0{about}".encode()).digest()[:16]


def names_in_trouble(view: Snapshot, *, behind: str = "") -> Iterator[str]:
    """In the order of their bytes; those behind `behind`, which need not be one of them."""
    for key, _ in view.scan(_TROUBLED, behind.encode() + b"\0" if behind else b""):
        yield key.decode()


def told_at(view: Snapshot, did: str, alarm: str, about: str) -> int | None:
    """When the member, or the operator where `did` is none, was last told of it by mail; None: never."""
    value = view.get(_TOLD, _told_key(did, alarm, about))
    return None if value is None else read_u64(value)
