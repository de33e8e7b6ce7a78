"""Tables for a question: the fold of chosen events, which need not be what a log holds.

The invariant: **what was folded here never meets the views of a log.** The tables are filled by the very projectors
that fill those, in an LMDB environment of their own in a temporary directory, and are gone when the block ends. So
"what if this event had not happened?" is asked of the same code that answers "what is?".

Its files have no names any more as soon as it is open: whatever ends the process, nothing stays on the disk but, where
that came in the moment before, an empty directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic

import lmdb

from spool.views.projecting import E, Minding, Projector, Transaction
from spool.views.snapshot import MAP_BYTES, TABLES_MAX, Snapshot

#: A transaction's changed pages stay in memory until it is committed.
_FOLDS_PER_TRANSACTION: Final = 1000


class Scratch(Generic[E]):
    """Made by `open_scratch`. Belongs to one thread."""

    def __init__(self, env: Any, projectors: Sequence[Projector[E]]) -> None:
        self._env = env
        self._minding = Minding(projectors)
        self._tables = {
            table: env.open_db(table.encode()) for projector in projectors for table in projector.tables
        }
        self._folds = 0
        self._begin()

    def _begin(self) -> None:
        self._txn = self._env.begin(write=True)
        self._tx = Transaction(self._txn, self._tables)

    @property
    def view(self) -> Snapshot:
        """All that was folded so far. Valid until the next `fold`."""
        return self._tx

    def fold(self, event: E) -> None:
        """Apply an event. What a projector raises leaves the tables half changed: the question is void then."""
        for apply in self._minding[type(event.event)]:
            apply(self._tx, event)
        self._folds += 1
        if self._folds % _FOLDS_PER_TRANSACTION == 0:
            self._tx.write()
            self._txn.commit()
            self._begin()

    def abandon(self) -> None:
        self._txn.abort()


@contextmanager
def open_scratch(projectors: Sequence[Projector[E]]) -> Iterator[Scratch[E]]:
    """Empty tables of these projectors, thrown away when the block ends."""
    with tempfile.TemporaryDirectory(prefix="atmos-scratch-") as directory:
        # Nobody else opens it, and nothing of it has to outlive anything.
        env = lmdb.open(
            directory, map_size=MAP_BYTES, max_dbs=TABLES_MAX, lock=False, sync=False, metasync=False
        )
    try:
        scratch = Scratch(env, projectors)
        try:
            yield scratch
        finally:
            scratch.abandon()
    finally:
        env.close()
