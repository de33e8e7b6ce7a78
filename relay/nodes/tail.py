"""The table's old rows go: every node has them on its own disk, and who was away for so long is filled from another.

The invariant: **a row goes only when it is on the disks of all nodes that have said something within `tail_hours`, and
of two at least, and is itself older than that.** What the nodes say of themselves is believed here; a row that cannot
be read keeps everything (`relay.nodes.facts`).

Rows go by whole parts of the table, and a part is begun once an hour. It is a chore of the node that leads. Whatever of
it fails is done the next minute; killed in between, nothing is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import trio

from relay.nodes.facts import may_go_through, read_rows
from relay.store import Store
from relay.times import HOUR_US
from spool.replicated.table import Keeping, Table, TableError

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
PART_SECONDS: Final = 3600.0


class Tail:
    """`nodes`: the rows of all nodes, as they were read last. `tail_hours` as it is in force."""

    def __init__(
        self,
        table: Table,
        store: Store,
        *,
        nodes: Callable[[], Mapping[str, Mapping[str, object]]],
        tail_hours: Callable[[], int],
    ) -> None:
        self._table = table
        self._store = store
        self._nodes = nodes
        self._tail_hours = tail_hours
        self._part_at = 0.0
        self._dropped_through = 0
        #: What the tables need on the server's disk, as it was seen last; None: not yet.
        self.octets: int | None = None

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            # Who has just begun to lead has other things to do.
            await trio.sleep(LOOK_SECONDS)
            try:
                keeping = await self._table.keep()
                try:
                    await self._look(keeping)
                finally:
                    with trio.CancelScope(shield=True):
                        await keeping.close()
            except TableError as error:
                logger.info("node.tail_not_kept", extra={"because": str(error)})

    async def _look(self, keeping: Keeping) -> None:
        now = trio.current_time()
        if now >= self._part_at:
            await keeping.begin_part()
            self._part_at = now + PART_SECONDS
        through = self.may_go_through()
        if through > self._dropped_through:
            parts = await keeping.drop_through(through)
            self._dropped_through = through
            if parts:
                logger.info("node.tail_dropped", extra={"parts": parts, "through": through})
        self.octets = await keeping.octets()

    def may_go_through(self) -> int:
        """0: none may go."""
        hours, now_us = self._tail_hours(), self._store.now_us()
        through = may_go_through(read_rows(self._nodes()), now_us, hours)
        return min(through, self._last_before(now_us - hours * HOUR_US)) if through else 0

    def _last_before(self, time_us: int) -> int:
        """The last record of the log that is older; 0: none. Their times never go back."""
        older, newer = self._store.first_seq() - 1, self._store.last_seq + 1
        while newer - older > 1:
            middle = (older + newer) // 2
            if self._store.record(middle).time_us < time_us:
                older = middle
            else:
                newer = middle
        return older
