"""Long answers are made in short steps, and everybody who makes one takes turns: `relay.heavy_work`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from relay.edge import Edge
from spool.views import Snapshot

Row = TypeVar("Row")
Shown = TypeVar("Shown")

#: Rows of a list that are read in one step.
ROWS_AT_A_TIME = 50
#: Rows for each of which the log is read, in one step.
SHOWN_AT_A_TIME = 8


async def rows_of(
    edge: Edge,
    did: str,
    scan: Callable[[Snapshot, int | None], Iterator[Row]],
    number_of: Callable[[Row], int],
    before: int | None,
    count: int,
) -> list[Row]:
    """The next rows of a list that is read from its newest: `scan` gives those before a number, and `number_of` says
    which that is for a row. Each step looks at the views as they are then."""

    def some_before(before: int | None, count: int) -> list[Row]:
        with edge.store.read() as view:
            return list(islice(scan(view, before), count))

    rows: list[Row] = []
    while len(rows) < count:
        some = await edge.heavy_work.step(did, some_before, before, min(ROWS_AT_A_TIME, count - len(rows)))
        if not some:
            break
        rows += some
        before = number_of(some[-1])
    return rows


async def shown(edge: Edge, did: str, rows: Sequence[Row], show: Callable[[Row], Shown]) -> list[Shown]:
    """What is answered for each row, where that is read from the log."""

    def some_shown(some: Sequence[Row]) -> list[Shown]:
        return [show(row) for row in some]

    found: list[Shown] = []
    for begin in range(0, len(rows), SHOWN_AT_A_TIME):
        found += await edge.heavy_work.step(did, some_shown, rows[begin : begin + SHOWN_AT_A_TIME])
    return found
