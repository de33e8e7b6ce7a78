"""Which pepper the relay's keys are derived from, and since when. The first one is number 1, and in no event."""

from __future__ import annotations

from relay.codec import Recorded
from relay.events import PepperRotated
from relay.views.keys import read_u64, u64
from spool.views import Snapshot, Transaction

#: sequence number of the `pepper.rotated` -> the number of the pepper
_SINCE = "peppers"

FIRST = 1


class PeppersProjector:
    name = "peppers"
    version = 1
    tables = (_SINCE,)
    minds = (PepperRotated,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        if isinstance(recorded.event, PepperRotated):
            tx.put(_SINCE, u64(recorded.seq), u64(recorded.event.number))


def current(view: Snapshot) -> int:
    return number_at(view, 2**63)


def number_at(view: Snapshot, seq: int) -> int:
    """Of the pepper that held when this was recorded: tokens and addresses of a message are made by it for ever."""
    last = view.last(_SINCE, b"", u64(seq))
    return FIRST if last is None else read_u64(last[1])
