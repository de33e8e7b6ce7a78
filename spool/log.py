"""The log open for writing, and its one writer.

The invariant: **batch k+1 is not begun before batch k is durable, and nobody is answered before that
either.** Everything that recovery concludes from what it finds behind a damaged batch rests on it.

The second one: **after the first failure of a write, an fsync or a rename nothing is acknowledged any
more.** After a failed fsync the kernel may believe the lost pages clean, so that a second fsync succeeds and
means nothing. The log is poisoned, the writer task raises, the process is to end, and the next start looks
at what the disk has.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import outcome
import trio

from spool.clock import wall_clock_us
from spool.directory import LOCK_NAME
from spool.disk import Disk, RealDisk
from spool.errors import LogClosedError, LogPoisonedError, LogStalledError
from spool.files import TMP_SUFFIX
from spool.reader import Cursor, Locate, LogReader
from spool.record import CHAIN_START, Entry, Record, crc32c, encode_record, entry_bytes, make_record
from spool.recovery import Action, Plan, Witness
from spool.repair import RecoveryReport, carry_out, inspect
from spool.segment import (
    FOOTER_BYTES,
    SALT_BYTES,
    Position,
    SegmentHeader,
    encode_footer,
    encode_segment_header,
    seal,
    segment_name,
    start_of,
)

SEGMENT_BYTES_MAX: Final = 64 << 20
BATCH_RECORDS_MAX: Final = 1024
BATCH_BYTES_MAX: Final = 8 << 20
STALL_SECONDS: Final = 2.0
"""How long a batch may take before the appends that are not patient are told so."""

Offload = Callable[..., Awaitable[Any]]
"""`await offload(f, *args)` is f(*args), run where it may block."""


class LogStatistics(NamedTuple):
    batches: int
    records: int
    bytes: int
    sync_seconds_total: float
    queue_length: int
    """Appends that wait for the batch in progress to end."""
    poisoned: bool


class _Append:
    """One call of `append`: cancellable while it waits in the queue, no more once the writer has taken it."""

    __slots__ = ("entries", "patient", "size", "taken", "task")

    def __init__(self, entries: Sequence[Entry], size: int, patient: bool) -> None:
        self.entries = entries
        self.size = size
        self.patient = patient
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.taken = False

    def abort(self, raise_cancel: Any) -> trio.lowlevel.Abort:
        if self.taken:
            return trio.lowlevel.Abort.FAILED
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def answer(self, result: outcome.Outcome[Sequence[Record]]) -> None:
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, result)


class _Segment(NamedTuple):
    """The segment that is being written."""

    header: SegmentHeader
    handle: int
    seed: int


class Log:
    """An open log. Made by `open_log`."""

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk,
        locate: Locate | None,
        on_durable: Callable[[Sequence[Record]], None] | None,
        clock: Callable[[], int],
        new_salt: Callable[[], bytes],
        segment_bytes_max: int,
        batch_records_max: int,
        batch_bytes_max: int,
        offload: Offload,
    ) -> None:
        self.directory = directory
        self.poisoned = False
        self.recovery: RecoveryReport
        self.reader = LogReader(directory, disk=disk, locate=locate, limit=lambda: self.last_seq)
        self._disk = disk
        self._locate = locate
        self._on_durable = on_durable
        self._clock = clock
        self._new_salt = new_salt
        self._segment_bytes_max = segment_bytes_max
        self._batch_records_max = batch_records_max
        self._batch_bytes_max = batch_bytes_max
        self._offload = offload

        self._closed = False
        self._finished = False
        self._queue: deque[_Append] = deque()
        self._in_progress: list[_Append] = []
        self._writer_idle = False
        self._work = trio.lowlevel.ParkingLot()
        self._news = trio.lowlevel.ParkingLot()
        self._committing = trio.lowlevel.ParkingLot()
        self._committed = trio.lowlevel.ParkingLot()
        self._rotation_wanted = False
        self._rotated = trio.lowlevel.ParkingLot()

        self._segment: _Segment
        self._end: Position
        self._file_crc = 0
        self._batches = 0
        self._records = 0
        self._bytes = 0
        self._sync_seconds_last = 0.0
        self._sync_seconds_total = 0.0

    @property
    def last_seq(self) -> int:
        """The last durable sequence number; 0 if there is none."""
        return self._end.next_seq - 1

    @property
    def last_time_us(self) -> int:
        """The time of the last durable record; 0 if there is none."""
        return self._end.time_us

    @property
    def durable_end(self) -> Witness:
        return Witness(self._end.segment, self._end.offset, self.last_seq)

    @property
    def bytes_written(self) -> int:
        """Since it was opened."""
        return self._bytes

    @property
    def sync_seconds_last(self) -> float:
        """How long the last batch took to become durable."""
        return self._sync_seconds_last

    def statistics(self) -> LogStatistics:
        """It looks at all that waits, so it is for whoever asks now and then."""
        return LogStatistics(
            batches=self._batches,
            records=self._records,
            bytes=self._bytes,
            sync_seconds_total=self._sync_seconds_total,
            queue_length=sum(append.task is not None for append in self._queue),
            poisoned=self.poisoned,
        )

    async def append(self, entries: Sequence[Entry], *, patient: bool = True) -> Sequence[Record]:
        """Append all of the entries, in one batch: after a crash all of them are there, or none.

        Returned: they are durable, and `on_durable` has seen them. Cancelled: they are not written. From the
        moment that the writer has taken them the call can no longer be cancelled, and waits for the answer.

        `LogClosedError`: they are not written. `LogPoisonedError`: they are not acknowledged; if the writer
        had taken them already, the next start may find them, whole. `ValueError`: there are none, or too
        many to be one batch. `LogStalledError`, only where not `patient`: the disk has not answered for
        STALL_SECONDS, and the entries may become durable yet.

        The queue has no bound of its own, because each place in it is a caller that waits here with its
        entries in its hands anyway. Whoever makes callers bounds them.
        """
        size = sum(map(entry_bytes, entries))
        if not entries:
            raise ValueError("there is nothing to append")
        if len(entries) > self._batch_records_max or size > self._batch_bytes_max:
            raise ValueError(
                f"{len(entries)} entries of {size} bytes are too many for one batch of at most "
                f"{self._batch_records_max} and {self._batch_bytes_max} bytes"
            )
        self._check_open()
        append = _Append(entries, size, patient)
        self._queue.append(append)
        if self._writer_idle:
            self._writer_idle = False
            self._work.unpark()
        records: Sequence[Record] = await trio.lowlevel.wait_task_rescheduled(append.abort)
        return records

    async def settle(self) -> None:
        """Wait until what is being written at this moment is durable. `LogPoisonedError`: it may never be."""
        if self._in_progress:
            await self._committed.park()
        if self.poisoned:
            raise LogPoisonedError("the log is poisoned")

    async def rotate(self) -> int:
        """Seal the segment that is being written, and return where the next one begins.

        Everything before that is in sealed segments, durably. Where the open segment has no record yet, that is so
        already. Raises `LogClosedError` and `LogPoisonedError`, as `append`.
        """
        self._check_open()
        self._rotation_wanted = True
        if self._writer_idle:
            self._writer_idle = False
            self._work.unpark()
        await self._rotated.park()
        if self.poisoned:
            raise LogPoisonedError("the log is poisoned: its segment could not be sealed")
        return self._end.segment

    async def follow(self, from_seq: int) -> AsyncGenerator[Record, None]:
        """Every durable record from `from_seq` on, in order, without gaps; waits for new ones.

        They are read from disk at the pace of whoever iterates; nothing is held for a slow one. Ends after
        the last record when the log is closed; raises `LogPoisonedError` after the last durable one when it
        is poisoned. Wrap it in `contextlib.aclosing`, so that its file is closed when you leave.
        """
        # A reader of its own, because it is used in another thread.
        reader = LogReader(self.directory, disk=self._disk, locate=self._locate, limit=lambda: self.last_seq)
        cursor = Cursor(reader, from_seq)
        try:
            while True:
                if cursor.seq <= self.last_seq:
                    for record in await self._offload(cursor.advance):
                        yield record
                elif self.poisoned:
                    raise LogPoisonedError("the log is poisoned")
                elif self._finished:
                    return
                else:
                    await self._news.park()
        finally:
            cursor.close()

    def _check_open(self) -> None:
        if self.poisoned:
            raise LogPoisonedError("the log is poisoned: a write could not be made durable")
        if self._closed:
            raise LogClosedError("the log is closed")

    # Opening and closing. What follows runs in the thread of the caller's choice, before the writer runs.

    def _recover(self, witness: Witness | None) -> None:
        plan = inspect(self._disk, self.directory, witness)
        self.recovery = carry_out(self._disk, self.directory, plan, witness)
        if plan.row.action is Action.APPEND:
            self._reopen(plan)
        elif plan.tail is None:
            self._end = Position(1, 0, 1, CHAIN_START, 0)
            self._create_segment()
        else:
            self._end = plan.tail.end
            self._create_segment()

    def _reopen(self, plan: Plan) -> None:
        tail = plan.tail
        assert tail is not None  # the table appends only to what is there
        assert tail.header is not None
        path = self.directory / segment_name(tail.first_seq)
        self._segment = _Segment(tail.header, self._disk.open_write(path), tail.header.seed)
        self._end = tail.end
        self._file_crc = tail.file_crc

    def _close_files(self) -> None:
        if hasattr(self, "_segment"):
            self._disk.close(self._segment.handle)
        self.reader.close()

    # The writer.

    async def _write(self) -> None:
        # Shielded: whoever has been taken by the writer waits for its answer, whatever is cancelled around
        # it.
        with trio.CancelScope(shield=True):
            try:
                while await self._wait_for_work():
                    if self._rotation_wanted:
                        await self._rotate_as_wanted()
                    if not self._in_progress:
                        continue
                    self._committing.unpark()
                    await self._commit()
                    self._committed.unpark_all()
                self._finished = True
                self._news.unpark_all()
            except BaseException as error:
                self._poison()
                if isinstance(error, Exception):
                    raise LogPoisonedError(f"the log is poisoned: {error!r}") from error
                raise

    async def _watch(self) -> None:
        """Release those who do not want to wait any longer. The writer goes on: only the disk can end a sync."""
        while True:
            if not self._in_progress:
                await self._committing.park()
            with trio.move_on_after(STALL_SECONDS) as patience:
                await self._committed.park()
            if patience.cancelled_caught:
                for append in self._in_progress:
                    if not append.patient:
                        error = LogStalledError("the disk does not answer; this may become durable yet")
                        append.answer(outcome.Error(error))

    async def _wait_for_work(self) -> bool:
        """Take the next batch from the queue. False if the log is closed and drained."""
        while not self._take() and not self._rotation_wanted:
            if self._closed:
                return False
            self._writer_idle = True
            await self._work.park()
        return True

    def _take(self) -> bool:
        room, records_room = self._batch_bytes_max, self._batch_records_max
        while self._queue:
            append = self._queue[0]
            if append.task is not None:
                room -= append.size
                records_room -= len(append.entries)
                if room < 0 or records_room < 0:
                    break
                append.taken = True
                self._in_progress.append(append)
            self._queue.popleft()
        return bool(self._in_progress)

    async def _rotate_as_wanted(self) -> None:
        if self._end.records:
            await self._offload(self._rotate)
        self._rotation_wanted = False
        self._rotated.unpark_all()

    async def _commit(self) -> None:
        size = sum(append.size for append in self._in_progress)
        if self._end.records and self._end.offset + size + FOOTER_BYTES > self._segment_bytes_max:
            await self._offload(self._rotate)
        records, data = self._encode()
        seconds = await self._offload(
            _write_and_sync, self._disk, self._segment.handle, data, self._end.offset
        )
        last = records[-1]
        self._end = Position(
            self._end.segment, self._end.offset + len(data), last.seq + 1, last.chain, last.time_us
        )
        self._file_crc = crc32c(self._file_crc, data)
        self._batches += 1
        self._records += len(records)
        self._bytes += len(data)
        self._sync_seconds_last = seconds
        self._sync_seconds_total += seconds
        if self._on_durable is not None:
            self._on_durable(records)
        self._release(records)
        self._news.unpark_all()

    def _encode(self) -> tuple[list[Record], bytes]:
        segment, offset, seq, chain, last_time_us = self._end
        seed = self._segment.seed
        batch_seq = seq
        batch_end_seq = seq + sum(len(append.entries) for append in self._in_progress) - 1
        # One time for the batch: it becomes true in one moment.
        time_us = max(last_time_us, self._clock())
        records: list[Record] = []
        pieces: list[bytes] = []
        for append in self._in_progress:
            for entry in append.entries:
                record = make_record(
                    entry,
                    seq=seq,
                    time_us=time_us,
                    batch_seq=batch_seq,
                    batch_end=seq == batch_end_seq,
                    previous_chain=chain,
                    segment=segment,
                    offset=offset,
                )
                pieces += encode_record(record, seed)
                records.append(record)
                seq += 1
                chain = record.chain
                offset += entry_bytes(entry)
        return records, b"".join(pieces)

    def _release(self, records: list[Record]) -> None:
        appends, self._in_progress = self._in_progress, []
        start = 0
        for append in appends:
            end = start + len(append.entries)
            append.answer(outcome.Value(records[start:end]))
            start = end

    def _poison(self) -> None:
        self.poisoned = True
        appends = [*self._in_progress, *self._queue]
        self._in_progress = []
        self._queue.clear()
        for append in appends:
            error = LogPoisonedError("the log is poisoned: this append could not be made durable")
            append.answer(outcome.Error(error))
        self._committed.unpark_all()
        self._rotated.unpark_all()
        self._news.unpark_all()

    def _close(self) -> None:
        """No more appends; the writer finishes what is queued."""
        self._closed = True
        self._work.unpark_all()

    # Segments. In the offload thread, while the writer task waits for it.

    def _rotate(self) -> None:
        handle = self._segment.handle
        footer = encode_footer(seal(self._end, self._file_crc), self._segment.seed)
        self._disk.write(handle, footer, self._end.offset)
        self._disk.fsync(handle)
        self._create_segment()
        self._disk.close(handle)

    def _create_segment(self) -> None:
        """Begin the segment after `_end`. It gets its name when it is whole, so no segment lacks a header.

        Not by `write_durably`: where the disk fails nothing more is asked of it, and the next start clears up.
        """
        salt = self._new_salt()
        assert len(salt) == SALT_BYTES
        header = SegmentHeader(
            first_seq=self._end.next_seq,
            created_us=max(self._end.time_us, self._clock()),
            salt=salt,
            previous_chain=self._end.chain,
        )
        path = self.directory / segment_name(header.first_seq)
        tmp = path.with_name(path.name + TMP_SUFFIX)
        data = encode_segment_header(header)
        handle = self._disk.create(tmp)
        try:
            self._disk.write(handle, data, 0)
            self._disk.fsync(handle)
            self._disk.rename(tmp, path)
            self._disk.sync_directory(self.directory)
        except BaseException:
            self._disk.close(handle)
            raise
        self._segment = _Segment(header, handle, header.seed)
        self._end = start_of(header, self._end.time_us)
        self._file_crc = crc32c(0, data)


def _write_and_sync(disk: Disk, handle: int, data: bytes, offset: int) -> float:
    """The seconds that the sync took. Nothing but the system calls: the thread must not fight for the GIL."""
    disk.write(handle, data, offset)
    start = time.perf_counter()
    disk.fdatasync(handle)
    return time.perf_counter() - start


def _random_salt() -> bytes:
    return os.urandom(SALT_BYTES)


@asynccontextmanager
async def open_log(
    directory: Path,
    *,
    witness: Witness | Callable[[], Witness | None] | None = None,
    on_durable: Callable[[Sequence[Record]], None] | None = None,
    on_recovered: Callable[[Log], None] | None = None,
    locate: Locate | None = None,
    disk: Disk | None = None,
    clock: Callable[[], int] = wall_clock_us,
    new_salt: Callable[[], bytes] = _random_salt,
    segment_bytes_max: int = SEGMENT_BYTES_MAX,
    batch_records_max: int = BATCH_RECORDS_MAX,
    batch_bytes_max: int = BATCH_BYTES_MAX,
    offload: Offload = trio.to_thread.run_sync,
) -> AsyncIterator[Log]:
    """Open the log in `directory` for writing, create it if there is none, recover it if need be.

    Raises `LockedError` if another process has it open, `CorruptionError` if acknowledged data is damaged.
    `witness` may be a function, for those who must hold the lock before they can look: it is called once.
    `on_recovered(log)` is called before the first append can be written: the moment for views to catch up,
    through `log.reader`. `on_durable(records)` is called for each batch after it is durable and before its
    appends return; if it raises, the log is poisoned. Both are called in the trio thread.

    On leaving, what is queued is still written. If a write fails, the block is cancelled and a
    `LogPoisonedError` comes out, in an exception group as from any nursery.
    """
    disk = disk or RealDisk()
    log = Log(
        directory,
        disk=disk,
        locate=locate,
        on_durable=on_durable,
        clock=clock,
        new_salt=new_salt,
        segment_bytes_max=segment_bytes_max,
        batch_records_max=batch_records_max,
        batch_bytes_max=batch_bytes_max,
        offload=offload,
    )
    disk.make_directory(directory)
    disk.sync_directory(directory.parent)
    lock = disk.lock(directory / LOCK_NAME)
    try:
        await offload(log._recover, witness() if callable(witness) else witness)
        if on_recovered is not None:
            on_recovered(log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log._watch)

            async def write() -> None:
                await log._write()
                nursery.cancel_scope.cancel()

            nursery.start_soon(write)
            try:
                yield log
            finally:
                log._close()
    finally:
        log._close_files()
        disk.close(lock)
