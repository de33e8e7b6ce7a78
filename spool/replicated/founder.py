"""What is asked of a database when a replicated log begins there, and when it ends.

The invariant: **no table that holds a log is lost unless it was named, or unless nobody has moved its head meanwhile.**
Whoever leads by tables that are dropped can append nothing any more, and nobody takes the head of tables that are not
there.
"""

from __future__ import annotations

from typing import Protocol

from spool.replicated.table import Head


class Founder(Protocol):
    """A database, as whoever founds a log in it reaches it. Each call has a connection of its own, and checks the
    settings of that server as `Table.connect` does. A call that is cancelled has an unknown outcome."""

    async def found(self, head: Head, *, discard: str | None = None) -> None:
        """Make the tables, with this head, no rows and no nodes. Returned: committed and witnessed.

        Where there are such tables already, they go with all that is in them, if `discard` is the database's name; else
        `UnfitTableError`, which says the name and how far their head is. Raises `TableError`, `UnknownOutcomeError`:
        asked again after that, it may find tables with this very head and no rows, and takes them for the ones it made.
        """

    async def end(self, head: Head) -> bool:
        """Drop the tables, where their head is this one, all of it. True: committed and witnessed. False: nothing was
        changed, since the head is another.

        Raises `TableError`, `UnknownOutcomeError`; `UnfitTableError`, also where there are no such tables."""
