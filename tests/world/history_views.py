"""A history as a log would hold it, and the views folded from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from relay.codec import Recorded, encode
from relay.events import Event
from relay.views import relay_views
from spool.record import Record
from spool.views import Snapshot, Views

START_US = 1_764_000_000_000_000
SECOND_US = 1_000_000
History = list[Event]


def records_of(history: History, *, step_us: int = 1) -> list[Record]:
    """As a log would hold them, so long after each other. Only what views look at is filled in."""
    return [
        Record(
            seq,
            START_US + seq * step_us,
            seq,
            True,
            *encode(event),
            bytes(32),
            seq.to_bytes(32),
            False,
            1,
            seq,
        )
        for seq, event in enumerate(history, 1)
    ]


class LogOf:
    """What views ask of a log's reader."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def read(self, first: int, until: int | None = None) -> Iterator[Record]:
        return iter(self.records[first - 1 : until])

    def runs(self, first: int, until: int | None = None) -> Iterator[Sequence[Record]]:
        return (run for run in [self.records[first - 1 : until]] if run)

    def get(self, seq: int) -> Record:
        return self.records[seq - 1]

    def misplaced(self, *arguments: object) -> Iterator[tuple[int, int]]:
        """Its segments are never rewritten."""
        return iter(())


@contextmanager
def opened(directory: Path) -> Iterator[Views[Recorded]]:
    views = relay_views(directory)
    views.open()
    try:
        yield views
    finally:
        views.close()


@contextmanager
def fold(history: History, *, step_us: int = 1) -> Iterator[Snapshot]:
    """The views of a whole history."""
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as views:
        views.apply(records_of(history, step_us=step_us))
        with views.read() as view:
            yield view
