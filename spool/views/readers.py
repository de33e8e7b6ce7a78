"""Places of one process in LMDB's table of readers, which is shared by all processes that read the views.

The invariant: **so many snapshots at a time always find a place, however many other processes have filled the table.**
The process takes them when it opens the views, and keeps them: a transaction of py-lmdb that has ended keeps its place,
and no page, for as long as the object is there.
"""

from __future__ import annotations

from typing import Any

import lmdb

from spool.views.snapshot import Snapshot, begin_reading


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

    def reading(self, tables: dict[str, Any]) -> _Reading:
        """`with readers.reading(tables) as snapshot`. Raises ReadersFullError where all places are in use, and there
        are no others."""
        return _Reading(self, tables)

    def _begin(self) -> Any:
        try:
            return self._env.begin()
        except lmdb.ReadersFullError:
            if self._reserve:
                self._reserve.pop()  # its place is free now
        return begin_reading(self._env)

    def _keep(self, ended: Any) -> None:
        """A transaction that has ended: with it goes its place, or stays here."""
        if len(self._reserve) < self._places:
            self._reserve.append(ended)

    def let_go(self) -> None:
        self._reserve.clear()


class _Reading:
    """One snapshot. A class, because a message is read for a dozen times on its way."""

    __slots__ = ("_readers", "_snapshot", "_tables", "_txn")

    def __init__(self, readers: Readers, tables: dict[str, Any]) -> None:
        self._readers = readers
        self._tables = tables

    def __enter__(self) -> Snapshot:
        self._txn = self._readers._begin()
        self._snapshot = Snapshot(self._txn, self._tables)
        return self._snapshot

    def __exit__(self, *_: object) -> None:
        self._snapshot.end()
        self._readers._keep(self._txn)
        del self._snapshot, self._txn
