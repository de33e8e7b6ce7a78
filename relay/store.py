"""The store: the log and its views under one roof, speaking events.

The rest of the relay meets the log only here. `append` is the one way to make something true: it returns when the
events are durable *and* in the views, so whoever goes on can read its own write.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import trio

from relay.codec import Recorded, decode, encode
from relay.config import Config
from relay.events import Event, TornTailCut, ViewsRebuilt
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.surroundings import Surroundings
from relay.views import relay_views
from spool.errors import LogStalledError
from spool.log import STALL_SECONDS, Log, open_log
from spool.repair import Cut
from spool.segment import SALT_BYTES
from spool.strip import Stripped
from spool.views import Snapshot, Views

logger = logging.getLogger(__name__)


class Store:
    def __init__(self, log: Log, views: Views[Recorded], surroundings: Surroundings) -> None:
        self.log = log
        self.views = views
        self._clock = surroundings.clock
        self._disk = surroundings.disk
        self._chance = surroundings.chance
        self._bytes_at_start = sum(segment.bytes for segment in log.reader.segments())
        # Decisions that must not run beside each other (enrolment) take turns.
        self._turn = trio.Lock()
        #: The last decision was given up while the disk was at it: it may become true yet.
        self._is_in_doubt = False

    def now_us(self) -> int:
        """The time to decide by: never before what the log already holds, even if the clock was set back."""
        return max(self._clock(), self.log.last_time_us)

    @property
    def last_seq(self) -> int:
        """Of the last record that is durable; 0 where there is none."""
        return self.log.last_seq

    @property
    def first_seq(self) -> int:
        """Of the oldest record that is kept."""
        return self.log.reader.first_seq()

    def read(self) -> AbstractContextManager[Snapshot]:
        """The views at this moment; never keep it across an `await`."""
        return self.views.read()

    async def append(self, events: Sequence[Event], *, patient: bool = True) -> list[Recorded]:
        """Make the events true, together. Cancelled: none is. Returned: all are durable and in the views.

        Not `patient`: LogStalledError when the disk does not answer; they may become true yet.
        """
        records = await self.log.append([encode(event, self._chance) for event in events], patient=patient)
        return [
            Recorded(record.seq, record.time_us, event) for record, event in zip(records, events, strict=True)
        ]

    async def decide(
        self, decision: Callable[[Snapshot], Sequence[Event]], *, patient: bool = True
    ) -> list[Recorded]:
        """Decide and append, one decision at a time: each sees what the one before it made true.

        `patient` as in `append`; LogStalledError also where it is not its turn within STALL_SECONDS, or the writer not
        ready: then it will not become true. One that was given up on its way may: the next waits for that.
        """
        async with self._in_turn(patient):
            with self.read() as view:
                events = decision(view)
            if not events:
                return []
            with trio.move_on_after(math.inf if patient else STALL_SECONDS):
                try:
                    return await self.append(events, patient=patient)
                except LogStalledError:
                    self._is_in_doubt = True
                    raise
        raise LogStalledError("the disk does not answer; this will not become durable")

    @asynccontextmanager
    async def _in_turn(self, patient: bool) -> AsyncIterator[None]:
        with trio.move_on_after(math.inf if patient else STALL_SECONDS) as waiting:
            await self._turn.acquire()
            try:
                if self._is_in_doubt:
                    await self.log.settle()
                    self._is_in_doubt = False
            except BaseException:
                self._turn.release()
                raise
        if waiting.cancelled_caught:
            raise LogStalledError("the disk does not answer; this was not decided")
        try:
            yield
        finally:
            self._turn.release()

    def get(self, seq: int) -> Recorded:
        """The event with this sequence number, from the log. Raises LookupError."""
        return decode(self.log.reader.get(seq))

    async def segment_was_stripped(self, stripped: Stripped) -> None:
        """Go on with the file that has taken the place of the old one. Others work in between.

        Cancelled, it goes on to its end, a second at most, so that a relay that stops in order leaves an index that is
        right. After a crash the next start corrects it (`Views.catch_up`).
        """
        # It may have the old file open, and would find there what was removed.
        self.log.reader.close()
        self._bytes_at_start -= stripped.bytes_freed
        with trio.CancelScope(shield=True):
            for _ in self.views.move(stripped.first_seq, stripped.offsets, stripped.end_offset):
                await trio.lowlevel.checkpoint()

    def segment_may_be_stripped(self) -> None:
        """As `segment_was_stripped`, where the disk failed: if only in the last step, the new file is there."""
        self.log.reader.close()
        self.views.correct_index(self.log.reader)

    def free_bytes(self) -> int:
        """What is left on the disk that holds the log."""
        return self._disk.free_bytes(self.log.directory)

    def log_bytes(self) -> int:
        """How large the log is, to within its headers and footers."""
        return self._bytes_at_start + self.log.bytes_written


@asynccontextmanager
async def open_store(directory: Path, config: Config, surroundings: Surroundings) -> AsyncIterator[Store]:
    """Recover the log below `directory`, bring the views up to it, and hold both until the block ends.

    Raises `spool` errors where the log cannot be trusted or another process holds it. If the log is poisoned while
    the block runs, the block is cancelled and the error raised.
    """
    views = relay_views(directory / VIEWS_DIRECTORY)
    try:
        async with open_log(
            directory / LOG_DIRECTORY,
            witness=views.open,
            on_recovered=lambda log: views.catch_up(log.reader),
            on_durable=views.apply,
            locate=views.locate,
            disk=surroundings.disk,
            clock=surroundings.clock,
            new_salt=lambda: surroundings.dice.randbytes(SALT_BYTES),
            offload=surroundings.offload,
            segment_bytes_max=config.spool.segment_bytes,
        ) as log:
            store = Store(log, views, surroundings)
            await _report(store)
            yield store
    finally:
        views.close()


def torn_tail_cut(cut: Cut, *, loss_ruled_out: bool) -> TornTailCut:
    """The event that tells of it: of this start's, or of `log repair`'s."""
    return TornTailCut(segment=cut.file, offset=cut.offset, bytes_cut=cut.size, loss_ruled_out=loss_ruled_out)


async def _report(store: Store) -> None:
    """Put into the log what had to be done to open it."""
    events: list[Event] = []
    recovery = store.log.recovery
    if recovery.cut is not None:
        logger.warning("log.torn_tail_cut", extra={"because": recovery.because, "copy": recovery.cut.kept})
        events.append(torn_tail_cut(recovery.cut, loss_ruled_out=recovery.loss_ruled_out))
    if store.views.rebuilt_because is not None and store.log.last_seq:
        events.append(ViewsRebuilt(because=store.views.rebuilt_because))
    if events:
        await store.append(events)
