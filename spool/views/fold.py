"""The fold that makes the views from the log, and keeps them beside it.

The invariant: **the views are the fold of the log's records 1..position, and nothing else.** A record's changes,
the new position and the place of the record in the log are one LMDB transaction, and a record is only applied
when it is exactly ``position + 1``. So a view can be thrown away at any time and comes back the same: `verify`
proves it by comparing digests.

The position is also a **witness**: it says how far the log has been durable, so that recovery can tell a torn
tail (never acknowledged) from damage to records that were.

Nobody but `apply` changes a table. Everything else reads through a `Snapshot`.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic

import lmdb

from spool.reader import LogReader
from spool.record import Record
from spool.recovery import Witness
from spool.views import boot
from spool.views.projecting import SHAPE, E, Minding, Projector, Transaction, shape_mismatch, shape_of
from spool.views.readers import Readers
from spool.views.snapshot import (
    INDEX,
    META,
    PLACE,
    POSITION,
    POSITION_VALUE,
    SEQ,
    Snapshot,
    check_not_cut_short,
    open_environment,
    with_end_offset,
)

REBUILD_RECORDS_PER_TRANSACTION = 10_000
#: So many snapshots at a time always find a place in LMDB's table of readers, however many other processes have filled
#: it: the process takes these places when it opens the views, and keeps them.
OWN_READERS = 16
#: About a millisecond's work, for it is done in between a running relay's batches.
MOVED_RECORDS_PER_TRANSACTION = 500


def _is_of_the_system(error: lmdb.Error) -> bool:
    """Whether the system has refused something to LMDB, on a full disk say: ENOSPC, or EIO where a write came to half.
    LMDB undoes the transaction then, and what was there is sound. Errors of its own have classes of their own."""
    return type(error) is lmdb.Error or isinstance(error, lmdb.DiskError)


class Views(Generic[E]):
    """One LMDB environment and the projectors that fill it.

    `decode` makes a record into what the projectors fold, once for all of them; what it raises (an unknown event
    type, say) stops the projection, loudly. `temporary` views outlive nothing, so nothing is made durable.
    """

    def __init__(
        self,
        directory: Path,
        projectors: Sequence[Projector[E]],
        decode: Callable[[Record], E],
        *,
        temporary: bool = False,
    ) -> None:
        self.directory = directory
        self._is_temporary = temporary
        self._projectors = projectors
        self._minding = Minding(projectors)
        self._decode = decode
        self._env: Any = None
        self._tables: dict[str, Any] = {}
        self._readers: Readers
        self.position = 0
        #: Of the segment whose rows in the index are being corrected: its first sequence number, and all offsets.
        self._moved: tuple[int, Sequence[int]] | None = None
        self._is_damaged = False
        #: Why the views had to be built again at `open`; None when they were found good.
        self.rebuilt_because: str | None = None
        #: And nothing is wrong with that: there were none yet, or those of another version.
        self.rebuilding_was_due = False
        #: Called with the decoded events after their transaction is committed, in log order.
        self.observers: list[Callable[[Sequence[E]], None]] = []

    @property
    def table_names(self) -> tuple[str, ...]:
        return (INDEX, *(table for projector in self._projectors for table in projector.tables))

    # ---------------------------------------------------------------- opening and closing

    def open(self) -> Witness | None:
        """Open for writing, and say how far the log has been durable; None where nothing can be said.

        What cannot be trusted is discarded here and built again by `catch_up`. The caller holds the log's lock, so
        this is the only writer. Raises ReadersFullError where other processes leave no room to read.
        """
        doubt = boot.reason_not_to_open(self.directory)
        self.rebuilding_was_due = doubt == boot.THERE_WERE_NONE
        if doubt is None:
            try:
                self._open_environment()
                doubt = self._shape_mismatch()
                self.rebuilding_was_due = doubt is not None
            except lmdb.Error as error:
                doubt = f"LMDB cannot be opened: {error}"
        if doubt is not None:
            self._discard()
            self._open_environment()
            self.rebuilt_because = doubt
        self._write_shape()
        self._readers.take()
        with self.read() as snapshot:
            self.position = snapshot.position
            return snapshot.witness()

    def _open_environment(self) -> None:
        if self._is_temporary:
            self.directory.mkdir(mode=0o700, exist_ok=True)
        else:
            boot.mark_in_use(self.directory)
        self._env = open_environment(
            self.directory,
            mode=0o600,
            # A killed process loses nothing, and after a crash of the machine `boot` tells us to rebuild.
            sync=False,
            metasync=False,
        )
        self._readers = Readers(self._env, OWN_READERS)
        check_not_cut_short(self._env, self.directory)
        self._tables = {name: self._env.open_db(name.encode()) for name in (META, *self.table_names)}

    def _shape_mismatch(self) -> str | None:
        with self.read() as snapshot:
            return shape_mismatch(snapshot, self._projectors)

    def _write_shape(self) -> None:
        with self._env.begin(write=True) as txn:
            txn.put(SHAPE, shape_of(self._projectors), db=self._tables[META])

    def _discard(self) -> None:
        self._close_environment()
        boot.discard(self.directory)
        self.position = 0

    def _close_environment(self) -> None:
        if self._env is not None:
            self._readers.let_go()
            self._env.close()
            self._env = None
            self._tables = {}

    def close(self, *, in_order: bool = True) -> None:
        """Sync and close. After this even a crash of the machine leaves the views trusted, unless they were found to be
        damaged. `in_order`: False where the disk has failed to sync: then they are closed as a killed process leaves
        them, and nothing more is asked of the disk."""
        if self._env is None:
            return
        if self._is_temporary:
            self._close_environment()
            return
        if in_order:
            self._env.sync(True)
        self._close_environment()
        if in_order and not self._is_damaged:
            boot.mark_closed(self.directory)

    # ---------------------------------------------------------------- the fold

    def catch_up(self, reader: LogReader, *, until: int | None = None) -> None:
        """Apply what the log has beyond the position, and correct the index for segments that were rewritten meanwhile.
        Where the log is not the one these views were made from (the chain value at the position differs), begin again
        from the first record."""
        if self.position and not self._is_of(reader):
            self._discard()
            self._open_environment()
            self._write_shape()
            self._readers.take()
            self.rebuilding_was_due = False
            self.rebuilt_because = "they were made from another log"
        self.correct_index(reader)
        runs = reader.runs(self.position + 1, until)
        while self._apply(runs):
            pass

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
            value = snapshot.get(META, POSITION)
        assert value is not None
        seq, _segment, _end_offset, chain = POSITION_VALUE.unpack(value)
        try:
            return bool(reader.get(seq).chain == chain)
        except LookupError:
            return False

    def apply(self, records: Sequence[Record]) -> None:
        """Apply new durable records, all in one transaction, then tell the observers."""
        events: list[E] = []
        self._apply(iter((records,)), events)
        for observer in self.observers:
            observer(events)

    def _apply(self, runs: Iterator[Sequence[Record]], events: list[E] | None = None) -> bool:
        try:
            return self._fold(runs, events)
        except lmdb.Error as error:
            # LMDB has no checksums: a damaged page is noticed when it is met. The next start builds them anew.
            if not _is_of_the_system(error):
                self._is_damaged = True
                if not self._is_temporary:
                    boot.mark_damaged(self.directory)
            raise

    def _fold(self, runs: Iterator[Sequence[Record]], events: list[E] | None) -> bool:
        """Apply the records of the next runs, in one transaction, and add what they say to `events`. Whether there were
        any."""
        position, run = self.position, None
        decode, minding = self._decode, self._minding
        with self._env.begin(write=True) as txn:
            tx = Transaction(txn, self._tables)
            for run in runs:
                for record in run:
                    if record.seq != position + 1:
                        raise AssertionError(f"views are at {position}, the next record is {record.seq}")
                    position = record.seq
                    event = decode(record)
                    for apply in minding[type(event.event)]:
                        apply(tx, event)
                    if events is not None:
                        events.append(event)
                self._put_places(txn, run)
                if position - self.position >= REBUILD_RECORDS_PER_TRANSACTION:
                    break
            if run is None:
                return False
            tx.write()
            last = run[-1]
            txn.put(
                POSITION,
                POSITION_VALUE.pack(last.seq, last.segment, last.end_offset, last.chain),
                db=self._tables[META],
            )
        self.position = position
        return True

    def _put_places(self, txn: Any, run: Sequence[Record]) -> None:
        places = [(SEQ.pack(record.seq), PLACE.pack(record.segment, record.offset)) for record in run]
        with txn.cursor(self._tables[INDEX]) as cursor:
            cursor.putmulti(places, append=True)

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
            index = self._tables[INDEX]
            for start in range(0, len(offsets), MOVED_RECORDS_PER_TRANSACTION):
                piece = enumerate(offsets[start : start + MOVED_RECORDS_PER_TRANSACTION], segment + start)
                with self._env.begin(write=True) as txn:
                    for seq, offset in piece:
                        txn.put(SEQ.pack(seq), PLACE.pack(segment, offset), db=index)
                    if start + MOVED_RECORDS_PER_TRANSACTION >= len(offsets):
                        self._move_position(txn, segment, segment + len(offsets) - 1, end_offset)
                yield
        finally:
            self._moved = None

    def _move_position(self, txn: Any, segment: int, last_seq: int, end_offset: int) -> None:
        value = txn.get(POSITION, db=self._tables[META])
        seq, position_segment, _, _ = POSITION_VALUE.unpack(value)
        if (seq, position_segment) == (last_seq, segment):
            txn.put(POSITION, with_end_offset(value, end_offset), db=self._tables[META])

    # ---------------------------------------------------------------- reading

    def read(self) -> AbstractContextManager[Snapshot]:
        """A consistent snapshot. Keep it short: LMDB cannot reuse pages that a snapshot still sees.

        Raises ReadersFullError where there are OWN_READERS already, and other processes leave no room for more.
        """
        return self._readers.reading(self._tables)

    def clear_dead_readers(self) -> int:
        """Let go of what processes held that were killed while they read; how many snapshots that were.

        LMDB uses no page again that a snapshot may still see, and a snapshot of a dead process stays in its table until
        somebody looks: without this the file grows by all that is written.
        """
        return int(self._env.reader_check())

    def locate(self, seq: int) -> tuple[int, int] | None:
        moved = self._moved  # another thread may ask, while `move` comes to its end
        if moved is not None:
            segment, offsets = moved
            if 0 <= seq - segment < len(offsets):
                return segment, offsets[seq - segment]
        with self.read() as snapshot:
            return snapshot.place(seq)

    def digests(self) -> dict[str, str]:
        """Digest of every table, for comparing with a fresh fold of the same log."""
        with self.read() as snapshot:
            return {table: snapshot.digest(table) for table in self.table_names}


@contextmanager
def open_temporary(projectors: Sequence[Projector[E]], decode: Callable[[Record], E]) -> Iterator[Views[E]]:
    """Empty views that are gone when the block ends, or the process, however it ends: as soon as they are open, their
    files have no names any more. (A process that is killed in the moment before leaves an empty directory.)"""
    with tempfile.TemporaryDirectory(prefix="atmos-views-") as folder:
        views = Views(Path(folder) / "views", projectors, decode, temporary=True)
        views.open()
    try:
        yield views
    finally:
        views.close()
