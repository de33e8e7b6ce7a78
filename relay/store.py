"""The store: the log and its views under one roof, speaking events.

The rest of the relay meets the log only here. `append` is the one way to make something true: it returns when the
events are durable *and* in the views, so whoever goes on can read its own write.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import trio

from relay.codec import NotRead, Recorded, Skeletons, UnsayableError, decode, encode, encode_as
from relay.config import Config
from relay.events import Event, MessageQueued, SendAccepted, TornTailCut, ViewsRebuilt
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.refusals import Refusal
from relay.surroundings import Surroundings
from relay.turns import Turns
from relay.views import relay_views
from spool.errors import LogStalledError
from spool.interface import STALL_SECONDS, DurableLog, ErasedSegment, LogStatistics
from spool.log import Log, open_log
from spool.record import Entry, Record
from spool.repair import Cut, RecoveryReport
from spool.segment import SALT_BYTES
from spool.views import Snapshot, Views

logger = logging.getLogger(__name__)

#: How many records of the last ones are kept as they were decoded, and the largest send that is: what has just been
#: accepted is mostly tried at once, and then neither found, read, verified nor decoded again.
RECENT_MAX = 1024
RECENT_OCTETS_MAX = 8 << 10
#: What a node cannot read yet may be asked for again after so long: an upgrade takes its time.
RETRY_AFTER_SECONDS = 60


class _Recent:
    """Sends and messages that have just become true."""

    def __init__(self) -> None:
        # Of a dict the first key is the slower to find, the more have been deleted before it.
        self._by_seq: OrderedDict[int, Recorded] = OrderedDict()

    def get(self, seq: int) -> Recorded | None:
        return self._by_seq.get(seq)

    def observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            event = item.event
            if isinstance(event, MessageQueued) or (
                isinstance(event, SendAccepted) and event.size <= RECENT_OCTETS_MAX
            ):
                self._by_seq[item.seq] = item
        while len(self._by_seq) > RECENT_MAX:
            self._by_seq.popitem(last=False)

    def forget(self) -> None:
        self._by_seq.clear()


class Store:
    """Made by `open_store`."""

    def __init__(self, log: DurableLog, views: Views[Recorded], surroundings: Surroundings) -> None:
        self._log = log
        self._views = views
        self._clock = surroundings.clock
        self._chance = surroundings.chance
        self._recent = _Recent()
        views.observers.append(self._remember)
        #: What had to be done to open it, in sentences, where several machines have the log: of that the log says
        #: nothing.
        self.found_at_start: tuple[str, ...] = ()
        #: What makes the log durable was told to wait no more: it is poisoned then, and no disk has failed.
        self.has_given_up = False
        # Decisions that must not run beside each other (enrolment) take turns.
        self._turns = Turns(1)
        #: The last decision was given up while the disk was at it: it may become true yet.
        self._is_in_doubt = False
        #: Asked one after the other when segments were rewritten: each has all readers of one kind in other processes
        #: let go of the files that they keep open, those that are only about to read among them, and returns when none
        #: has an old one any more. What does not answer in time has to be ended for that.
        self.rewritten: list[Callable[[], Awaitable[None]]] = []

    def now_us(self) -> int:
        """The time to decide by: never before what the log already holds, even if the clock was set back."""
        return max(self._clock(), self._log.last_time_us)

    # ------------------------------------------------------------------------------------------------ what is true

    def read(self) -> AbstractContextManager[Snapshot]:
        """The views at this moment; never keep it across an `await`."""
        return self._views.read()

    @property
    def observers(self) -> list[Callable[[Sequence[Recorded]], None]]:
        """Called with each batch of events, in the log's order, when it is durable and in the views."""
        return self._views.observers

    @property
    def last_seq(self) -> int:
        """Of the last event; 0 if there is none."""
        return self._log.last_seq

    def first_seq(self) -> int:
        """Of the first event that is kept; 1 where there is none yet."""
        return self._log.first_seq()

    def get(self, seq: int) -> Recorded:
        """The event with this sequence number, from the log. Raises LookupError."""
        return self._recent.get(seq) or decode(self._log.get(seq))

    def _remember(self, recorded: Sequence[Recorded]) -> None:
        self._recent.observe(recorded)

    def record(self, seq: int) -> Record:
        """As `get`, for who looks at the bytes."""
        return self._log.get(seq)

    def records(self, from_seq: int, to_seq: int | None = None) -> Iterator[Record]:
        """As `record`, of a part of the log, which is read from end to end. May be used in another thread."""
        return self._log.read(from_seq, to_seq)

    # ------------------------------------------------------------------------------------------------ making it so

    async def append(self, events: Sequence[Event], *, patient: bool = True) -> list[Recorded]:
        """Make the events true, together. Cancelled: none is. Returned: all are durable and in the views.

        Not `patient`: LogStalledError when the disk does not answer; they may become true yet.
        """
        records = await self._log.append([encode(event, self._chance) for event in events], patient=patient)
        return [
            Recorded(record.seq, record.time_us, event) for record, event in zip(records, events, strict=True)
        ]

    async def settle(self) -> None:
        """Wait until what is being written at this moment is durable. Raises what `append` raises."""
        await self._log.settle()

    async def decide(
        self,
        decision: Callable[[Snapshot], Sequence[Event]],
        *,
        patient: bool = True,
        party: str | None = None,
    ) -> list[Recorded]:
        """Decide and append, one decision at a time: each sees what the one before it made true.

        `patient` as in `append`; LogStalledError also where it is not its turn within STALL_SECONDS, or the writer not
        ready: then it will not become true. One that was given up on its way may: the next waits for that. `party` as
        in `relay.turns`: None goes first.
        """
        async with self._in_turn(patient, party):
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
    async def _in_turn(self, patient: bool, party: str | None) -> AsyncIterator[None]:
        with trio.move_on_after(math.inf if patient else STALL_SECONDS) as waiting:
            await self._turns.acquire(party)
            try:
                if self._is_in_doubt:
                    await self._log.settle()
                    self._is_in_doubt = False
            except BaseException:
                self._turns.release()
                raise
        if waiting.cancelled_caught:
            raise LogStalledError("the disk does not answer; this was not decided")
        try:
            yield
        finally:
            self._turns.release()

    @property
    def of_several_machines(self) -> Log:
        """The log itself, where several machines have it: for who follows another machine with it, and leads."""
        assert isinstance(self._log, Log)
        return self._log

    # ------------------------------------------------------------------------------------------------ erasing

    async def erase_payloads(self, seqs: Collection[int], *, alone: bool = False) -> Sequence[ErasedSegment]:
        """Erase what is personal in these events from the disk: see `spool.interface.DurableLog.erase_payloads`.

        That it goes must be an event already (`payload.erased`), else the views are not what the log gives any more.

        Returned: no process of this relay reads them any more, either (`rewritten`). A call that was cancelled, or has
        raised, may have come too short of that; doing it again makes it so, whether there was anything left to erase.
        """
        self._recent.forget()
        erased = await self._log.erase_payloads(seqs, alone=alone)
        if seqs:
            for let_go in self.rewritten:
                await let_go()
        return erased

    async def remove_torn_copies(self, is_meant: Callable[[str, bytes], bool]) -> int:
        """Remove the copies of torn tails that are meant, by their names and bytes; how many there were. No reader
        keeps one open."""
        return await self._log.remove_torn_copies(is_meant)

    # ------------------------------------------------------------------------------------------------ how it is

    def clear_dead_readers(self) -> int:
        """As `spool.views.Views.clear_dead_readers`."""
        return self._views.clear_dead_readers()

    @property
    def poisoned(self) -> bool:
        """Nothing becomes true any more, and the relay is about to end."""
        return self._log.poisoned

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last decision was given up while the disk was at it: what it decided may become true yet. Whoever
        is told LogStalledError knows by this what has become of its own."""
        return self._is_in_doubt

    @property
    def sync_seconds_last(self) -> float:
        """How long the last batch took to become durable."""
        return self._log.sync_seconds_last

    @property
    def is_disk_good(self) -> bool:
        """Whether all that was asked of this machine's disk for the log was done."""
        return (
            not self._log.poisoned or self.has_given_up or (isinstance(self._log, Log) and self._log.deposed)
        )

    def statistics(self) -> LogStatistics:
        return self._log.statistics()

    def free_bytes(self) -> int:
        """What is left on the disk that holds the log."""
        return self._log.free_bytes()

    def log_bytes(self) -> int:
        """How large the log is, to within its headers and footers."""
        return self._log.size_bytes()


