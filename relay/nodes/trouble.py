"""What is wrong with the database, or in it, as one node tells it: in its row, on `/readyz`, and in its log.

The invariant: **a node that cannot go on says so until it can, and serves what it has, unless that must not be
served.** There are two kinds of trouble:

- *The database cannot be used.* It is tried again and again; what is read here is as old as it says.
- *What is in it is refused* (`spool.replicated.following`). Somebody has to put it right, so the sentence says what to
  do. It stays where a database that cannot be reached is met later.

Two of these make a log *unfit*, and no member is answered from it until it is filled from another node. It has parted
from the one that is agreed on: messages in it may be in no other, and another message may have their number. Or it was
away for so long that the database has not what it lacks: what was erased meanwhile is in it still. Streams that are
open end then: nothing would ever come of them here, and nothing would tell their readers.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.nodes.versions import UnreadRowError
from spool.errors import DivergedError, LostRowsError, RowsMissingError, SpoolError, TailGoneError
from spool.replicated.following import REFUSED
from spool.replicated.rows import DamagedRowError
from spool.replicated.table import NoTablesError, ShowsLessError, TableError

_FILL = "Fill this directory from another node: `atmos-relay node fill DIR --from NAME`"
_RIGHT_AGAIN = (
    "this node goes on when it is right again, or when it is filled from another one: `atmos-relay node fill`"
)
_NO_TABLES = (
    "If it is the right one, put the log there from the node whose log is furthest: `atmos-relay node found DIR` "
    "(docs/NODES.md)"
)
FOUND_ANEW = "What to do is in docs/NODES.md, where the database was restored to an earlier time"


def in_words(error: TableError | SpoolError) -> str:
    """What is wrong, and what to do."""
    match error:
        case UnreadRowError():
            return str(error)
        case TailGoneError():
            return f"{error}. {_FILL}"
        case DivergedError():
            return f"this log has parted from the others': {error}. {_FILL}"
        case DamagedRowError() | RowsMissingError():
            return f"{error}; {_RIGHT_AGAIN}"
        case LostRowsError() | ShowsLessError():
            return f"{error}. {FOUND_ANEW}"
        case NoTablesError():
            return f"{error}. {_NO_TABLES}"
        case _:
            return str(error)


class Trouble:
    """Of one node. `on_unfit` is called when no member is answered from the log here any more."""

    def __init__(self, on_unfit: Callable[[], None]) -> None:
        self._on_unfit = on_unfit
        self._text: str | None = None
        self._is_refusal = False
        #: No member is answered from the log here.
        self.is_unfit = False
        #: Why nobody may lead, as far as this node knows.
        self.nobody_leads: str | None = None

    @property
    def text(self) -> str | None:
        """In a sentence."""
        return self.nobody_leads or self._text

    def hear(self, error: TableError | SpoolError | None) -> bool:
        """None: all is well again. Whether it is something new."""
        if error is None:
            self.clear()
            return False
        if self._is_refusal and isinstance(error, TableError):
            return False
        text = in_words(error)
        is_new = text != self._text
        self._text, self._is_refusal = text, isinstance(error, REFUSED)
        self.is_unfit = isinstance(error, (DivergedError, TailGoneError))
        if self.is_unfit:
            self._on_unfit()
        return is_new

    def say(self, error: TableError | None) -> bool:
        """Of a node that leads. Whether it is something new."""
        text = None if error is None else in_words(error)
        is_new = text is not None and text != self._text
        self.clear()
        self._text = text
        return is_new

    def clear(self) -> None:
        self._text, self._is_refusal, self.is_unfit = None, False, False
