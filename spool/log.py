"""The log open for writing: what stands behind `DurableLog`, and how it is opened.

The invariant: **what is told to anybody is durable.** `last_seq`, every read and every follower end where the writer
has been told that the batch stays. The writer (`spool.writer`) alone changes the segment that is being written; calls
wait for it in `spool.calls`; what makes a batch durable is a `Durability` (`spool.durability`).

A log is this machine's alone, or one that several machines have. In the second form it is opened with `follows`: it
takes what others appended (`receive`) until this machine is the one that appends (`lead`), which it is then to its end.
This machine's file is no longer what makes a batch durable, so it is synced now and then (`sync`), and a *mark* beside
it says up to where that has been done (`spool.mark`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from spool.calls import Append, Calls
from spool.clock import wall_clock_us
from spool.directory import LOCK_NAME, segments_bytes
from spool.disk import Disk, Offload, RealDisk
from spool.disk_durability import DiskDurability
from spool.durability import Batch, Durability
from spool.erasure import Erasure, Index
from spool.errors import LogClosedError, LogFollowsError, LogPoisonedError
from spool.interface import DurableLog, ErasedSegment, LogStatistics
from spool.mark import remove_mark, write_mark
from spool.open_segment import OpenSegment
from spool.own_thread import open_own_thread
from spool.reader import Cursor, LogReader
from spool.received import Received
from spool.record import Entry, Record, entry_bytes
from spool.recovery import Witness
from spool.repair import RecoveryReport, carry_out, inspect
from spool.segment import SALT_BYTES
from spool.stripped import read_stripped, write_stripped
from spool.writer import Writer

SEGMENT_BYTES_MAX: Final = 64 << 20
BATCH_RECORDS_MAX: Final = 1024
#: What is larger cannot be appended. A mail of 10 MiB fits, with the events of all its recipients.
BATCH_BYTES_MAX: Final = 16 << 20


class Log(DurableLog):
    """An open log: `DurableLog` says what it promises. Made by `open_log`."""

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
        follows: bool,
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
        self._batch_records_max = batch_records_max
        self._batch_bytes_max = batch_bytes_max
        self._offload = offload
        self._calls = Calls(batch_records_max=batch_records_max, batch_bytes_max=batch_bytes_max)
        self._writer = Writer(
            self._segment,
            self._calls,
            on_durable=on_durable,
            segment_bytes_max=segment_bytes_max,
            run_records_max=batch_records_max,
        )
        #: Several machines have it, and this one's file is not what makes it durable.
        self._is_marked = follows
        #: Another machine appends.
        self._follows = follows
        self._syncing = trio.Lock()
        #: How far the mark says that the file is synced.
        self._marked_seq = 0
        #: How far payloads were removed here; always 0 where the log is this machine's alone.
        self._stripped_through = 0
        self._closed = False
        self._bytes_at_start = 0

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
    def last_chain(self) -> bytes:
        """The chain value of the last record."""
        return self._segment.end.chain

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
                    continue
                self._writer.check_not_ended()
                if self._writer.finished:
                    return
                await self._writer.news.park()
        finally:
            cursor.close()

    # How it is.

    @property
    def poisoned(self) -> bool:
        return self._writer.poisoned

    @property
    def deposed(self) -> bool:
        return self._writer.deposed

    @property
    def sync_seconds_last(self) -> float:
        return self._writer.sync_seconds_last

    def statistics(self) -> LogStatistics:
        writer = self._writer
        return LogStatistics(
            batches=writer.batches,
            records=writer.records,
            bytes=writer.bytes,
            sync_seconds_total=writer.sync_seconds_total,
            queue_length=self._calls.waiting(),
            poisoned=writer.poisoned,
        )

    def size_bytes(self) -> int:
        return self._bytes_at_start + self._writer.bytes - self._erasure.bytes_freed

    def free_bytes(self) -> int:
        return self._disk.free_bytes(self.directory)

    # Changing it.

    async def append(self, entries: Sequence[Entry], *, patient: bool = True) -> Sequence[Record]:
        """See `DurableLog`. Returned: `on_durable` has seen the records as well."""
        size = sum(map(entry_bytes, entries))
        if not entries:
            raise ValueError("there is nothing to append")
        if len(entries) > self._batch_records_max or size > self._batch_bytes_max:
            raise ValueError(
                f"{len(entries)} entries of {size} bytes are too many for one batch of at most "
                f"{self._batch_records_max} and {self._batch_bytes_max} bytes"
            )
        writer = self._writer
        if writer.poisoned or self._closed or self._follows:
            self._check_appends()
        append = Append(entries, size, patient)
        self._calls.queue.append(append)
        writer.wake()
        records: Sequence[Record] = await trio.lowlevel.wait_task_rescheduled(append.abort)
        return records

    async def settle(self) -> None:
        await self._writer.settle()

    async def rotate(self) -> int:
        self._check_appends()
        return await self._rotate()

    async def erase_payloads(self, seqs: Collection[int], *, alone: bool = False) -> Sequence[ErasedSegment]:
        self._check_open()
        if seqs and max(seqs) >= self._segment.end.segment:
            await self._rotate()
        # What is rewritten has to lie in front of the mark: from behind it payloads would come back, received again.
        await self.sync()
        return await self._erasure.erase_payloads(seqs, alone=alone)

    async def remove_torn_copies(self, is_meant: Callable[[str, bytes], bool]) -> int:
        return await self._erasure.remove_torn_copies(is_meant)

    async def _rotate(self) -> int:
        await self._writer.rotate()
        return self._segment.end.segment

    def _check_open(self) -> None:
        self._writer.check_not_ended(": a write could not be made durable")
        if self._closed:
            raise LogClosedError("the log is closed")

    def _check_appends(self) -> None:
        self._check_open()
        if self._follows:
            raise LogFollowsError("this machine's log follows another's: nothing is appended here")

    # One log on several machines.

    @property
    def follows(self) -> bool:
        """Another machine appends: there is `receive`, and no `append`."""
        return self._follows

    async def receive(self, batches: Sequence[Received]) -> None:
        """Write these batches, which another machine has made durable, behind what is here.

        Returned: they are in this machine's file (which is not synced for that, see `sync`), `on_durable` has seen
        them, one or several whole batches at a time, and everybody who follows the log is given them. It cannot be
        cancelled once it has begun. One call at a time, and only while the log `follows`.

        Raises `DivergedError` where one of them does not follow from what is in front of it: none is written then.
        Raises `LogClosedError`, and `LogPoisonedError` where the disk fails: some may be written.
        """
        self._check_open()
        await self._writer.receive(batches)

    def lead(self, durability: Durability) -> None:
        """From now on this machine appends, and `durability` makes it durable. There is no way back.

        Not while `receive` is under way. When another machine takes its place (`LogDeposedError` from the durability),
        every append that waits and every later one gets that error, none of them is written, and the block of
        `open_log` is cancelled and raises it. The log counts as `poisoned` then, since it acknowledges nothing any
        more, and as `deposed`: nothing is wrong with its files, which are synced at the end as ever.
        """
        self._check_open()
        self._writer.lead(durability)
        self._follows = False

    async def write_unsynced(self, batch: Batch) -> None:
        """For the `Durability` that `lead` was given, when it has made the batch durable elsewhere and before it says
        so: write it into this machine's file. Raises OSError; then the log has to be poisoned by that."""
        await self._writer.write_unsynced(batch.data)

    async def sync(self) -> int:
        """Sync this machine's file, and move the mark. Returns the sequence number up to which that is done, and kept
        by any crash of this machine.

        Appends go on meanwhile. Where the disk fails the log is poisoned. A log that is this machine's alone has no
        mark, since all that it has is synced.
        """
        if not self._is_marked:
            return self.last_seq
        async with self._syncing:
            self._check_open()
            await self._sync()
        return self._marked_seq

    async def part(self) -> None:
        """Sync this machine's file, and take the mark away: from its next opening on the log is this machine's alone.

        Only while it follows, and where no other machine will append any more: what follows is not received any more,
        and is not appended before that opening. Done again, it changes nothing.
        """
        assert self._follows, "the log is this machine's alone, or it leads"
        async with self._syncing:
            self._check_open()
            await self._sync()
            await self._offload(remove_mark, self._disk, self.directory)
            self._is_marked = False

    async def _sync(self) -> None:
        if self.last_seq == self._marked_seq:
            return
        await self._writer.hold()
        try:
            if self.poisoned and not self.deposed:
                self._check_open()  # a second sync of a file whose first one has failed means nothing
            end = self.durable_end
            await self._offload(self._sync_and_mark, end)
        except OSError as error:
            self._writer.fail(error)
            raise LogPoisonedError(f"the log is poisoned: {error!r}") from error
        finally:
            self._writer.let_go()
        self._marked_seq = end.seq

    def _sync_and_mark(self, end: Witness) -> None:
        self._segment.sync()
        write_mark(self._disk, self.directory, end)

    @property
    def stripped_through(self) -> int:
        """All records up to this one that say that payloads go have been carried out in this machine's files, as far as
        `note_stripped` was told."""
        return self._stripped_through

    async def note_stripped(self, seq: int) -> None:
        """Remember that for all records up to `seq`, which are in the log, durably. Raises OSError."""
        assert self._is_marked, "a log of one machine says so by its own records"
        assert seq <= self.last_seq, f"{seq} is behind the end of the log"
        await self._offload(write_stripped, self._disk, self.directory, seq)
        self._stripped_through = seq

    # Opening and closing.

    def _recover(self, witness: Witness | None) -> None:
        """In the thread of the caller's choice, before the writer runs."""
        plan = inspect(self._disk, self.directory, witness)
        if plan.mark is not None and not self._is_marked:
            raise LogFollowsError(
                f"{self.directory} is a log that several machines have, and is not opened as this one's alone"
            )
        self._recovery = carry_out(self._disk, self.directory, plan)
        self._segment.begin(plan)
        if self._is_marked:
            write_mark(self._disk, self.directory, self.durable_end)
            self._marked_seq = self.last_seq
            self._recover_stripped()
        self._bytes_at_start = segments_bytes(self._disk, self.directory)

    def _recover_stripped(self) -> None:
        """What was cut comes again, and with it the payloads that had been removed from it."""
        through = read_stripped(self._disk, self.directory)
        if through > self.last_seq:
            through = self.last_seq
            write_stripped(self._disk, self.directory, through)
        self._stripped_through = through

    async def _end(self) -> None:
        """The writer has ended. Where the file is synced now and then, that is done once more, if it can be."""
        if self._is_marked and (self.deposed or not self.poisoned):
            with trio.CancelScope(shield=True):
                async with self._syncing:
                    await self._sync()

    def _close(self) -> None:
        """No more appends; the writer finishes what is queued."""
        self._closed = True
        self._writer.close()

    def _close_files(self) -> None:
        self._segment.close()
        self.reader.close()


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
    follows: bool = False,
) -> AsyncIterator[Log]:
    """Open the log in `directory` for writing, create it if there is none, recover it if need be.

    Raises `LockedError` if another process has it open, `CorruptionError` if acknowledged data is damaged,
    `LogFollowsError` if it is a log that several machines have and `follows` is not said.
    `witness` may be a function, for those who must hold the lock before they can look: it is called once.
    `on_recovered(log)` is called before the first append can be written: the moment for views to catch up,
    through `log.reader`. `on_durable(records)` is called for each batch after it is durable and before its
    appends return; if it raises, the log is poisoned. Both are called in the trio thread. `index` knows where
    records stand: without one, a record is found by reading its segment from the front. `offload` is how it waits for
    the disk; None: in threads, of which the writer has one of its own; a batch then waits for more where the loop is
    busy (`spool.writer.GATHER_SECONDS_MAX`).

    `follows`: it is one log that several machines have, and another one appends: see `Log.receive` and `Log.lead`. What
    is damaged at its end, behind the mark, is cut, because it is received again (`recovery.dropped` says what it was).
    So `on_recovered` may find the log shorter than whoever remembers it, the views for one.

    On leaving, what is queued is still written. If a write fails, the block is cancelled and a `LogPoisonedError` comes
    out, in an exception group as from any nursery; `LogDeposedError` where this machine may append no more.
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
        follows=follows,
    )
    disk.make_directory(directory)
    disk.sync_directory(directory.parent)
    lock = disk.lock(directory / LOCK_NAME)
    try:
        await log._offload(log._recover, witness() if callable(witness) else witness)
        if on_recovered is not None:
            on_recovered(log)
        try:
            async with AsyncExitStack() as stack:
                beside = log._offload
                if offload is None:
                    beside = stack.enter_context(open_own_thread("log"))
                log._writer.begin(
                    beside,
                    None if follows else DiskDurability(log._segment, beside),
                    has_own_thread=offload is None,
                )
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(log._writer.watch)

                async def write() -> None:
                    await log._writer.run()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(write)
                try:
                    yield log
                finally:
                    log._close()
        finally:
            await log._end()
    finally:
        log._close_files()
        disk.close(lock)
