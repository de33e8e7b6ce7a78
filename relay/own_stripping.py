"""Stripping where several machines have the log: each removes payloads from its own files, and knows how far it is.

The invariant: **what a machine says it has stripped is gone from its own files, and nothing has gone that no
`payload.erased` names.** The order is an event, which all machines have. That it was carried out is true of each
machine by itself, so it is no event but a progress beside the log (`spool.stripped`). `log.stripped` says that the
machine that led has carried it out. For all others it is the moment to begin: by then the leader has written all that
belongs to this order, so a file is rewritten once for it, and not once for each event.

`catch_up` carries out all that is owed, and returns when nothing is. Whoever was away, or whose log came from
elsewhere, calls it before it serves: a log from elsewhere has no progress, so it is looked through from its beginning.

Of what a crash may leave: a file is rewritten whole or not at all, the progress is written after the files, and a
second time changes nothing.

Copies of torn tails are of one machine alone, and no event names what is in them. They go by their age; and all of them
go with each order to erase that a person has given, since only who gave it knows what to look for in them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import trio

from relay.alarm import Alarm
from relay.codec import Recorded, decode
from relay.events import LogStripped, PayloadErased
from relay.store import Store
from relay.times import DAY_US, HOUR_US
from relay.views import retention
from spool.errors import SpoolError
from spool.interface import ErasedSegment

logger = logging.getLogger(__name__)

#: `payload.erased` events that are carried out together, so that what must be known of them fits into memory.
EVENTS_PER_ROUND: Final = 1250


class Done(NamedTuple):
    """What a call has done to this machine's files."""

    segments: Sequence[ErasedSegment]
    torn_copies: int
    last_payload_seq: int
    """The last record whose payload was to go; 0: there was none."""


class OwnStripping:
    """Of one machine. `erasing` is held by whoever removes payloads: one at a time does."""

    def __init__(
        self,
        store: Store,
        *,
        erasing: trio.Lock,
        retention_days: Callable[[], int],
        offload: Callable[..., Awaitable[Any]],
    ) -> None:
        self._store = store
        self._log = store.of_several_machines
        self._erasing = erasing
        self._retention_days = retention_days
        self._offload = offload
        self._alarm = Alarm(store.now_us)
        through = self._log.stripped_through
        #: Before this one nothing is owed. None: nothing is owed at all.
        self._first: int | None = through + 1 if through < store.last_seq else None
        #: The last `payload.erased` that was seen since the start.
        self._last_erased = 0
        #: Nobody is served: it pauses for nobody, whoever calls it.
        self.alone = False
        #: Why it cannot go on, in a sentence.
        self.trouble: str | None = None
        store.observers.append(self._observe)

    @property
    def through(self) -> int:
        """All `payload.erased` up to this sequence number have been carried out in this machine's files."""
        return self._store.last_seq if self._first is None else self._first - 1

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if isinstance(item.event, PayloadErased):
                self._last_erased = item.seq
                if self._first is None:
                    self._first = item.seq
            elif isinstance(item.event, LogStripped):
                self._alarm.ring()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what is owed when the node that leads has done so, and each hour what that one has not come to.
        A failure of the disk is reported, and tried again. For ever."""
        task_status.started()
        while True:
            try:
                async with self._erasing:
                    await self.catch_up()
                    await self._remove_old_torn_copies()
                self.trouble = None
            except OSError as error:
                self._cannot(error.strerror or type(error).__name__)
            except SpoolError as error:
                if self._store.poisoned:
                    raise
                self._cannot(str(error))
            await self._alarm.wait(self._store.now_us() + HOUR_US)

    def _cannot(self, because: str) -> None:
        self.trouble = f"personal data that were erased cannot be removed from its files: {because}"
        logger.error("node.not_stripped", extra={"because": because})

    async def catch_up(self) -> Done:
        """Carry out all that is owed now. The caller holds `erasing`.

        Raises what `Store.erase_payloads` raises, and OSError. Cancelled, or where it raises, some is done; call it
        again.
        """
        segments: list[ErasedSegment] = []
        copies = last_payload_seq = 0
        while self._first is not None:
            last = self._store.last_seq
            found, looked = await self._offload(self._find, self._first, last)
            seqs: set[int] = set()
            for seq, erased in found:
                with self._store.read() as view:
                    seqs |= retention.payloads_of(view, seq, erased)
                await trio.lowlevel.checkpoint()
            kept_from = self._store.first_seq()
            seqs = {seq for seq in seqs if seq >= kept_from}
            last_payload_seq = max((last_payload_seq, *seqs))
            segments += await self._store.erase_payloads(seqs, alone=self.alone)
            if any(erased.because == "operator" for _, erased in found):
                copies += await self._store.remove_torn_copies(lambda _name, _data: True)
            await self._log.note_stripped(looked)
            self._first = looked + 1 if looked < last or self._last_erased > looked else None
        if self.through > self._log.stripped_through:
            await self._log.note_stripped(self.through)
        payloads = sum(segment.payloads for segment in segments)
        if payloads or copies:
            logger.info("node.stripped", extra={"through": self.through, "payloads": payloads})
        return Done(segments, copies, last_payload_seq)

    def _find(self, first: int, last: int) -> tuple[list[tuple[int, PayloadErased]], int]:
        """The next of them, and up to where was looked. In another thread."""
        mark = PayloadErased.TYPE.encode()
        records = self._store.records(max(first, self._store.first_seq()), last)
        found = list(islice((record for record in records if mark in record.skeleton), EVENTS_PER_ROUND))
        looked = found[-1].seq if len(found) == EVENTS_PER_ROUND else last
        events = ((record.seq, decode(record).event) for record in found)
        return [(seq, event) for seq, event in events if isinstance(event, PayloadErased)], looked

    async def _remove_old_torn_copies(self) -> None:
        until_us = max(0, self._store.now_us() - self._retention_days() * DAY_US)
        with self._store.read() as view:
            stems = tuple(retention.torn_until(view, until_us))
        if stems:
            await self._store.remove_torn_copies(lambda name, _data: name.startswith(stems))
