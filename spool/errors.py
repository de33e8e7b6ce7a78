"""What can go wrong in the log, by whose fault it is and what is left to do about it.

The invariant: ***absent* and *unreadable* are different answers.** A sequence that was never written is a
`SequenceNotFoundError`, one that was written and cannot be read back is a `CorruptionError`. Nothing in
`spool` turns one into the other.
"""

from __future__ import annotations

from collections.abc import Callable


class SpoolError(Exception):
    """Anything the log refuses or fails to do."""


class CorruptionError(SpoolError):
    """Bytes that had been acknowledged are not what was written. Nothing has been changed on disk."""

    def __init__(self, *, file: str, offset: int, seq: int, part: str, problem: str) -> None:
        super().__init__(f"segment {file} offset {offset} sequence {seq}: {problem}")
        self.file = file
        self.offset = offset
        self.seq = seq
        self.part = part
        self.problem = problem


class SequenceNotFoundError(SpoolError, LookupError):
    """No record with this sequence number has been written yet."""


class ReadersFullError(SpoolError):
    """The views cannot be read now, because too many processes read them. Nothing is damaged, and nothing is lost."""

    def __init__(self) -> None:
        super().__init__(
            "LMDB's table of readers is full: other processes hold all places in it. Nothing is damaged. End some of "
            "those that read this directory's views; places of processes that were killed are free within a minute"
        )


class ViewsNotReadableError(SpoolError):
    """There are views, and they must not be read: made by other code, damaged, or being replaced. None of it is lost:
    all that is in them is in the log."""


class LockedError(SpoolError):
    """Another process has this log open for writing: not always a relay."""

    def __init__(self, directory: str, holder: str) -> None:
        super().__init__(
            f"another process (a relay, or a command such as log erase) holds {directory} (pid {holder})"
        )


class LogClosedError(SpoolError):
    """The log has been closed; this append was not written."""


class LogStalledError(SpoolError):
    """The disk did not answer for as long as this append was willing to wait.

    It may become durable yet, whole: whoever asked does not know, and has to say so. What is held for it meanwhile is
    let go when it is durable, or else by `when_absent`.
    """

    def __init__(self, message: str = "the disk does not answer") -> None:
        super().__init__(message)
        self._is_absent = False
        self._when_absent: list[Callable[[], None]] = []

    def when_absent(self, call: Callable[[], None]) -> None:
        """Call it when the log knows that this append is nowhere, and never will be; at once, where it knows already.
        A log that is one machine's alone never does: there it becomes durable, or the process ends."""
        if self._is_absent:
            call()
        else:
            self._when_absent.append(call)

    def tell_absent(self) -> None:
        """For the log."""
        self._is_absent = True
        calls, self._when_absent = self._when_absent, []
        for call in calls:
            call()


class LogPoisonedError(SpoolError):
    """A write could not be made durable, so this process acknowledges nothing any more.

    Whether the append that got this error is in the log is decided by recovery at the next start: it is there
    whole or not at all.
    """


class LogFollowsError(SpoolError):
    """This machine's log follows another's: nothing is appended here, and nothing was written.

    Also where a log that several machines have is opened as if it were this one's alone: what is not whole at its end
    may have been acknowledged, and must not be cut for a torn tail. Nothing was changed.
    """


class LogDeposedError(LogPoisonedError):
    """Another machine appends now, and this one may not any more. What had been acknowledged is there; this append is
    not. This process ends as it does of a poisoned log, but nothing is wrong with its disk."""


class DivergedError(SpoolError):
    """A batch that another machine made does not follow from what this machine's log holds, or is not what it says of
    itself. Nothing of it was written. Whatever brought it, or one of the two logs, is wrong: it is not mended here."""

    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(
            f"the batch that begins with sequence {seq} cannot be taken into this log: {problem}"
        )
        self.seq = seq
        self.problem = problem


class LostRowsError(SpoolError):
    """The database has taken back what it had acknowledged: it was restored to an earlier time, or a failover did not
    keep its promise. The machines' own logs have what it lost. Nothing is appended here any more."""

    def __init__(self, seq: int, chain: bytes, last_seq: int, last_chain: bytes) -> None:
        super().__init__(
            f"the database ends with sequence {seq} and chain value {chain.hex()}, but it had acknowledged sequence "
            f"{last_seq} with chain value {last_chain.hex()}"
        )


class TailGoneError(SpoolError):
    """The rows that this machine's log needs next have gone from the database. It is to be filled from another."""

    def __init__(self, last_seq: int, oldest_seq: int | None) -> None:
        oldest = "has no rows any more" if oldest_seq is None else f"begins with {oldest_seq}"
        super().__init__(f"this machine's log ends with sequence {last_seq}, and the table {oldest}")
        self.last_seq = last_seq


class RowsMissingError(SpoolError):
    """The database has not the rows that this machine's log needs next, but some in front of them, and old rows only go
    from the front: somebody has removed them, or changed their numbers, or this is an old primary that never had them.
    It is not mended here."""

    def __init__(self, first_seq: int, last_seq: int) -> None:
        super().__init__(
            f"the database has no row with the sequences {first_seq} to {last_seq}, and it cannot have dropped them by "
            "itself: somebody has removed them, or changed their numbers, or an old primary has come back"
        )
        self.first_seq = first_seq


class BackupError(SpoolError):
    """A backup or a restore that is refused, or a backup that is not what its manifest says."""
