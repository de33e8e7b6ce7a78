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
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import outcome
import trio
from trio.testing import wait_all_tasks_blocked

from spool.clock import wall_clock_us
from spool.directory import LOCK_NAME, segments_bytes
from spool.disk import Disk, Offload, RealDisk
from spool.erasure import Erasure, Index
from spool.errors import LogClosedError, LogPoisonedError, LogStalledError
from spool.interface import STALL_SECONDS, DurableLog, ErasedSegment, LogStatistics
from spool.open_segment import OpenSegment
from spool.own_thread import open_own_thread
from spool.reader import Cursor, LogReader
from spool.record import Entry, Record, entry_bytes
from spool.recovery import Witness
from spool.repair import RecoveryReport, carry_out, inspect
from spool.segment import FOOTER_BYTES, SALT_BYTES

SEGMENT_BYTES_MAX: Final = 64 << 20
BATCH_RECORDS_MAX: Final = 1024
#: What is larger cannot be appended. A mail of 10 MiB fits, with the events of all its recipients.
BATCH_BYTES_MAX: Final = 16 << 20
#: So long a batch waits for more, where the loop is busy.
GATHER_SECONDS_MAX: Final = 0.005


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


class Log(DurableLog):
    """An open log, durable on this machine's disk: `DurableLog` says what it promises. Made by `open_log`."""

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk,
        index: Index | None,
        on_durable: Callable[[Sequence[Record]], None] | None,
        clock: Callable[[], int],
        new_salt: Callable[[], bytes],
        segment_bytes_max: int,
        batch_records_max: int,
        batch_bytes_max: int,
        offload: Offload,
    ) -> None:
        self.directory = directory
        self._disk = disk
        self._index = index
        #: For the thread of the writer.
        self.reader = self._new_reader()
        self._segment = OpenSegment(disk, directory, clock=clock, new_salt=new_salt)
        self._erasure = Erasure(
            disk, directory, reader=self.reader, index=index, new_salt=new_salt, offload=offload
        )
        self._recovery: RecoveryReport
        self._on_durable = on_durable
        self._segment_bytes_max = segment_bytes_max
        self._batch_records_max = batch_records_max
        self._batch_bytes_max = batch_bytes_max
        self._offload = offload
        #: For the writer: where it waits for the disk.
        self._write_beside = offload
        #: It is to be spared.
        self._has_own_thread = False

        self._poisoned = False
        self._closed = False
        self._finished = False
        self._queue: deque[_Append] = deque()
        self._in_progress: list[_Append] = []
        #: When the writer took it, in trio's seconds.
        self._begun_at = 0.0
        self._writer_idle = False
        self._work = trio.lowlevel.ParkingLot()
        self._news = trio.lowlevel.ParkingLot()
        self._committing = trio.lowlevel.ParkingLot()
        self._committed = trio.lowlevel.ParkingLot()
        self._rotation_wanted = False
        self._rotated = trio.lowlevel.ParkingLot()

        self._bytes_at_start = 0
        self._batches = 0
        self._records = 0
        self._bytes = 0
        self._sync_seconds_last = 0.0
        self._sync_seconds_total = 0.0

    def _new_reader(self) -> LogReader:
        """A reader belongs to one thread at a time."""
        locate = None if self._index is None else self._index.locate
        return LogReader(self.directory, disk=self._disk, locate=locate, limit=lambda: self.last_seq)

    # What is in it.

    @property
    def recovery(self) -> RecoveryReport:
        return self._recovery

    @property
    def last_seq(self) -> int:
        return self._segment.end.next_seq - 1

    @property
    def last_time_us(self) -> int:
        return self._segment.end.time_us

    @property
    def durable_end(self) -> Witness:
        end = self._segment.end
        return Witness(end.segment, end.offset, self.last_seq)

    def first_seq(self) -> int:
        return self.reader.first_seq()

    def get(self, seq: int) -> Record:
        return self.reader.get(seq)

    def read(self, from_seq: int, to_seq: int | None = None) -> Iterator[Record]:
        return self._new_reader().read(from_seq, to_seq)

    async def follow(self, from_seq: int) -> AsyncGenerator[Record, None]:
        cursor = Cursor(self._new_reader(), from_seq)
        try:
            while True:
                if cursor.seq <= self.last_seq:
                    for record in await self._offload(cursor.advance):
                        yield record
                elif self._poisoned:
                    raise LogPoisonedError("the log is poisoned")
                elif self._finished:
                    return
                else:
                    await self._news.park()
        finally:
            cursor.close()

    # How it is.

    @property
    def poisoned(self) -> bool:
        return self._poisoned

    @property
    def sync_seconds_last(self) -> float:
        return self._sync_seconds_last

    def statistics(self) -> LogStatistics:
        return LogStatistics(
            batches=self._batches,
            records=self._records,
            bytes=self._bytes,
            sync_seconds_total=self._sync_seconds_total,
            queue_length=sum(append.task is not None for append in self._queue),
            poisoned=self._poisoned,
        )

    def size_bytes(self) -> int:
        return self._bytes_at_start + self._bytes - self._erasure.bytes_freed

    def free_bytes(self) -> int:
        return self._disk.free_bytes(self.directory)

    # Changing it.

    async def append(self, entries: Sequence[Entry], *, patient: bool = True) -> Sequence[Record]:
        """See `DurableLog`. Returned: `on_durable` has seen the records as well.

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
        self._wake_writer()
        records: Sequence[Record] = await trio.lowlevel.wait_task_rescheduled(append.abort)
        return records

    async def settle(self) -> None:
        if self._in_progress:
            await self._committed.park()
        if self._poisoned:
            raise LogPoisonedError("the log is poisoned")

    async def rotate(self) -> int:
        self._check_open()
        self._rotation_wanted = True
        self._wake_writer()
        await self._rotated.park()
        if self._poisoned:
            raise LogPoisonedError("the log is poisoned: its segment could not be sealed")
        return self._segment.end.segment

    async def erase_payloads(self, seqs: Collection[int]) -> Sequence[ErasedSegment]:
        self._check_open()
        if seqs and max(seqs) >= self._segment.end.segment:
            await self.rotate()
        return await self._erasure.erase_payloads(seqs)

    async def remove_torn_copies(self, is_meant: Callable[[str, bytes], bool]) -> int:
        return await self._erasure.remove_torn_copies(is_meant)

    def _check_open(self) -> None:
        if self._poisoned:
            raise LogPoisonedError("the log is poisoned: a write could not be made durable")
        if self._closed:
            raise LogClosedError("the log is closed")

    def _wake_writer(self) -> None:
        if self._writer_idle:
            self._writer_idle = False
            self._work.unpark()

    # Opening and closing. What follows runs in the thread of the caller's choice, before the writer runs.

    def _recover(self, witness: Witness | None) -> None:
        plan = inspect(self._disk, self.directory, witness)
        self._recovery = carry_out(self._disk, self.directory, plan, witness)
        self._segment.begin(plan)
        self._bytes_at_start = segments_bytes(self._disk, self.directory)

    def _close_files(self) -> None:
        self._segment.close()
        self.reader.close()

    # The writer.

    async def _write(self) -> None:
        # Shielded: whoever has been taken by the writer waits for its answer, whatever is cancelled around
        # it.
        with trio.CancelScope(shield=True):
            try:
                while await self._wait_for_work():
                    if self._in_progress:
                        self._begun_at = trio.current_time()
                        self._committing.unpark()  # before the rotation, which may hang as well
                    if self._rotation_wanted:
                        await self._rotate_as_wanted()
                    if not self._in_progress:
                        continue
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
        """Release those who do not want to wait any longer. The writer goes on: only the disk can end a sync.

        It sleeps through the batches that end in time, of which a busy relay has hundreds a second.
        """
        while True:
            if not self._in_progress:
                await self._committing.park()
            patient_until = self._begun_at + STALL_SECONDS
            if trio.current_time() < patient_until:
                await trio.sleep_until(patient_until)
                continue
            for append in self._in_progress:
                if not append.patient:
                    error = LogStalledError("the disk does not answer; this may become durable yet")
                    append.answer(outcome.Error(error))
            await self._committed.park()

    async def _wait_for_work(self) -> bool:
        """Take the next batch from the queue. False if the log is closed and drained."""
        while True:
            if self._queue and self._has_own_thread:
                await _let_others_come()
            if self._take() or self._rotation_wanted:
                return True
            if self._closed:
                return False
            self._writer_idle = True
            await self._work.park()

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
        if self._segment.end.records:
            await self._write_beside(self._segment.rotate)
        self._rotation_wanted = False
        self._rotated.unpark_all()

    async def _commit(self) -> None:
        size = sum(append.size for append in self._in_progress)
        end = self._segment.end
        if end.records and end.offset + size + FOOTER_BYTES > self._segment_bytes_max:
            await self._write_beside(self._segment.rotate)
        records, data = self._segment.encode(append.entries for append in self._in_progress)
        seconds = await self._write_beside(self._segment.write, data)
        self._segment.advance(records[-1], data)
        self._batches += 1
        self._records += len(records)
        self._bytes += len(data)
        self._sync_seconds_last = seconds
        self._sync_seconds_total += seconds
        if self._on_durable is not None:
            self._on_durable(records)
        self._release(records)
        self._news.unpark_all()

    def _release(self, records: list[Record]) -> None:
        appends, self._in_progress = self._in_progress, []
        start = 0
        for append in appends:
            end = start + len(append.entries)
            append.answer(outcome.Value(records[start:end]))
            start = end

    def _poison(self) -> None:
        self._poisoned = True
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


async def _let_others_come() -> None:
    """Until all others have done what they can, as far as that takes no more than GATHER_SECONDS_MAX.

    Each batch costs a sync, switches of threads and a transaction of the views. A relay that has nothing else to do
    does not wait here; in one that is busy, what would have been several batches is one.
    """
    with trio.move_on_after(GATHER_SECONDS_MAX):
        await wait_all_tasks_blocked()


def _random_salt() -> bytes:
    return os.urandom(SALT_BYTES)


@asynccontextmanager
async def open_log(
    directory: Path,
    *,
    witness: Witness | Callable[[], Witness | None] | None = None,
    on_durable: Callable[[Sequence[Record]], None] | None = None,
    on_recovered: Callable[[Log], None] | None = None,
    index: Index | None = None,
    disk: Disk | None = None,
    clock: Callable[[], int] = wall_clock_us,
    new_salt: Callable[[], bytes] = _random_salt,
    segment_bytes_max: int = SEGMENT_BYTES_MAX,
    batch_records_max: int = BATCH_RECORDS_MAX,
    batch_bytes_max: int = BATCH_BYTES_MAX,
    offload: Offload | None = None,
) -> AsyncIterator[Log]:
    """Open the log in `directory` for writing, create it if there is none, recover it if need be.

    Raises `LockedError` if another process has it open, `CorruptionError` if acknowledged data is damaged.
    `witness` may be a function, for those who must hold the lock before they can look: it is called once.
    `on_recovered(log)` is called before the first append can be written: the moment for views to catch up,
    through `log.reader`. `on_durable(records)` is called for each batch after it is durable and before its
    appends return; if it raises, the log is poisoned. Both are called in the trio thread. `index` knows where
    records stand: without one, a record is found by reading its segment from the front. `offload` is how it waits for
    the disk; None: in threads, of which the writer has one of its own; a batch then waits for more where the loop is
    busy (GATHER_SECONDS_MAX).

    On leaving, what is queued is still written. If a write fails, the block is cancelled and a
    `LogPoisonedError` comes out, in an exception group as from any nursery.
    """
    disk = disk or RealDisk()
    log = Log(
        directory,
        disk=disk,
        index=index,
        on_durable=on_durable,
        clock=clock,
        new_salt=new_salt,
        segment_bytes_max=segment_bytes_max,
        batch_records_max=batch_records_max,
        batch_bytes_max=batch_bytes_max,
        offload=offload or trio.to_thread.run_sync,
    )
    disk.make_directory(directory)
    disk.sync_directory(directory.parent)
    lock = disk.lock(directory / LOCK_NAME)
    try:
        await log._offload(log._recover, witness() if callable(witness) else witness)
        if on_recovered is not None:
            on_recovered(log)
        async with AsyncExitStack() as stack:
            if offload is None:
                log._write_beside = stack.enter_context(open_own_thread("log"))
                log._has_own_thread = True
            nursery = await stack.enter_async_context(trio.open_nursery())
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
