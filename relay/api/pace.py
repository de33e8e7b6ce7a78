"""Work that goes on for long lets others work in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

import trio

from relay.data_directory import LogToRead
from spool.views import Snapshot

Row = TypeVar("Row")

#: Nobody works longer than this without a pause (SPEC 13).
WORK_SECONDS_MAX = 0.001


#: Rows of a list that are read at a time: less than that takes.
ROWS_AT_A_TIME = 50


class Pace:
    """One for each answer that takes many steps; `await pace.step()` behind each of them."""

    def __init__(self) -> None:
        self._since = trio.current_time()

    async def step(self) -> None:
        if trio.current_time() - self._since >= WORK_SECONDS_MAX:
            await trio.lowlevel.checkpoint()
            self._since = trio.current_time()


async def rows_of(
    store: LogToRead,
    scan: Callable[[Snapshot, int | None], Iterator[Row]],
    number_of: Callable[[Row], int],
    before: int | None,
    count: int,
) -> list[Row]:
    """The next rows of a list that is read from its newest: `scan` gives those before a number, and `number_of` says
    which that is for a row. Each step looks at the views as they are then."""
    rows: list[Row] = []
    while len(rows) < count:
        with store.read() as view:
            some = list(islice(scan(view, before), min(ROWS_AT_A_TIME, count - len(rows))))
        if not some:
            break
        rows += some
        before = number_of(some[-1])
        await trio.lowlevel.checkpoint()
    return rows
