"""The database keeps what nodes may still have to fetch, and no more: old rows go, by whoever leads.

The invariant: **no row goes that a node needs which was there lately, nor one that is younger than `tail_hours`.** What
goes is on the disks of two nodes at least (`relay.nodes.facts.may_go_through`). Whoever was away for longer is filled
from another node.

Rows go by whole parts of the table, which gives their place back at once. A new part begins when a node takes the lead,
and every PART_SECONDS. So rows stay for somewhat longer than they must.

Nothing hangs on any of this being done in time: where the database does not answer, or others are busy with the table,
the next round does it.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Final

import trio

from relay.nodes.facts import may_go_through, read_rows
from relay.store import Store
from relay.times import HOUR_US
from spool.replicated.table import Table, TableError

logger = logging.getLogger(__name__)

ROUND_SECONDS: Final = 600.0
PART_SECONDS: Final = 3600.0


async def keep_tail(
    table: Table,
    store: Store,
    *,
    nodes: Callable[[], Mapping[str, Mapping[str, object]]],
    tail_hours: Callable[[], int],
) -> None:
    """Until cancelled. `nodes`: the rows of all nodes, as they were read last."""
    begun_at = float("-inf")
    while True:
        begins = trio.current_time() >= begun_at + PART_SECONDS
        try:
            gone = await _keep(table, _goes_through(store, nodes(), tail_hours()), begins=begins)
        except TableError as error:
            logger.info("node.tail_not_kept", extra={"because": str(error)})
        else:
            if begins:
                begun_at = trio.current_time()
            if gone:
                logger.info("node.rows_dropped", extra={"parts": gone})
        await trio.sleep(ROUND_SECONDS)


async def _keep(table: Table, through: int, *, begins: bool) -> int:
    """How many parts have gone."""
    keeping = await table.keep()
    try:
        if begins:
            await keeping.begin_part()
        return await keeping.drop_through(through) if through else 0
    finally:
        with trio.CancelScope(shield=True):
            await keeping.close()


def _goes_through(store: Store, rows: Mapping[str, Mapping[str, object]], tail_hours: int) -> int:
    """The last sequence number that nobody needs any more; 0: there is none."""
    now_us = store.now_us()
    through = may_go_through(read_rows(rows), now_us, tail_hours)
    if not through:
        return 0
    kept = range(store.first_seq(), store.last_seq + 1)
    young = kept.start + bisect_left(
        kept, now_us - tail_hours * HOUR_US, key=lambda seq: store.record(seq).time_us
    )
    return min(through, young - 1)
