"""What a log is to those who use it, whatever makes it durable.

The invariant: **nothing here says how.** There are records with sequence numbers, some of them with payloads that may
be erased, and the promises of `append`. Where a record stands, and on which machines, is known to the log alone. So
another form of it, one that several machines agree on, can stand behind the same code.

`spool.log.Log` is the form that is durable on one machine's disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from spool.record import Entry, Record
from spool.repair import RecoveryReport

STALL_SECONDS: Final = 2.0
"""How long a batch may take before the appends that are not patient are told so."""

Progress = Callable[[str, int, int], None]
"""Told by what takes long: what is being done, how much of it is done, and how much there is."""


class LogStatistics(NamedTuple):
    """Since the log was opened."""

    batches: int
    records: int
    bytes: int
    sync_seconds_total: float
    queue_length: int
    """Appends that wait for the batch in progress to end."""
    poisoned: bool


class ErasedSegment(NamedTuple):
    """A file of this machine that payloads were to be erased from."""

    file: str
    payloads: int
    """How many were erased now; 0: they had gone before."""
    bytes_freed: int


class DurableLog(Protocol):
    """A log that is open for writing. It belongs to one task's thread, but for what says otherwise."""

    @property
    def recovery(self) -> RecoveryReport:
        """What was found and done to this machine's files when the log was opened."""

    @property
    def last_seq(self) -> int:
        """The last durable sequence number; 0 if there is none."""

    @property
    def last_time_us(self) -> int:
        """The time of the last durable record; 0 if there is none."""

    @property
    def poisoned(self) -> bool:
        """Nothing is acknowledged any more: something could not be made durable, and this process is to end."""

    @property
    def deposed(self) -> bool:
        """It is `poisoned` because another machine appends now. Nothing is wrong with this machine's files."""

    async def append(self, entries: Sequence[Entry], *, patient: bool = True) -> Sequence[Record]:
        """Append all of the entries, in one batch: after a crash all of them are there, or none.

        Returned: they are durable. Cancelled: they are not written. From the moment that the writer has taken them the
        call can no longer be cancelled, and waits for the answer.

        `LogClosedError`: they are not written. `LogPoisonedError`: they are not acknowledged; if the writer had taken
        them already, the next start may find them, whole. `ValueError`: there are none, or too many to be one batch.
        `LogStalledError`, only where not `patient`: no answer has come for STALL_SECONDS, and the entries may become
        durable yet. `LogFollowsError`: they are not written, since another machine appends. `LogDeposedError`: they are
        not written, and another machine has begun to append.
        """

    async def settle(self) -> None:
        """Wait until what is being written at this moment is durable, or given up by those who wanted it and nowhere.

        `LogPoisonedError`: it may be either. `LogDeposedError`: it is nowhere.
        """

    def first_seq(self) -> int:
        """The first sequence number that is kept; 1 where there is none yet."""

    def get(self, seq: int) -> Record:
        """The record with this sequence number.

        Raises `SequenceNotFoundError` if there is none yet, `CorruptionError` if it is there and cannot be read.
        """

    def read(self, from_seq: int, to_seq: int | None = None) -> Iterator[Record]:
        """The records from `from_seq` to `to_seq`, or to the last durable one; both inclusive.

        Raises `CorruptionError` when it comes to damage, after everything before it has been handed out. Each iterator
        has a file of its own, so it may be used in any one thread. What is erased meanwhile it may still hand out.
        """

    def follow(self, from_seq: int) -> AsyncGenerator[Record, None]:
        """Every durable record from `from_seq` on, in order, without gaps; waits for new ones.

        They are read from disk at the pace of whoever iterates; nothing is held for a slow one. Ends after the last
        record when the log is closed; raises `LogPoisonedError` (or `LogDeposedError`) after the last durable one when
        it is poisoned. Wrap it in `contextlib.aclosing`, so that its file is closed when you leave.
        """

    async def rotate(self) -> int:
        """Begin a new segment, and return its first sequence number: all records before it are in sealed ones, durably.

        Where the open segment has no record yet, that is so already. Raises `LogClosedError`, `LogPoisonedError`,
        `LogDeposedError` and `LogFollowsError`.
        """

    async def erase_payloads(self, seqs: Collection[int], *, alone: bool = False) -> Sequence[ErasedSegment]:
        """Erase the payloads of these records from this machine's files, and say what has become of each file.

        It pauses now and then for whoever else works in this process, unless it is `alone`.

        Returned: they are gone, and no crash brings them back; everything else of the records is as it was. Doing it
        again changes nothing. Appends and reads go on meanwhile. Cancelled, or where it raises, some are gone and some
        are not: do it again. One call at a time.

        Raises `OSError` where the disk is full or fails, `CorruptionError` where a segment is damaged, and what
        `rotate` raises.
        """

    async def remove_torn_copies(self, is_meant: Callable[[str, bytes], bool]) -> int:
        """Remove those copies of torn tails that are meant, by their names and bytes; how many there were.

        A torn tail is what a crash had left half written: never acknowledged, cut at the next start, and kept as a copy
        until somebody says so. Raises `OSError`.
        """

    def statistics(self) -> LogStatistics:
        """It looks at all that waits, so it is for whoever asks now and then."""

    @property
    def sync_seconds_last(self) -> float:
        """How long the last batch took to become durable."""

    def size_bytes(self) -> int:
        """How large the log's files are, to within their headers and footers."""

    def free_bytes(self) -> int:
        """What is left to write for us where the files are."""
