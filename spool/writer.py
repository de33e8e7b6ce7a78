"""The log's one writer: the task that alone changes the segment that is being written.

The invariant: **batch k+1 is not begun before batch k is durable, and nobody is answered before that either.**
Everything that recovery concludes from what it finds behind a damaged batch rests on it.

The second one: **after the first failure nothing is acknowledged any more.** After a failed fsync the kernel may
believe the lost pages clean, so that a second fsync succeeds and means nothing. The log is poisoned, the writer task
raises, the process is to end, and the next start looks at what the disk has.

How a batch becomes durable it does not know: it asks a `Durability`. One that is ABSENT is encoded anew, with a new
time, of what somebody still waits for. One that another machine has forestalled (`LogDeposedError`) ends the writer as
a failure does, but that nothing is wrong with this machine's files.

While the log follows another machine's, the writer has no `Durability`. It writes what `receive` brings: batches that
are durable elsewhere already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import outcome
import trio
from trio.testing import wait_all_tasks_blocked

from spool.calls import Calls
from spool.disk import Offload
from spool.durability import Batch, Durability, Verdict
from spool.errors import DivergedError, LogDeposedError, LogPoisonedError, SpoolError
from spool.interface import STALL_SECONDS
from spool.open_segment import OpenSegment
from spool.received import Received, place
from spool.record import Record
from spool.segment import FOOTER_BYTES

#: So long a batch waits for more, where the loop is busy.
GATHER_SECONDS_MAX: Final = 0.005


class _Receiving:
    """One call of `receive`, and the task that waits in it. It cannot be cancelled."""

    def __init__(self, batches: Sequence[Received]) -> None:
        self.batches = batches
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    def answer(self, result: outcome.Outcome[None]) -> None:
        task, self._task = self._task, None
        assert task is not None
        trio.lowlevel.reschedule(task, result)


class Writer:
    """Of one log. `begin` it before it runs."""

    def __init__(
        self,
        segment: OpenSegment,
        calls: Calls,
        *,
        on_durable: Callable[[Sequence[Record]], None] | None,
        segment_bytes_max: int,
        run_records_max: int,
    ) -> None:
        self._segment = segment
        self._calls = calls
        self._on_durable = on_durable
        self._segment_bytes_max = segment_bytes_max
        self._run_records_max = run_records_max
        #: Where it waits for the disk.
        self._beside: Offload
        #: It is to be spared.
        self._has_own_thread = False
        #: None: the log follows another machine's.
        self._durability: Durability | None = None

        self.poisoned = False
        self.deposed = False
        #: It has ended in order.
        self.finished = False
        self._failure: Exception | None = None
        self._closed = False
        #: When it took what is in progress, in trio's seconds.
        self._begun_at = 0.0
        self._idle = False
        self._receiving: _Receiving | None = None
        self._rotation_wanted = False
        self._work = trio.lowlevel.ParkingLot()
        self._committing = trio.lowlevel.ParkingLot()
        self._committed = trio.lowlevel.ParkingLot()
        self._rotated = trio.lowlevel.ParkingLot()
        #: For whoever waits until there is more in the log, or none to come.
        self.news = trio.lowlevel.ParkingLot()
        #: How many need the segment's file as it is.
        self._held = 0
        self._let_go = trio.lowlevel.ParkingLot()
        #: That file is being exchanged.
        self._rotating = False
        self._exchanged = trio.lowlevel.ParkingLot()

        self.batches = 0
        self.records = 0
        self.bytes = 0
        self.sync_seconds_last = 0.0
        self.sync_seconds_total = 0.0

    def begin(self, beside: Offload, durability: Durability | None, *, has_own_thread: bool) -> None:
        self._beside = beside
        self._durability = durability
        self._has_own_thread = has_own_thread

    # What others ask of it.

    def check_not_ended(self, what: str = "") -> None:
        """Raises `LogDeposedError` and `LogPoisonedError`, where it is so."""
        if self.deposed:
            raise _deposed()
        if self.poisoned:
            raise LogPoisonedError(f"the log is poisoned{what}")

    def wake(self) -> None:
        if self._idle:
            self._idle = False
            self._work.unpark()

    def close(self) -> None:
        """No more appends; it finishes what is queued."""
        self._closed = True
        self._work.unpark_all()

    async def settle(self) -> None:
        if self._calls.taken:
            await self._committed.park()
        self.check_not_ended()

    async def rotate(self) -> None:
        self._rotation_wanted = True
        self.wake()
        await self._rotated.park()
        self.check_not_ended(": its segment could not be sealed")

    def lead(self, durability: Durability) -> None:
        assert self._durability is None, "it leads already, or has never followed"
        assert self._receiving is None, "what is being received must have ended"
        self._durability = durability
        if durability.batch_bytes_wanted is not None:
            self._calls.batch_bytes_wanted = durability.batch_bytes_wanted

    async def receive(self, batches: Sequence[Received]) -> None:
        assert self._durability is None, "the log does not follow any more"
        assert self._receiving is None, "one call at a time"
        await trio.lowlevel.checkpoint_if_cancelled()
        self._receiving = _Receiving(batches)
        self.wake()
        await trio.lowlevel.wait_task_rescheduled(_cannot_be_cancelled)

    async def write_unsynced(self, data: bytes) -> None:
        """For the `Durability`, while it is asked for a batch."""
        await self._beside(self._segment.write_unsynced, data)

    async def hold(self) -> None:
        """The segment is not rotated until it is let go. Where that has begun, it is waited for."""
        while self._rotating:
            await self._exchanged.park()
        self._held += 1

    def let_go(self) -> None:
        self._held -= 1
        self._let_go.unpark_all()

    def fail(self, error: Exception) -> None:
        """Somebody else has failed to make something of this log durable: it is poisoned, as if the writer had."""
        self._failure = error
        self._end(error)
        self.wake()

    # What it does.

    async def run(self) -> None:
        # Shielded: whoever has been taken by the writer waits for its answer, whatever is cancelled around
        # it.
        with trio.CancelScope(shield=True):
            try:
                while await self._wait_for_work():
                    if self._calls.taken:
                        self._begun_at = trio.current_time()
                        self._committing.unpark()  # before the rotation, which may hang as well
                    if self._rotation_wanted:
                        await self._rotate_as_wanted()
                    if self._receiving is not None:
                        await self._take_in(self._receiving)
                    if not self._calls.taken:
                        continue
                    await self._commit()
                    self._committed.unpark_all()
                self.finished = True
                self.news.unpark_all()
            except BaseException as error:
                self._end(error)
                if isinstance(error, Exception) and not isinstance(error, LogDeposedError):
                    # A sentence of ours, or something of the machine's that may have no words.
                    because = error if isinstance(error, SpoolError) else repr(error)
                    raise LogPoisonedError(f"the log is poisoned: {because}") from error
                raise

    async def watch(self) -> None:
        """Release those who do not want to wait any longer. The writer goes on: only the disk can end a sync.

        It sleeps through the batches that end in time, of which a busy relay has hundreds a second.
        """
        while True:
            if not self._calls.taken:
                await self._committing.park()
            patient_until = self._begun_at + STALL_SECONDS
            if trio.current_time() < patient_until:
                await trio.sleep_until(patient_until)
                continue
            self._calls.refuse_the_impatient()
            await self._committed.park()

    async def _wait_for_work(self) -> bool:
        """Take the next batch from the queue. False if the log is closed and drained."""
        while True:
            if self._calls.queue and self._has_own_thread:
                await _let_others_come()
            if self._failure is not None:
                raise self._failure
            if self._calls.take() or self._rotation_wanted or self._receiving is not None:
                return True
            if self._closed:
                return False
            self._idle = True
            await self._work.park()

    async def _rotate_as_wanted(self) -> None:
        if self._segment.end.records:
            await self._rotate()
        self._rotation_wanted = False
        self._rotated.unpark_all()

    async def _rotate(self) -> None:
        while self._held:
            await self._let_go.park()
        if self._failure is not None:
            raise self._failure
        self._rotating = True
        try:
            await self._beside(self._segment.rotate)
        finally:
            self._rotating = False
            self._exchanged.unpark_all()

    async def _commit(self) -> None:
        durability, calls = self._durability, self._calls
        assert durability is not None  # nobody can append while the log follows
        size = sum(append.size for append in calls.taken)
        end = self._segment.end
        if end.records and end.offset + size + FOOTER_BYTES > self._segment_bytes_max:
            await self._rotate()
        while calls.taken:
            records, data = self._segment.encode(append.entries for append in calls.taken)
            verdict = await durability.make_durable(Batch(records, data, self._segment.end.chain))
            if self._failure is not None:
                raise self._failure
            if verdict is Verdict.DURABLE:
                self.sync_seconds_last = seconds = durability.sync_seconds_last
                self.sync_seconds_total += seconds
                self.batches += 1
                self._advance(records, data)
                calls.release(records)
                self.news.unpark_all()
                return
            calls.drop_given_up()

    async def _take_in(self, receiving: _Receiving) -> None:
        try:
            runs = place(
                receiving.batches,
                self._segment.end,
                segment_bytes_max=self._segment_bytes_max,
                run_records_max=self._run_records_max,
            )
        except DivergedError as error:
            self._receiving = None
            receiving.answer(outcome.Error(error))
            return
        for records in runs:
            if records[0].segment != self._segment.end.segment:
                await self._rotate()
            data = self._segment.encode_placed(records)
            await self._beside(self._segment.write_unsynced, data)
            if self._failure is not None:
                raise self._failure
            self._advance(records, data)
            self.news.unpark_all()
        self.batches += len(receiving.batches)
        self._receiving = None
        receiving.answer(outcome.Value(None))

    def _advance(self, records: Sequence[Record], data: bytes) -> None:
        self._segment.advance(records[-1], data)
        self.records += len(records)
        self.bytes += len(data)
        if self._on_durable is not None:
            self._on_durable(records)

    def _end(self, error: BaseException) -> None:
        self.poisoned = True
        # A disk that fails besides is no matter of who leads.
        self.deposed = isinstance(error, LogDeposedError) and self._failure is None
        answer = _deposed if self.deposed else _not_made_durable
        self._calls.fail(answer)
        if self._receiving is not None:
            receiving, self._receiving = self._receiving, None
            receiving.answer(outcome.Error(answer()))
        self._committed.unpark_all()
        self._rotated.unpark_all()
        self.news.unpark_all()


def _not_made_durable() -> LogPoisonedError:
    return LogPoisonedError("the log is poisoned: this append could not be made durable")


def _deposed() -> LogDeposedError:
    return LogDeposedError("another machine appends to this log now; this one may not any more")


def _cannot_be_cancelled(_: Any) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


async def _let_others_come() -> None:
    """Until all others have done what they can, as far as that takes no more than GATHER_SECONDS_MAX.

    Each batch costs a sync, switches of threads and a transaction of the views. A relay that has nothing else to do
    does not wait here; in one that is busy, what would have been several batches is one.
    """
    with trio.move_on_after(GATHER_SECONDS_MAX):
        await wait_all_tasks_blocked()
