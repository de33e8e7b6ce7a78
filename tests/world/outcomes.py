"""What may become of a statement that is sent to the database in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final


class Outcome(Enum):
    """What becomes of a statement. What makes sense for each is in `OUTCOMES_OF`."""

    ANSWERED = auto()
    """As it should."""
    ONE_BEHIND = auto()
    """The same, but one of two standbys stays behind until the operator comes."""
    REFUSED = auto()
    """The server says no, for a reason of its own: nothing has happened."""
    CUT_BEFORE = auto()
    """The connection breaks, and the statement never arrives."""
    CUT_AFTER = auto()
    """It is carried out, and the connection breaks before the answer."""
    LATE = auto()
    """The connection breaks, and the statement arrives when the next one that changes the head has been carried out."""
    WARNED = auto()
    """No standby flushes, and somebody cancels the wait. The standbys stay behind until the operator comes."""
    WARNED_AND_LOST = auto()
    """The same, and then a standby without it is promoted."""
    HUNG = auto()
    """No standby flushes until the operator comes."""
    LOST = auto()
    """The primary dies before a standby has it, and a standby is promoted."""
    LOST_BUT_SHOWN = auto()
    """The same, and the old primary comes back, and shows it to whoever finds it first."""
    FAILED_OVER = auto()
    """The primary dies after one standby has it, before the answer; the most advanced standby is promoted."""
    EMPTIED_BEFORE = auto()
    """Somebody empties synchronous_standby_names, and it stays so until the operator comes."""
    EMPTIED_MEANWHILE = auto()
    """No standby flushes; somebody empties the setting; the wait ends, as if all were well."""
    VANISHED = auto()
    """The same, and then a standby without it is promoted."""


_COMMITS: Final = tuple(Outcome)
_OTHER: Final = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.CUT_BEFORE, Outcome.LOST, Outcome.LOST_BUT_SHOWN)
#: Statement -> what may become of it.
OUTCOMES_OF: Final[Mapping[str, Sequence[Outcome]]] = {
    "connect": (*_OTHER, Outcome.EMPTIED_BEFORE),
    "take_head": _COMMITS,
    "append": _COMMITS,
    "head": _OTHER,
    "rows": _OTHER,
    "oldest_seq": _OTHER,
    "lease": _OTHER,
    "write_lease": (*_OTHER, Outcome.CUT_AFTER),
    "take_lease": (*_OTHER, Outcome.CUT_AFTER),
    "has_witness": _OTHER,
    "nodes": _OTHER,
    "write_node": (*_OTHER, Outcome.CUT_AFTER),
    "remove_node": _COMMITS,
    "time_us": _OTHER,
    "wait_for_news": _OTHER,
    "keep": (*_OTHER, Outcome.EMPTIED_BEFORE),
    "keeping.head": _OTHER,
    "found": _COMMITS,
    "discard": _COMMITS,
    "begin_part": (*_OTHER, Outcome.CUT_AFTER),
    "drop_through": (*_OTHER, Outcome.CUT_AFTER),
    "octets": _OTHER,
}
