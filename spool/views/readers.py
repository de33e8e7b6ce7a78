"""Places of one process in LMDB's table of readers, which is shared by all processes that read the views.

The invariant: **so many snapshots at a time always find a place, however many other processes have filled the table.**
The process takes them when it opens the views, and keeps them: a transaction of py-lmdb that has ended keeps its place,
and no page, for as long as the object is there.
"""

from __future__ import annotations

from typing import Any

import lmdb

from spool.views.snapshot import begin_reading


class Readers:
    """Of one environment."""

    def __init__(self, env: Any, places: int) -> None:
        self._env = env
        self._places = places
        #: Transactions that have ended.
        self._reserve: list[Any] = []

    def take(self) -> None:
        """Take the places. Raises ReadersFullError where other processes leave no room for them."""
        while len(self._reserve) < self._places:
            self._reserve.append(begin_reading(self._env))
        for txn in self._reserve:
            txn.abort()

    def begin(self) -> Any:
        """A read transaction. Raises ReadersFullError where all places are in use, and there are no others."""
        try:
            return self._env.begin()
        except lmdb.ReadersFullError:
            if self._reserve:
                self._reserve.pop()  # its place is free now
        return begin_reading(self._env)

    def keep(self, ended: Any) -> None:
        """A transaction that has ended: with it goes its place, or stays here."""
        if len(self._reserve) < self._places:
            self._reserve.append(ended)

    def let_go(self) -> None:
        self._reserve.clear()
