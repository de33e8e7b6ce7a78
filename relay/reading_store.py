"""The views and the log of a running relay, read by another of its processes for as long as that lives.

The invariant: **who reads here sees all that was acknowledged, and nothing that was not.** What the core's `append`
has returned stands in its views, and a snapshot that is begun afterwards shows it; and the views say how far the log
may be read: what stands behind that is not durable yet, or not known to be.

A record is looked for where the index says, in files that are kept open. When a segment is rewritten, because payloads
were erased, the old file still has them for whoever has it open. So the core asks all its processes to let go of their
files (`let_go`), and an erasure is done when all have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from relay.codec import Recorded, decode
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.views import open_relay_views_to_read
from spool.clock import wall_clock_us
from spool.reader import LogReader
from spool.views import ReadingViews, Snapshot


class ReadingStore:
    """Made by `open_reading_store`. What `relay.data_directory.LogToRead` asks for; it belongs to one thread."""

    def __init__(self, directory: Path, views: ReadingViews, clock: Callable[[], int]) -> None:
        self._views = views
        self._clock = clock
        #: How far the views were known to have come. They never go back.
        self._seen = 0
        #: The last record that was looked at for its time, and that.
        self._timed_seq = 0
        self._time_us = 0
        self._reader = LogReader(directory, locate=views.locate, limit=lambda: self._seen)

    def now_us(self) -> int:
        """The time to decide by: never before what the log already holds, even if the clock was set back."""
        last_seq = self.last_seq
        if last_seq > self._timed_seq:
            self._time_us = self._reader.get(last_seq).time_us
            self._timed_seq = last_seq
        return max(self._clock(), self._time_us)

    def read(self) -> AbstractContextManager[Snapshot]:
        """The views at this moment; never keep it across an `await`. Raises ReadersFullError."""
        return self._views.read()

    @property
    def last_seq(self) -> int:
        """Of the last event that the views have seen; 0 if there is none."""
        self._seen = self._views.position
        return self._seen

    def first_seq(self) -> int:
        """Of the first event that is kept; 1 where there is none yet."""
        return self._reader.first_seq()

    def get(self, seq: int) -> Recorded:
        """The event with this sequence number, from the log. Raises LookupError."""
        if seq > self._seen:
            self._seen = self._views.position
        return decode(self._reader.get(seq))

    def let_go(self) -> None:
        """Close the files of the log. After this nothing that was erased before is found here any more."""
        self._reader.close()

    @property
    def is_replaced(self) -> bool:
        """Whether a relay that was started since has thrown these views away: nothing new will ever be seen here."""
        return self._views.are_replaced


@contextmanager
def open_reading_store(directory: Path, clock: Callable[[], int] = wall_clock_us) -> Iterator[ReadingStore]:
    """The views and the log of a data directory that another process serves.

    Raises what `spool.views.open_reading_views` raises: where `lock.mdb` cannot be written, nothing is read.
    """
    with open_relay_views_to_read(directory / VIEWS_DIRECTORY) as views:
        store = ReadingStore(directory / LOG_DIRECTORY, views, clock)
        try:
            yield store
        finally:
            store.let_go()
