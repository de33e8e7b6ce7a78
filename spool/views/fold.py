"""Views: what is derived from the log, in one LMDB environment.

The invariant: **the views are the fold of the log's records 1..position, and nothing else.** A record's changes,
the new position and the place of the record in the log are one LMDB transaction, and a record is only applied
when it is exactly ``position + 1``. So a view can be thrown away at any time and comes back the same: `verify`
proves it by comparing digests.

What stands on disk, below `DIR/views/`:

- `data.mdb`, `lock.mdb`: the LMDB environment. Named databases: `meta`, `index` (sequence number, big-endian u64
  -> segment u64, offset u64) and the tables that the projectors name.
- `boot`: the boot id of the machine while the environment is open for writing. LMDB is written without fsync: a
  killed process loses nothing (the page cache stays), a crashed *machine* may. A `boot` file that names another
  boot therefore means "do not even open it": the views are rebuilt.

The position is also a **witness**: it says how far the log has been durable, so that recovery can tell a torn
tail (never acknowledged) from damage to records that were.

Nobody but `apply` changes a table. Everything else reads through a `Snapshot`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import lmdb

from spool.reader import LogReader
from spool.record import Record
from spool.recovery import Witness
from spool.resident import MappedFile

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)

#: Virtual address space, not disk: LMDB's file grows as it is used.
MAP_BYTES = 1 << 38
TABLES_MAX = 64
REBUILD_RECORDS_PER_TRANSACTION = 10_000
#: So much of all mapped files, libraries included, may be resident; looked at after so many transactions.
RESIDENT_FILE_BYTES_MAX = 96 << 20
TRANSACTIONS_PER_LOOK = 16
#: About a millisecond's work, for it is done in between a running relay's batches.
MOVED_RECORDS_PER_TRANSACTION = 500

_FORMAT = 1
#: Stands in `boot` once LMDB has met a page that cannot be right.
_DAMAGED = "damaged"
_INDEX = "index"
_META = "meta"
POSITION = b"position"
_SHAPE = b"shape"
_U64 = struct.Struct(">Q")
_PLACE = struct.Struct(">QQ")
#: sequence, segment, end offset, chain value
_POSITION_VALUE = struct.Struct(">QQQ32s")


class Snapshot:
    """The views as they were at one moment. Valid until its `with` block ends; never across an `await`."""

    __slots__ = ("_tables", "_txn")

    def __init__(self, txn: Any, tables: dict[str, Any]) -> None:
        self._txn = txn
        self._tables = tables

    def end(self) -> None:
        """After this nothing can be read.

        A transaction of py-lmdb that has ended keeps its place in LMDB's table of readers, which has 126, until the
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
            if not (cursor.prev() if cursor.set_range(stop) else cursor.last()):
                return None
            key, value = cursor.item()
            return (key, value) if key >= start else None
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
        found = self.get(_INDEX, _U64.pack(seq))
        if found is None:
            return None
        segment, offset = _PLACE.unpack(found)
        return segment, offset

    @property
    def position(self) -> int:
        """Sequence number of the last record that these views have seen; 0 for none."""
        witness = self.witness()
        return witness.seq if witness else 0

    def witness(self) -> Witness | None:
        value = self.get(_META, POSITION)
        if value is None:
            return None
        seq, segment, end_offset, _chain = _POSITION_VALUE.unpack(value)
        return Witness(segment=segment, end_offset=end_offset, seq=seq)

    def digest(self, table: str) -> str:
        """SHA-256 over all keys and values of a table in key order, lengths included."""
        digest = hashlib.sha256()
        for key, value in self.scan(table):
            digest.update(b"%d:%d:" % (len(key), len(value)))
            digest.update(key)
            digest.update(value)
        return digest.hexdigest()


class Transaction(Snapshot):
    """What a projector is given: it may read and change the tables, within one record's transaction."""

    __slots__ = ()

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=self._tables[table])

    def delete(self, table: str, key: bytes) -> bool:
        return bool(self._txn.delete(key, db=self._tables[table]))


