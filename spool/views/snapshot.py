"""The tables of the views, as one reads them: their layout, and a snapshot.

The invariant: **a snapshot shows one moment.** All tables and the position are as they were after one whole
transaction of the fold, whatever is applied meanwhile. Only a `Transaction` (`spool.views.projecting`), which only a
fold makes, can change a table.

Beside the tables that the projectors name there are two of our own. `index` says where each record stands in the
log: sequence number -> first sequence number of its segment, offset. `meta` holds the position (sequence number,
segment, end offset and chain value of the last record that was applied) and the versions of the code that
filled the tables. All numbers are big-endian and 64 bits long, so that keys are in order.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import lmdb

from spool.errors import ReadersFullError
from spool.recovery import Witness

#: Virtual address space, not disk: LMDB's file grows as it is used.
MAP_BYTES: Final = 1 << 38
TABLES_MAX: Final = 96
#: Places in LMDB's table of readers: for a relay's own processes, 32 at most, and for those who look at its views. Each
#: costs 64 bytes of `lock.mdb`. The table keeps the size that it had when somebody opened it before.
READERS_MAX: Final = 510
DATA_NAME: Final = "data.mdb"
LOCK_NAME: Final = "lock.mdb"

INDEX: Final = "index"
META: Final = "meta"
#: In `meta`: how far the views have come.
POSITION: Final = b"position"
SEQ: Final = struct.Struct(">Q")
#: segment, offset
PLACE: Final = struct.Struct(">QQ")
#: sequence, segment, end offset, chain value
POSITION_VALUE: Final = struct.Struct(">QQQ32s")

#: At a time: each call of SHA-256 costs as much as a row does.
_ROWS_HASHED: Final = 200


class Snapshot:
    """The views as they were at one moment. Valid until its `with` block ends; never across an `await`."""

    __slots__ = ("_tables", "_txn")

    def __init__(self, txn: Any, tables: dict[str, Any]) -> None:
        self._txn = txn
        self._tables = tables

    def end(self) -> None:
        """After this nothing can be read.

        A transaction of py-lmdb that has ended keeps its place in LMDB's table of readers, which has an end, until the
        object is gone. Whoever read before it waited for something (`with ... as view` in a coroutine) still has `view`
        then: so the snapshot lets go of the transaction, and not the garbage collector.
        """
        self._txn.abort()
        self._txn = None

    def get(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._txn.get(key, db=self._tables[table])
        return value

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs with start <= key < stop in key order, or the same ones backwards."""
        cursor = self._txn.cursor(db=self._tables[table])
        try:
            if not reverse:
                found = cursor.set_range(start) if start else cursor.first()
                while found:
                    key, value = cursor.item()
                    if stop is not None and key >= stop:
                        return
                    yield key, value
                    found = cursor.next()
            else:
                if stop is None:
                    found = cursor.last()
                else:
                    found = cursor.prev() if cursor.set_range(stop) else cursor.last()
                while found:
                    key, value = cursor.item()
                    if key < start:
                        return
                    yield key, value
                    found = cursor.prev()
        finally:
            cursor.close()

    def last(self, table: str, start: bytes, stop: bytes) -> tuple[bytes, bytes] | None:
        """The pair with the greatest key of those with start <= key < stop; None where there is none."""
        cursor = self._txn.cursor(db=self._tables[table])
        try:
            return last_before(cursor, start, stop)
        finally:
            cursor.close()

    def scan_prefix(
        self, table: str, prefix: bytes, *, before: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs whose key begins with `prefix` (and is < `before`, if given)."""
        return self.scan(table, prefix, before or prefix_end(prefix), reverse=reverse)

    def count(self, table: str) -> int:
        return int(self._txn.stat(db=self._tables[table])["entries"])

    def place(self, seq: int) -> tuple[int, int] | None:
        """Where record `seq` stands in the log: (first sequence number of its segment, offset)."""
        found = self.get(INDEX, SEQ.pack(seq))
        if found is None:
            return None
        segment, offset = PLACE.unpack(found)
        return segment, offset

    @property
    def position(self) -> int:
        """Sequence number of the last record that these views have seen; 0 for none."""
        witness = self.witness()
        return witness.seq if witness else 0

    def witness(self) -> Witness | None:
        value = self.get(META, POSITION)
        if value is None:
            return None
        seq, segment, end_offset, _chain = POSITION_VALUE.unpack(value)
        return Witness(segment=segment, end_offset=end_offset, seq=seq)

    def digest(self, table: str) -> str:
        """SHA-256 over all keys and values of a table in key order, lengths included."""
        digest = hashlib.sha256()
        with self._txn.cursor(db=self._tables[table]) as cursor:
            rows = iter(cursor)
            while piece := [
                b"%d:%d:%b%b" % (len(key), len(value), key, value)
                for key, value in islice(rows, _ROWS_HASHED)
            ]:
                digest.update(b"".join(piece))
        return digest.hexdigest()


def last_before(cursor: Any, start: bytes, stop: bytes) -> tuple[bytes, bytes] | None:
    """As `Snapshot.last`, by a cursor of the table."""
    if not (cursor.prev() if cursor.set_range(stop) else cursor.last()):
        return None
    key, value = cursor.item()
    return (key, value) if key >= start else None


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all those that begin with `prefix`; None where there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def with_end_offset(position: bytes, end_offset: int) -> bytes:
    """A value of `POSITION`, in a segment whose records stand elsewhere now."""
    seq, segment, _, chain = POSITION_VALUE.unpack(position)
    return POSITION_VALUE.pack(seq, segment, end_offset, chain)


def begin_reading(env: Any) -> Any:
    """A read transaction. Raises ReadersFullError where LMDB's table of readers has no place even after those of dead
    processes were freed."""
    return _trying_again(env, env.begin)


def _trying_again(env: Any, read: Callable[[], Any]) -> Any:
    with _saying_that_it_is_full():
        try:
            return read()
        except lmdb.ReadersFullError:
            env.reader_check()
        return read()


@contextmanager
def _saying_that_it_is_full() -> Iterator[None]:
    try:
        yield
    except lmdb.ReadersFullError:
        raise ReadersFullError from None


def open_environment(directory: Path, **options: Any) -> Any:
    """As `lmdb.open`, which reads, too: raises ReadersFullError."""
    with _saying_that_it_is_full():
        return lmdb.open(
            str(directory), max_dbs=TABLES_MAX, map_size=MAP_BYTES, max_readers=READERS_MAX, **options
        )


def check_not_cut_short(env: Any, directory: Path) -> None:
    """Touching a page beyond the end of the file would kill the process (SIGBUS), so look before. Raises
    `lmdb.CorruptedError`."""
    pages, page_bytes = env.info()["last_pgno"] + 1, env.stat()["psize"]
    if (directory / DATA_NAME).stat().st_size < pages * page_bytes:
        raise lmdb.CorruptedError(f"{DATA_NAME} is cut short")


def open_tables(env: Any, directory: Path, tables: Iterable[str]) -> dict[str, Any]:
    """Of an environment that is open, to read. Raises LookupError where one is missing, ReadersFullError."""
    opened = {}
    for name in tables:
        try:
            opened[name] = _trying_again(env, partial(env.open_db, name.encode(), create=False))
        except lmdb.NotFoundError as error:
            raise LookupError(f"{directory} has no table {name}: made by other code") from error
    return opened


@contextmanager
def open_views_read_only(directory: Path, tables: Iterable[str]) -> Iterator[Snapshot]:
    """The views of a live relay or of a copy, as one snapshot, for another process.

    Raises FileNotFoundError where there are none, ReadersFullError where too many read them, LookupError where a table
    is missing (made by other code).
    """
    if not (directory / DATA_NAME).exists():
        raise FileNotFoundError(f"{directory} holds no views")
    # Where the lock file cannot be written (a copy on read-only media) nobody else can be writing either; where there
    # is none, nobody is, and none is to be created.
    lock = os.access(directory / LOCK_NAME, os.W_OK)
    env = open_environment(directory, readonly=True, lock=lock)
    try:
        opened = open_tables(env, directory, (META, INDEX, *tables))
        with begin_reading(env) as txn:
            yield Snapshot(txn, opened)
    finally:
        env.close()
