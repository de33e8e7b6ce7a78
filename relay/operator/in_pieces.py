"""A whole table, read a piece at a time: there may be ten thousand members, and nobody else should wait for them all.

What is told is put together from several looks: each row is as it stood when it was read, and one that was made
meanwhile may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, TypeVar

from relay.data_directory import Readable
from spool.views import Snapshot

#: Some 10 µs each.
ROWS_OF_A_PIECE: Final = 100

Row = TypeVar("Row")
#: The rows of a table from behind a key on, each with its key.
RowsAfter = Callable[[Snapshot, bytes], Iterator[tuple[bytes, Row]]]


async def all_rows(core: Readable, rows_after: RowsAfter[Row]) -> list[Row]:
    """All rows, in the order of their keys."""
    found: list[Row] = []
    after = b""
    while True:
        with core.store.read() as view:
            piece = list(islice(rows_after(view, after), ROWS_OF_A_PIECE))
        found += [row for _, row in piece]
        if len(piece) < ROWS_OF_A_PIECE:
            return found
        after = piece[-1][0]
        await core.pause()
