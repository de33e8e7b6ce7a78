"""Whether everything that the log and the views hold is what was written. Changes nothing, and names all it finds.

The invariant: **it works beside a running writer, disturbs nothing, and takes nothing unfinished for damage.** What
stands at the end of the last segment and is no whole batch is *in flight* while somebody has the log locked, and
*torn* otherwise. A fault counts only if it is found again by a look that began after it was found, for a batch may
be finished while one looks. So does a difference between log and views, for payloads may be stripped while one looks.

What is checked in a segment is said in `spool.verify.segment`, what is checked in the views in `spool.verify.views`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from spool.directory import LOCK_NAME, segment_seqs
from spool.disk import RealDisk
from spool.errors import CorruptionError
from spool.interface import Progress
from spool.mark import read_mark
from spool.record import CHAIN_START, Record
from spool.recovery import Witness
from spool.segment import SEGMENT_HEADER_BYTES, segment_name
from spool.verify.segment import Expected, LogProblem, SegmentCheck
from spool.verify.views import ViewVerdict, see_views, verify_views
from spool.views import Projector
from spool.views.projecting import E

__all__ = [
    "LogProblem",
    "LogVerdict",
    "VerifyVerdict",
    "ViewVerdict",
    "is_being_written",
    "verify",
    "verify_log",
]


class LogVerdict(NamedTuple):
    """On the log alone."""

    records: int
    """Whole records, in whole batches."""
    problems: list[LogProblem]
    stripped: int = 0
    """Of these, the ones whose payload was removed on purpose: they are whole, and say so."""


class VerifyVerdict(NamedTuple):
    """On the log and on what was made from it."""

    log: LogVerdict
    views: list[ViewVerdict]

    @property
    def ok(self) -> bool:
        return not self.log.problems and all(view.ok for view in self.views)


def verify(
    log_directory: Path,
    views_directory: Path,
    projectors: Sequence[Projector[E]],
    decode: Callable[[Record], E],
    *,
    progress: Progress | None = None,
) -> VerifyVerdict:
    """Check the log, and the views that were made from it.

    Damage is never raised. `OSError` may be: for a directory that cannot be listed, or where there is no room for
    the views that are compared with.
    """
    before: set[str] | None = None
    while True:
        headers = _headers(log_directory)
        # The views first: all that they have seen must then be in the log.
        seen = see_views(views_directory, projectors)
        log = verify_log(log_directory, witness=seen.witness, progress=progress)
        views = verify_views(log_directory, views_directory, projectors, decode, seen=seen, progress=progress)
        wrong = {view.name for view in views if not view.ok}
        if not wrong or wrong == before or not is_being_written(log_directory):
            return VerifyVerdict(log, views)
        # A writer that rewrites a segment meanwhile (payloads are stripped from it) changes what the log gives, and
        # corrects the index a moment later. So what differs must differ again, while no segment was rewritten.
        now = _headers(log_directory)
        before = wrong if all(now.get(seq) == header for seq, header in headers.items()) else None


def _headers(directory: Path) -> dict[int, bytes]:
    """The header of each segment. A segment that is rewritten gets another."""
    headers = {}
    for seq in segment_seqs(RealDisk(), directory):
        with suppress(OSError), (directory / segment_name(seq)).open("rb") as file:  # `verify_log` names it
            headers[seq] = file.read(SEGMENT_HEADER_BYTES)
    return headers


# -------------------------------------------------------------------------------------------------------- the log


def verify_log(
    directory: Path, *, witness: Witness | None = None, progress: Progress | None = None
) -> LogVerdict:
    """Check every byte of the log in `directory`.

    `witness` is how far the log is known to have been durable. What is missing or damaged up to there had been
    acknowledged, and is not torn, however much it looks so. The same holds of the mark of a log that several machines
    have; what is not whole behind that is a problem that the next start mends.
    """
    mark, problems = _read_mark(directory)
    seqs = segment_seqs(RealDisk(), directory)
    total = sum((directory / segment_name(seq)).stat().st_size for seq in seqs)
    done = records = stripped = 0
    expected = Expected(1, CHAIN_START, 0)
    for first_seq in seqs:
        if expected.seq is not None and expected.seq != first_seq:
            problems.append(_gap(expected.seq, first_seq))
            expected = expected._replace(chain=None)
        path = directory / segment_name(first_seq)
        try:
            if first_seq == seqs[-1]:
                check = _check_last(path, first_seq, expected, witness, mark)
            else:
                check = SegmentCheck(path, first_seq, expected)
        except OSError as error:
            problems.append(
                LogProblem(path.name, 0, first_seq, "segment", f"the file cannot be read: {error}")
            )
            expected = Expected(None, None, expected.time_us)
            continue
        records += check.records
        stripped += check.stripped
        problems += check.problems
        expected = check.expected_next
        done += len(check.data)
        if progress is not None:
            progress("checking the log", done, total)
    for known, by in ((witness, "as the views have seen"), (mark, "as the mark says")):
        if not seqs and known is not None and known.seq:
            problem = f"the file is missing; sequence {known.seq} had been durable, {by}"
            file = segment_name(known.segment)
            problems.append(LogProblem(file, known.end_offset, known.seq, "segment", problem))
    if mark is not None:
        problems = [_told_behind(problem, mark) for problem in problems]
    return LogVerdict(records, problems, stripped)


def _read_mark(directory: Path) -> tuple[Witness | None, list[LogProblem]]:
    try:
        return read_mark(RealDisk(), directory), []
    except CorruptionError as error:
        return None, [LogProblem(error.file, error.offset, error.seq, error.part, error.problem)]


def _told_behind(problem: LogProblem, mark: Witness) -> LogProblem:
    if problem.seq <= mark.seq:
        return problem
    hint = f"; this machine's file was synced up to sequence {mark.seq}, and what is behind it is cut by the next start"
    return problem._replace(problem=f"{problem.problem}{hint}, and received again")


def is_being_written(directory: Path) -> bool:
    """Whether a process has the log in `directory` open for writing.

    Asks for the lock, shared and for a moment, because only the lock itself tells the truth on every file system. A
    running writer does not notice.
    """
    try:
        handle = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _gap(expected_seq: int, first_seq: int) -> LogProblem:
    if expected_seq < first_seq:
        problem = f"the file is missing: the next segment begins with {first_seq}"
        return LogProblem(segment_name(expected_seq), 0, expected_seq, "segment", problem)
    problem = f"the segment begins with {first_seq} where {expected_seq} belongs"
    return LogProblem(segment_name(first_seq), 0, first_seq, "segment", problem)


def _check_last(
    path: Path, first_seq: int, expected: Expected, witness: Witness | None, mark: Witness | None
) -> SegmentCheck:
    """Check the segment that somebody may be writing.

    What is wrong in it may only be unfinished: a batch is seen in part, or what stands behind it is seen and it is
    not, because it was read first. So everything that is found must be found again by a look that began after it.
    """
    before: list[LogProblem] = []
    while True:
        check = SegmentCheck(path, first_seq, expected, last=True, witness=witness, mark=mark)
        if check.torn is not None and not is_being_written(path.parent):
            check.problems.append(check.torn)
        if not check.problems or check.problems == before:
            return check
        before = check.problems
