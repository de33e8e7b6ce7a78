"""What fills the tables: projectors, which of them mind an event, and the transaction that they write to.

The invariant: **a projector reads what was put before it, and LMDB gets what stands at the end.** What is put or
deleted waits in memory, in one dict for each table, until `Transaction.write`. Within one transaction of a rebuild most
rows are replaced or deleted again (a message is queued, tried and delivered a few hundred records apart), and these
never reach LMDB. What does comes in the order of its keys, table by table, which costs LMDB least. What waits is what
the records of one transaction have changed, and `spool.views.fold` bounds how many those are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from spool.views.snapshot import META, Snapshot, last_before

#: In `meta`: which code has filled the tables.
SHAPE: Final = b"shape"
_FORMAT: Final = 1
#: From so many rows of a table on, one call for all of them is cheaper than one for each.
_MANY_ROWS: Final = 8


class Happening(Protocol):
    """What `decode` makes of a record. By the class of its `event` projectors say what they mind."""

    @property
    def event(self) -> object: ...


E = TypeVar("E", bound=Happening)
E_contra = TypeVar("E_contra", bound=Happening, contravariant=True)


class Transaction(Snapshot):
    """What a projector is given: it may read and change the tables, within one record's transaction.

    Whoever made it calls `write` before LMDB's own transaction is committed.
    """

    __slots__ = ("_changes", "_cursors", "_deleted")

    def __init__(self, txn: Any, tables: dict[str, Any]) -> None:
        super().__init__(txn, tables)
        #: Of each table: key -> what it holds now, None where it was deleted.
        self._changes: defaultdict[str, dict[bytes, bytes | None]] = defaultdict(dict)
        #: Tables of which rows were deleted. Of most none is, and then nobody has to look for them among the changes.
        self._deleted: set[str] = set()
        #: One of each table, kept: to make one costs as much as to find a key.
        self._cursors: dict[str, Any] = {}

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._changes[table][key] = value

    def delete(self, table: str, key: bytes) -> None:
        """There may be no such key."""
        self._changes[table][key] = None
        self._deleted.add(table)

    def get(self, table: str, key: bytes) -> bytes | None:
        changes = self._changes[table]
        if key in changes:
            return changes[key]
        value: bytes | None = self._txn.get(key, None, self._tables[table])
        return value

    # What asks for more than one key asks LMDB, which must have the table's changes by then.

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As of a snapshot. Whoever changes the table meanwhile takes the pairs into a list first."""
        self._write(table)
        return super().scan(table, start, stop, reverse=reverse)

    def keys(self, table: str, start: bytes, stop: bytes) -> list[bytes]:
        """Those with start <= key < stop in key order, for who wants to delete them."""
        cursor = self._cursor(table)
        keys: list[bytes] = []
        found = cursor.set_range(start)
        while found and (key := cursor.key()) < stop:
            keys.append(key)
            found = cursor.next()
        return keys

    def last(self, table: str, start: bytes, stop: bytes) -> tuple[bytes, bytes] | None:
        return last_before(self._cursor(table), start, stop)

    def count(self, table: str) -> int:
        self._write(table)
        return super().count(table)

    def write(self) -> None:
        """Give LMDB all that was changed."""
        for table in self._changes:
            self._write(table)

    def _write(self, table: str) -> None:
        changes = self._changes[table]
        if not changes:
            return
        txn, db = self._txn, self._tables[table]
        if len(changes) < _MANY_ROWS:
            for key, value in changes.items():
                if value is None:
                    txn.delete(key, b"", db)
                else:
                    txn.put(key, value, True, True, False, db)
        else:
            if table in self._deleted:
                for key in sorted([key for key, value in changes.items() if value is None]):
                    txn.delete(key, b"", db)
                    del changes[key]
            with txn.cursor(db) as cursor:
                cursor.putmulti(sorted(changes.items()))
        changes.clear()
        self._deleted.discard(table)

    def _cursor(self, table: str) -> Any:
        """Anywhere in the table, which has its changes."""
        if self._changes[table]:
            self._write(table)
        cursor = self._cursors.get(table)
        if cursor is None:
            cursor = self._cursors[table] = self._txn.cursor(self._tables[table])
        return cursor


class Projector(Protocol[E_contra]):
    """A fold from events to tables.

    `apply` must be a pure function of the tables it owns and the event: no clock, randomness, I/O or iteration
    order. It is called only for events of the classes that `minds` names, and of those made from them; for all others
    it would change nothing. Whoever changes what it does raises `version`, which has the views rebuilt at the next
    start.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def tables(self) -> tuple[str, ...]: ...
    @property
    def minds(self) -> tuple[type, ...]: ...
    def apply(self, tx: Transaction, event: E_contra) -> None: ...


class Minding(dict[type, tuple[Callable[[Transaction, E], None], ...]]):
    """Class of an event -> the `apply` of each projector that minds it, in their order: found out once for each class,
    because most events concern few projectors, and to ask each of them costs as much as all that they do."""

    def __init__(self, projectors: Iterable[Projector[E]]) -> None:
        super().__init__()
        self._projectors = tuple(projectors)

    def __missing__(self, kind: type) -> tuple[Callable[[Transaction, E], None], ...]:
        found = tuple(projector.apply for projector in self._projectors if issubclass(kind, projector.minds))
        self[kind] = found
        return found


def shape_of(projectors: Sequence[Projector[E]]) -> bytes:
    """Identifies the code that fills tables."""
    versions = {projector.name: projector.version for projector in projectors}
    return json.dumps([_FORMAT, versions], sort_keys=True).encode()


def shape_mismatch(snapshot: Snapshot, projectors: Sequence[Projector[E]]) -> str | None:
    """Why these tables are not what the projectors would read; None where they are."""
    shape = snapshot.get(META, SHAPE)
    if shape == shape_of(projectors):
        return None
    if shape is None:
        return "they do not say which code made them: it was ended before it had begun"
    return f"they were made by other code: {shape!r} instead of {shape_of(projectors)!r}"