class Projector(Protocol[E_contra]):
    """A fold from events to tables.

    `apply` must be a pure function of the tables it owns and the event: no clock, randomness, I/O or iteration
    order. Whoever changes what it does raises `version`, which has the views rebuilt at the next start.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def tables(self) -> tuple[str, ...]: ...
    def apply(self, tx: Transaction, event: E_contra) -> None: ...


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all those that begin with `prefix`; None where there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def with_end_offset(position: bytes, end_offset: int) -> bytes:
    """A value of `POSITION`, in a segment whose records stand elsewhere now."""
    seq, segment, _, chain = _POSITION_VALUE.unpack(position)
    return _POSITION_VALUE.pack(seq, segment, end_offset, chain)


def _boot_id() -> str:
    """Changes with every boot of the machine. Where the system cannot tell, every start counts as another boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return f"unknown, process {os.getpid()}"


def _is_of_the_system(error: lmdb.Error) -> bool:
    """Whether the system has refused something to LMDB, on a full disk say: ENOSPC, or EIO where a write came to half.
    LMDB undoes the transaction then, and what was there is sound. Errors of its own have classes of their own."""
    return type(error) is lmdb.Error or isinstance(error, lmdb.DiskError)


def reason_not_to_open(directory: Path) -> str | None:
    """Why the views there must not even be opened; None if nothing speaks against it."""
    if not (directory / "data.mdb").exists():
        return "there were none"
    boot = directory / "boot"
    marked = boot.read_text().strip() if boot.exists() else _boot_id()
    if marked == _DAMAGED:
        return "they were found to be damaged"
    if marked != _boot_id():
        return "the machine went down while they were in use"
    return None


