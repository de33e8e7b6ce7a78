"""The tail: rows of the table that all nodes have on their disks go, the oldest first, on the order of who leads.

The invariant: **no row goes that a node may still need: one that was seen within `tail_hours` and has not synced it, or
one that was away for less than that.** Only whole parts of the table go, so a new part is begun each hour, and a row
goes up to an hour later than it might.

When a row was written, the table does not say, but the log does: this node has every record, with its time, and finds
by bisection the last one that is old enough.

The database is not ours alone, and its disk is somebody's: how much the tables need is looked at each time, and told
(`node.tail` in the log file, `Tail.octets`). What keeps rows from going is told as well, as a warning: a node that is
there and does not get on, or is the only one. So are its servers, which no commit looks at so closely: what each says
that is doubtful (`spool.replicated.doubts`) is asked for each time, and told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import trio

from relay.nodes.facts import Facts, StrangeRow, may_go_through, read_rows
from relay.store import Store
from relay.times import HOUR_US
from spool.errors import SpoolError
from spool.replicated.table import Keeping, Table, TableError, connected

logger = logging.getLogger(__name__)

PERIOD_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 60.0
#: Who has just begun to lead has other things to do.
FIRST_SECONDS: Final = 60.0
#: Of the sentences about what keeps rows from going, and of those about servers.
_TOLD_MAX: Final = 5


def aged_through(first_seq: int, last_seq: int, until_us: int, time_of: Callable[[int], int]) -> int:
    """The last sequence number from `first_seq` to `last_seq` whose record is not younger than that; the one before
    `first_seq` where there is none. Times never go back."""
    low, high = first_seq - 1, last_seq
    while low < high:
        middle = (low + high + 1) // 2
        if time_of(middle) <= until_us:
            low = middle
        else:
            high = middle - 1
    return low


class WhatMayGo(NamedTuple):
    through: int
    """Rows up to here may go; 0: none may."""
    held_by: list[str]
    """Why rows that are old enough stay, in sentences."""


def what_may_go(
    nodes: Iterable[Facts | StrangeRow], aged_seq: int, now_us: int, tail_hours: int
) -> WhatMayGo:
    """`aged_seq`: rows up to this one are older than `tail_hours`."""
    nodes = list(nodes)
    synced = may_go_through(nodes, now_us, tail_hours)
    if synced >= aged_seq:
        return WhatMayGo(aged_seq, [])
    held_by = []
    seen = 0
    for node in nodes:
        if isinstance(node, StrangeRow):
            held_by.append(f"node {node.name}: {node.sentence}")
        elif node.written_at >= now_us - tail_hours * HOUR_US:
            seen += 1
            if node.synced_seq < aged_seq:
                held_by.append(f"node {node.name} has them up to sequence {node.synced_seq} on its disk")
    if seen < 2:
        held_by.append(
            f"{seen} of the nodes were seen in {tail_hours} hours, and two at least must have them"
        )
    return WhatMayGo(synced, held_by)


class Tail:
    """The task of who leads. `run` it while it does."""

    def __init__(self, table: Table, store: Store, *, tail_hours: Callable[[], int]) -> None:
        self._table = table
        self._store = store
        self._tail_hours = tail_hours
        self._part_begun_at: float | None = None
        #: What the tables need on the database's disk; None: not known yet.
        self.octets: int | None = None
        #: How many parts have gone, since this node leads.
        self.parts_dropped = 0
        #: Why rows that are old enough stay, in sentences.
        self.held_by: list[str] = []
        #: What is doubtful about the database's servers, in sentences; None: not known yet.
        self.doubts: list[str] | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """For ever. A database that cannot be used, or is too busy, is tried again a little later."""
        task_status.started()
        await trio.sleep(FIRST_SECONDS)
        while True:
            seconds = PERIOD_SECONDS
            try:
                await self.look_after()
            except (TableError, SpoolError) as error:
                logger.warning("node.tail_not_kept", extra={"because": str(error)})
                seconds = RETRY_SECONDS
            await trio.sleep(seconds)

    async def look_after(self) -> None:
        """Begin a part where it is time, and let go of what may go. Raises TableError, and errors of `spool` where a
        record cannot be read."""
        async with connected(self._table) as connection:
            nodes = read_rows(await connection.nodes())
            oldest = await connection.oldest_seq()
        keeping = await self._table.keep()
        try:
            await self._begin_part(keeping)
            await self._let_go(keeping, nodes, oldest)
            self.octets = await keeping.octets()
        finally:
            with trio.CancelScope(shield=True):
                await keeping.close()
        logger.info("node.tail", extra={"octets": self.octets, "oldest_seq": oldest})
        self.doubts = [*await self._table.find_doubts()]
        for doubt in self.doubts[:_TOLD_MAX]:
            logger.warning("node.server_doubtful", extra={"because": doubt})

    async def _begin_part(self, keeping: Keeping) -> None:
        now = trio.current_time()
        # A look that failed half way comes again in a minute, and one part an hour is enough.
        if self._part_begun_at is None or now - self._part_begun_at >= PERIOD_SECONDS / 2:
            await keeping.begin_part()
            self._part_begun_at = now

    async def _let_go(
        self, keeping: Keeping, nodes: Iterable[Facts | StrangeRow], oldest: int | None
    ) -> None:
        now_us, tail_hours = self._store.now_us(), self._tail_hours()
        first = max(self._store.first_seq(), oldest or 1)
        until_us = now_us - tail_hours * HOUR_US
        aged = aged_through(
            first, self._store.last_seq, until_us, lambda seq: self._store.record(seq).time_us
        )
        self.held_by = []
        if oldest is None or aged < oldest:
            return
        through, self.held_by = what_may_go(nodes, aged, now_us, tail_hours)
        if self.held_by:
            logger.warning(
                "node.tail_held", extra={"rows_until": aged, "because": "; ".join(self.held_by[:_TOLD_MAX])}
            )
        if through >= oldest:
            parts = await keeping.drop_through(through)
            self.parts_dropped += parts
            logger.info("node.tail_dropped", extra={"through": through, "parts": parts})
