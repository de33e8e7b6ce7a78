"""The epoch of the browser's console: sessions that were begun in an earlier one are over."""

from __future__ import annotations

from relay.codec import Recorded
from relay.events import ConsoleEpochRaised
from relay.views.keys import read_u64, u64
from spool.views import Snapshot, Transaction

#: `epoch` -> its number. No row: 0.
_CONSOLE = "console"
_EPOCH = b"epoch"


class ConsoleProjector:
    name = "console"
    version = 1
    tables = (_CONSOLE,)
    minds = (ConsoleEpochRaised,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        if isinstance(recorded.event, ConsoleEpochRaised):
            tx.put(_CONSOLE, _EPOCH, u64(recorded.event.epoch))


def epoch(view: Snapshot) -> int:
    value = view.get(_CONSOLE, _EPOCH)
    return 0 if value is None else read_u64(value)