class Views(Generic[E]):
    """One LMDB environment and the projectors that fill it.

    `decode` makes a record into what the projectors fold, once for all of them; what it raises (an unknown event
    type, say) stops the projection, loudly.
    """

    def __init__(
        self, directory: Path, projectors: Sequence[Projector[E]], decode: Callable[[Record], E]
    ) -> None:
        self.directory = directory
        self._projectors = projectors
        self._decode = decode
        self._env: Any = None
        self._tables: dict[str, Any] = {}
        self._mapped: MappedFile
        self._transactions = 0
        self.position = 0
        #: Of the segment whose rows in the index are being corrected: its first sequence number, and all offsets.
        self._moved: tuple[int, Sequence[int]] | None = None
        self._is_damaged = False
        #: Why the views had to be built again at `open`; None when they were found good.
        self.rebuilt_because: str | None = None
        #: Called with the decoded events after their transaction is committed, in log order.
        self.observers: list[Callable[[Sequence[E]], None]] = []

    @property
    def table_names(self) -> tuple[str, ...]:
        return (_INDEX, *(table for projector in self._projectors for table in projector.tables))

    # ---------------------------------------------------------------- opening and closing

    def open(self) -> Witness | None:
        """Open for writing, and say how far the log has been durable; None where nothing can be said.

        What cannot be trusted is discarded here and built again by `catch_up`. The caller holds the log's lock, so
        this is the only writer.
        """
        doubt = reason_not_to_open(self.directory)
        if doubt is None:
            try:
                self._open_environment()
                doubt = self._shape_mismatch()
            except lmdb.Error as error:
                doubt = f"LMDB cannot be opened: {error}"
        if doubt is not None:
            self._discard()
            self._open_environment()
            self.rebuilt_because = doubt
        self._mark_in_use()
        with self.read() as snapshot:
            self.position = snapshot.position
            return snapshot.witness()

    def _open_environment(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(self.directory),
            map_size=MAP_BYTES,
            max_dbs=TABLES_MAX,
            mode=0o600,
            # A killed process loses nothing, and after a crash of the machine `boot` tells us to rebuild.
            sync=False,
            metasync=False,
        )
        # Touching a page beyond the end of the file would kill the process (SIGBUS), so look before.
        pages, page_bytes = self._env.info()["last_pgno"] + 1, self._env.stat()["psize"]
        if (self.directory / "data.mdb").stat().st_size < pages * page_bytes:
            raise lmdb.CorruptedError("data.mdb is cut short")
        self._tables = {name: self._env.open_db(name.encode()) for name in (_META, *self.table_names)}
        self._mapped = MappedFile(self.directory / "data.mdb")

    def _shape(self) -> bytes:
        """Identifies the code that filled the tables."""
        versions = {projector.name: projector.version for projector in self._projectors}
        return json.dumps([_FORMAT, versions], sort_keys=True).encode()

    def _shape_mismatch(self) -> str | None:
        with self.read() as snapshot:
            shape = snapshot.get(_META, _SHAPE)
        if shape == self._shape():
            return None
        return f"they were made by other code: {shape!r} instead of {self._shape()!r}"

    def _mark_in_use(self) -> None:
        with self._env.begin(write=True) as txn:
            txn.put(_SHAPE, self._shape(), db=self._tables[_META])
        self._write_boot(_boot_id())

    def _write_boot(self, text: str) -> None:
        path = self.directory / "boot"
        path.write_text(text)
        path.chmod(0o600)

    def _discard(self) -> None:
        self._close_environment()
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.position = 0

    def _close_environment(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
            self._tables = {}

    def close(self) -> None:
        """Sync and close. After this even a crash of the machine leaves the views trusted, unless they were found to be
        damaged."""
        if self._env is None:
            return
        self._env.sync(True)
        self._close_environment()
        if not self._is_damaged:
            (self.directory / "boot").unlink(missing_ok=True)

    # ---------------------------------------------------------------- the fold

    def catch_up(self, reader: LogReader, *, until: int | None = None) -> None:
        """Apply what the log has beyond the position, and correct the index for segments that were rewritten meanwhile.
        Where the log is not the one these views were made from (the chain value at the position differs), begin again
        from the first record."""
        if self.position and not self._is_of(reader):
            self._discard()
            self._open_environment()
            self._mark_in_use()
            self.rebuilt_because = "they were made from another log"
        self.correct_index(reader)
        batch: list[Record] = []
        for record in reader.read(self.position + 1, until):
            batch.append(record)
            if len(batch) >= REBUILD_RECORDS_PER_TRANSACTION:
                self._apply(batch)
                batch = []
        if batch:
            self._apply(batch)

    def correct_index(self, reader: LogReader) -> None:
        """Views that were away while segments were rewritten (a copy that was brought back), or in use when a process
        ended or a disk failed before `move` was through, know where records stood before."""
        for first_seq, last_seq in reader.misplaced(self.locate, self.position):
            offsets, end_offset = array("Q"), 0
            for record in reader.read(first_seq, last_seq):
                offsets.append(record.offset)
                end_offset = record.end_offset
            for _ in self.move(first_seq, offsets, end_offset):
                pass

    def _is_of(self, reader: LogReader) -> bool:
        with self.read() as snapshot:
            value = snapshot.get(_META, POSITION)
        assert value is not None
        seq, _segment, _end_offset, chain = _POSITION_VALUE.unpack(value)
        try:
            return bool(reader.get(seq).chain == chain)
        except LookupError:
            return False

    def apply(self, records: Sequence[Record]) -> None:
        """Apply new durable records, all in one transaction, then tell the observers."""
        events = self._apply(records)
        for observer in self.observers:
            observer(events)

    def _apply(self, records: Sequence[Record]) -> list[E]:
        try:
            return self._fold(records)
        except lmdb.Error as error:
            # LMDB has no checksums: a damaged page is noticed when it is met. The next start builds them anew.
            if not _is_of_the_system(error):
                self._is_damaged = True
                self._write_boot(_DAMAGED)
            raise

    def _fold(self, records: Sequence[Record]) -> list[E]:
        events = []
        position = self.position
        index = self._tables[_INDEX]
        with self._env.begin(write=True) as txn:
            tx = Transaction(txn, self._tables)
            for record in records:
                if record.seq != position + 1:
                    raise AssertionError(f"views are at {position}, the next record is {record.seq}")
                position = record.seq
                txn.put(
                    _U64.pack(position), _PLACE.pack(record.segment, record.offset), db=index, append=True
                )
                event = self._decode(record)
                events.append(event)
                for projector in self._projectors:
                    projector.apply(tx, event)
            last = records[-1]
            txn.put(
                POSITION,
                _POSITION_VALUE.pack(last.seq, last.segment, last.end_offset, last.chain),
                db=self._tables[_META],
            )
        self.position = position
        self._transactions += 1
        if self._transactions % TRANSACTIONS_PER_LOOK == 0:
            self._mapped.release_above(RESIDENT_FILE_BYTES_MAX)
        return events

    # ---------------------------------------------------------------- a segment was rewritten

    def move(self, segment: int, offsets: Sequence[int], end_offset: int) -> Iterator[None]:
        """Correct the index for a segment whose records stand at other offsets now, in pieces of one short
        transaction each: iterate, and let others work in between.

        The position is corrected too, where it is the end of that segment. From the first piece on `locate` gives the
        new offsets, of all the records. Where it is broken off the index is part old, part new, and harmless (a reader
        looks whether what it wants is there), until it is done again.
        """
        self._moved = segment, offsets
        try:
            index = self._tables[_INDEX]
            for start in range(0, len(offsets), MOVED_RECORDS_PER_TRANSACTION):
                piece = enumerate(offsets[start : start + MOVED_RECORDS_PER_TRANSACTION], segment + start)
                with self._env.begin(write=True) as txn:
                    for seq, offset in piece:
                        txn.put(_U64.pack(seq), _PLACE.pack(segment, offset), db=index)
                    if start + MOVED_RECORDS_PER_TRANSACTION >= len(offsets):
                        self._move_position(txn, segment, segment + len(offsets) - 1, end_offset)
                yield
        finally:
            self._moved = None

    def _move_position(self, txn: Any, segment: int, last_seq: int, end_offset: int) -> None:
        value = txn.get(POSITION, db=self._tables[_META])
        seq, position_segment, _, _ = _POSITION_VALUE.unpack(value)
        if (seq, position_segment) == (last_seq, segment):
            txn.put(POSITION, with_end_offset(value, end_offset), db=self._tables[_META])

    # ---------------------------------------------------------------- reading

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """A consistent snapshot. Keep it short: LMDB cannot reuse pages that a snapshot still sees."""
        snapshot = Snapshot(self._env.begin(buffers=False), self._tables)
        try:
            yield snapshot
        finally:
            snapshot.end()

    def locate(self, seq: int) -> tuple[int, int] | None:
        if self._moved is not None:
            segment, offsets = self._moved
            if 0 <= seq - segment < len(offsets):
                return segment, offsets[seq - segment]
        with self.read() as snapshot:
            return snapshot.place(seq)

    def digests(self) -> dict[str, str]:
        """Digest of every table, for comparing with a fresh fold of the same log."""
        with self.read() as snapshot:
            return {table: snapshot.digest(table) for table in self.table_names}


@contextmanager
def open_views_read_only(directory: Path, tables: Iterable[str]) -> Iterator[Snapshot]:
    """The views of a live relay or of a copy, as one snapshot, for another process.

    Raises FileNotFoundError where there are none, LookupError where a table is missing (made by other code).
    """
    if not (directory / "data.mdb").exists():
        raise FileNotFoundError(f"{directory} holds no views")
    # Where the lock file cannot be written (a copy on read-only media) nobody else can be writing either; where there
    # is none, nobody is, and none is to be created.
    lock = os.access(directory / "lock.mdb", os.W_OK)
    env = lmdb.open(str(directory), readonly=True, lock=lock, max_dbs=TABLES_MAX, map_size=MAP_BYTES)
    try:
        opened = {}
        for name in (_META, _INDEX, *tables):
            try:
                opened[name] = env.open_db(name.encode(), create=False)
            except lmdb.NotFoundError as error:
                raise LookupError(f"{directory} has no table {name}: made by other code") from error
        with env.begin() as txn:
            yield Snapshot(txn, opened)
    finally:
        env.close()