class CommonStore(Store):
    """Of a log that several machines have.

    Some of them may run an older version of the relay for a while. What they cannot read is written as they can, and
    is what it was written as from then on, in the views and for whoever has appended it.
    """

    #: Told by this machine's node. Asked at each append.
    not_read_by_all: Callable[[], Mapping[str, NotRead]] = staticmethod(dict)

    def __init__(
        self, log: DurableLog, views: Views[Recorded], surroundings: Surroundings, skeletons: Skeletons
    ) -> None:
        super().__init__(log, views, surroundings)
        #: Of what is to be folded.
        self.skeletons = skeletons

    def _remember(self, recorded: Sequence[Recorded]) -> None:
        """Nothing is delivered here while another machine leads."""
        if not self.of_several_machines.follows:
            super()._remember(recorded)

    async def append(self, events: Sequence[Event], *, patient: bool = True) -> list[Recorded]:
        """As `Store.append`. Raises Refusal(TEMPORARILY_UNAVAILABLE) where a node cannot read one of these events yet,
        and it cannot be said otherwise: then none is true."""
        not_read = self.not_read_by_all()
        if not not_read:
            return await super().append(events, patient=patient)
        entries = [self._entry_of(event, not_read.get(event.TYPE)) for event in events]
        return [decode(record) for record in await self._log.append(entries, patient=patient)]

    def _entry_of(self, event: Event, not_read: NotRead | None) -> Entry:
        if not_read is None:
            return encode(event, self._chance)
        try:
            return encode_as(event, not_read.version, self._chance)
        except UnsayableError:
            raise Refusal(
                "TEMPORARILY_UNAVAILABLE",
                f"{not_read.because}, which cannot read {event.TYPE} as it has to be written for this: upgrade that "
                "node, or wait until it is",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from None


@asynccontextmanager
async def open_store(directory: Path, config: Config, surroundings: Surroundings) -> AsyncIterator[Store]:
    """Recover the log below `directory`, bring the views up to it, and hold both until the block ends.

    Where the relay runs on several machines, the log follows another machine's until this one leads
    (`Store.of_several_machines`): until then, what appends raises LogFollowsError.

    Raises `spool` errors where the log cannot be trusted or another process holds it. If the log is poisoned while
    the block runs, the block is cancelled and the error raised; so it is where another machine takes the lead from this
    one (LogDeposedError).
    """
    skeletons = None if config.nodes is None else Skeletons()
    views = relay_views(directory / VIEWS_DIRECTORY, decode if skeletons is None else skeletons.decode)
    store: Store | None = None
    try:
        async with open_log(
            directory / LOG_DIRECTORY,
            witness=views.open,
            on_recovered=lambda log: views.catch_up(log.reader),
            on_durable=views.apply,
            index=views,
            disk=surroundings.disk,
            clock=surroundings.clock,
            new_salt=lambda: surroundings.dice.randbytes(SALT_BYTES),
            offload=surroundings.log_offload,
            segment_bytes_max=config.spool.segment_bytes,
            follows=config.nodes is not None,
        ) as log:
            if skeletons is None:
                store = Store(log, views, surroundings)
            else:
                store = CommonStore(log, views, surroundings, skeletons)
            if log.follows:
                store.found_at_start = _told_by_itself(log.recovery, views)
            else:
                await _report(store, log.recovery, views.rebuilt_because)
            yield store
    finally:
        # A disk that did not sync the log would fail here, too, and hide what has ended the relay.
        views.close(in_order=store is None or store.is_disk_good)


def torn_tail_cut(cut: Cut, *, loss_ruled_out: bool) -> TornTailCut:
    """The event that tells of it: of this start's, or of `log repair`'s."""
    return TornTailCut(segment=cut.file, offset=cut.offset, bytes_cut=cut.size, loss_ruled_out=loss_ruled_out)


async def _report(store: Store, recovery: RecoveryReport, rebuilt_because: str | None) -> None:
    """Put into the log what had to be done to open it."""
    events: list[Event] = []
    if recovery.cut is not None:
        logger.warning("log.torn_tail_cut", extra={"because": recovery.because, "copy": recovery.cut.kept})
        events.append(torn_tail_cut(recovery.cut, loss_ruled_out=recovery.loss_ruled_out))
    if rebuilt_because is not None and store.last_seq:
        events.append(ViewsRebuilt(because=rebuilt_because))
    if events:
        await store.append(events)


def _told_by_itself(recovery: RecoveryReport, views: Views[Recorded]) -> tuple[str, ...]:
    """What had to be done to open a log that several machines have. It is of this machine alone, so it does not go into
    the log, but into this machine's own words."""
    told = []
    if recovery.dropped is not None:
        dropped = recovery.dropped
        logger.warning("log.dropped", extra={"from_seq": dropped.seq, "bytes": dropped.size})
        told.append(f"the end of its log, from {dropped.seq} on, was not whole, and was fetched again")
    if views.rebuilt_because is not None and recovery.last_seq:
        logger.warning("log.views_rebuilt", extra={"because": views.rebuilt_because})
        # A node that is new, was filled or upgraded has nothing to explain.
        if not views.rebuilding_was_due:
            told.append(f"its views were built again: {views.rebuilt_because}")
    return tuple(told)
