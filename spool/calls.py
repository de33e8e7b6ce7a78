"""The calls of `append`: those that wait their turn, and those whose batch is being made durable.

The invariant: **each call is answered once, and from the moment that it is taken only by the writer.** Until then it
may be cancelled, and is then not written. Cancelled after that it waits on: nobody can know yet what will become of
it. Only when its batch is known to be nowhere is it let go (`drop_given_up`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import outcome
import trio

from spool.errors import LogStalledError
from spool.record import Entry, Record


class Append:
    """One call of `append`, made in the task that is going to wait for its answer."""

    __slots__ = ("entries", "patient", "raise_cancel", "size", "stalled", "taken", "task")

    def __init__(self, entries: Sequence[Entry], size: int, patient: bool) -> None:
        self.entries = entries
        self.size = size
        self.patient = patient
        #: None: nobody waits any more. It was answered, or cancelled in time.
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.taken = False
        #: What it was told when it did not want to wait any longer.
        self.stalled: LogStalledError | None = None
        #: Cancelled too late.
        self.raise_cancel: Callable[[], Any] | None = None

    def abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        if self.taken:
            self.raise_cancel = raise_cancel
            return trio.lowlevel.Abort.FAILED
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def answer(self, result: outcome.Outcome[Sequence[Record]]) -> None:
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, result)


class Calls:
    """The queue has no bound of its own, because each place in it is a caller that waits with its entries in its hands
    anyway. Whoever makes callers bounds them.
    """

    def __init__(self, *, batch_records_max: int, batch_bytes_max: int) -> None:
        self._batch_records_max = batch_records_max
        self._batch_bytes_max = batch_bytes_max
        #: An append joins others only where all together are no larger.
        self.batch_bytes_wanted = batch_bytes_max
        #: Who has come since the writer took the last ones. Whoever joins then waits to be rescheduled, with the call's
        #: `abort`. Who is cancelled stays here until the writer looks.
        self.queue: deque[Append] = deque()
        #: Taken by the writer, in the order of their records.
        self.taken: list[Append] = []

    def waiting(self) -> int:
        return sum(append.task is not None for append in self.queue)

    def take(self) -> bool:
        """Take from the queue what makes one batch. False: there is nothing to be done."""
        room, records_room = self._batch_bytes_max, self._batch_records_max
        room_left = room - self.batch_bytes_wanted
        while self.queue:
            append = self.queue[0]
            if append.task is not None:
                room -= append.size
                records_room -= len(append.entries)
                if room < 0 or records_room < 0 or (room < room_left and self.taken):
                    break
                append.taken = True
                self.taken.append(append)
            self.queue.popleft()
        return bool(self.taken)

    def release(self, records: Sequence[Record]) -> None:
        """These are the records of all that were taken, and they are durable."""
        appends, self.taken = self.taken, []
        start = 0
        for append in appends:
            end = start + len(append.entries)
            append.answer(outcome.Value(records[start:end]))
            start = end

    def refuse_the_impatient(self) -> None:
        """Answer those of the taken that do not want to wait any longer. What they want may become durable yet."""
        for append in self.taken:
            if not append.patient:
                append.stalled = LogStalledError("the disk does not answer; this may become durable yet")
                append.answer(outcome.Error(append.stalled))

    def drop_given_up(self) -> None:
        """What was taken is nowhere, and has to be done again: leave out what nobody waits for any more. Whoever was
        cancelled meanwhile is let go, and whoever was told LogStalledError hears of it."""
        for append in self.taken:
            if append.raise_cancel is not None and append.task is not None:
                append.answer(outcome.capture(append.raise_cancel))
        appends, self.taken = self.taken, [append for append in self.taken if append.task is not None]
        for append in appends:
            if append.stalled is not None:
                append.stalled.tell_absent()

    def fail(self, error: Callable[[], Exception]) -> None:
        """Answer everybody."""
        appends = [*self.taken, *self.queue]
        self.taken = []
        self.queue.clear()
        for append in appends:
            append.answer(outcome.Error(error()))
