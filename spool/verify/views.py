"""Whether the views are what the log gives: a fold of the log anew, compared table by table.

The invariant: **the views that are checked are not changed, and not held.** They are read in one short snapshot (a
long one would keep LMDB from using its pages again, and a running relay's file would grow); then the log is folded
into an environment of its own, in a temporary directory, up to the position that the snapshot had. Only a table
that differs is looked at a second time, to say which key it is.

*Absent*, *unreadable*, *busy* and *different* are different answers. Views that are absent, or that were in use when
the machine went down, are no damage: all that was in them is in the log, and the next start makes them. So is
*unfinished*: a process that ended after a segment had been stripped and before the index was corrected leaves the old
places of its records there. That counts as whole if nothing else differs and it is certain that the next start corrects
it, for it is what `Views.catch_up` looks for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import lmdb

from spool.errors import ReadersFullError, SpoolError
from spool.interface import Progress
from spool.reader import LogReader
from spool.record import Record
from spool.recovery import Witness
from spool.segment import segment_name
from spool.views import (
    INDEX,
    META,
    POSITION,
    Projector,
    Snapshot,
    Views,
    are_there,
    open_temporary,
    open_views_read_only,
    reason_not_to_open,
    was_interrupted,
    with_end_offset,
)
from spool.views.projecting import E

# `meta` has the position with its chain value: without it, views of another log might pass.
_OWN_TABLES: Final = (META, INDEX)
_SHOWN_BYTES_MAX: Final = 48
_PROGRESS_RECORDS: Final = 1000


class ViewVerdict(NamedTuple):
    name: str
    """The table's."""
    ok: bool
    problem: str | None = None
    unfinished: str | None = None
    """What the next start still has to do to a table that is `ok`: no reader takes harm from it until then."""
    unmade: str | None = None
    """Why there is no such table that anybody would use, where that is in order."""
    is_busy: bool = False
    """It could not be looked at, because too many processes do."""


class ViewsSeen(NamedTuple):
    """The views as they were at one moment."""

    witness: Witness | None
    digests: dict[str, str]
    problem: str | None = None
    """Why they cannot be compared with anything; then there are no digests."""
    unmade: str | None = None
    """Why there are none that anybody would use, where that is in order: the next start makes them from the log."""
    is_busy: bool = False
    """The problem is that too many processes read them."""


def see_views(directory: Path, projectors: Iterable[Projector[Any]]) -> ViewsSeen:
    """Look at the views once: a short read, which a running relay does not notice.

    In a process of its own. LMDB maps its file into memory and trusts it: where the file has been cut short, reading
    it ends the process (SIGBUS), and that is an answer too.
    """
    if not are_there(directory):
        return ViewsSeen(
            None, {}, unmade="absent: there are none yet; the first start makes them from the log"
        )
    doubt = reason_not_to_open(directory)
    if doubt is not None:
        again = "the next start makes them again from the log"
        if was_interrupted(directory):
            return ViewsSeen(None, {}, unmade=f"{doubt}; {again}")
        return ViewsSeen(None, {}, f"unreadable: {doubt}; {again}")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_digests_of, directory, _compared_tables(projectors)).result()
        except BrokenProcessPool:
            return ViewsSeen(None, {}, "unreadable: LMDB crashes on them")


def _digests_of(directory: Path, tables: list[str]) -> ViewsSeen:
    try:
        with open_views_read_only(directory, tables) as snapshot:
            return ViewsSeen(snapshot.witness(), {table: snapshot.digest(table) for table in tables})
    except ReadersFullError as error:
        return ViewsSeen(None, {}, f"busy: {error}", is_busy=True)
    except (lmdb.Error, struct.error, LookupError, OSError) as error:
        return ViewsSeen(None, {}, f"unreadable: {error}")


def verify_views(
    log_directory: Path,
    views_directory: Path,
    projectors: Sequence[Projector[E]],
    decode: Callable[[Record], E],
    *,
    seen: ViewsSeen | None = None,
    progress: Progress | None = None,
) -> list[ViewVerdict]:
    """Fold the log anew, up to where the views were when they were `seen`, and compare table by table.

    The new views are made in a temporary directory, and take as much room there as the live ones do. A table that
    differs is looked at again, to name the first key that does.
    """
    tables = _compared_tables(projectors)
    seen = seen or see_views(views_directory, projectors)
    if seen.problem is not None:
        return [ViewVerdict(table, False, seen.problem, is_busy=seen.is_busy) for table in tables]
    if seen.unmade is not None:
        return [ViewVerdict(table, True, unmade=seen.unmade) for table in tables]
    position = seen.witness.seq if seen.witness else 0

    def decode_counted(record: Record) -> E:
        if progress is not None and (record.seq % _PROGRESS_RECORDS == 0 or record.seq == position):
            progress("folding it into new views", record.seq, position)
        return decode(record)

    with open_temporary(projectors, decode_counted) as fresh:
        problem = _fold(fresh, log_directory, position)
        if problem is not None:
            return [ViewVerdict(table, False, f"cannot be compared: {problem}") for table in tables]
        with fresh.read() as snapshot:
            wrong = [table for table in tables if snapshot.digest(table) != seen.digests[table]]
        unfinished = _unfinished_strip(fresh, wrong, log_directory, views_directory)
        if unfinished is not None:
            return [
                ViewVerdict(table, True, unfinished=unfinished if table == INDEX else None)
                for table in tables
            ]
        differences = _first_differences(fresh, wrong, log_directory, views_directory, projectors)
    return [ViewVerdict(table, table not in wrong, differences.get(table)) for table in tables]


def _unfinished_strip(
    fresh: Views[Any], wrong: list[str], log_directory: Path, views_directory: Path
) -> str | None:
    """What a strip has left to be done, if that and nothing else is what makes these tables differ."""
    if INDEX not in wrong or not set(wrong) <= set(_OWN_TABLES):
        return None
    try:
        with (
            open_views_read_only(views_directory, _OWN_TABLES) as live,
            fresh.read() as expected,
            LogReader(log_directory) as reader,
        ):
            # They have gone on since they were first seen? Then another look decides.
            if live.position != expected.position:
                return None
            awaited = dict(reader.misplaced(live.place, live.position))
            if not _differs_by_end_offset(live, expected, awaited):
                return None
            stale = _count_stale(live, expected, awaited, reader)
    except (lmdb.Error, struct.error, LookupError, OSError, SpoolError):
        return None  # `_first_differences` says so
    if not stale:
        return None
    files = ", ".join(segment_name(first_seq) for first_seq in awaited)
    return f"has old places of records ({stale:,}) in {files}, which was stripped"


def _differs_by_end_offset(live: Snapshot, expected: Snapshot, awaited: dict[int, int]) -> bool:
    """Whether `meta` is the same, but for where the position ends, if it is the end of a segment in `awaited`."""
    found, right = dict(live.scan(META)), dict(expected.scan(META))
    if found == right:
        return True
    before, after = live.witness(), expected.witness()
    if before is None or after is None or awaited.get(after.segment) != after.seq:
        return False
    found[POSITION] = with_end_offset(found[POSITION], after.end_offset)
    return found == right


def _count_stale(
    live: Snapshot, expected: Snapshot, awaited: dict[int, int], reader: LogReader
) -> int | None:
    """How many records the index has at old places in segments of `awaited`; None if it differs in any other way."""
    stale = 0
    for found, right in zip_longest(live.scan(INDEX), expected.scan(INDEX)):
        if found == right:
            continue
        if found is None or right is None or found[0] != right[0]:
            return None
        seq = int.from_bytes(right[0], "big")
        place, new_place = live.place(seq), expected.place(seq)
        assert place is not None
        assert new_place is not None
        segment, offset = place
        # The record itself is whole, at its new place: the fold has just read it there.
        if segment != new_place[0] or seq > awaited.get(segment, 0) or reader.stands_at(seq, segment, offset):
            return None
        stale += 1
    return stale


def _fold(views: Views[Any], log_directory: Path, until: int) -> str | None:
    """Bring the views up to `until`; what keeps them from it, if anything does."""
    if until <= views.position:
        return None
    try:
        with LogReader(log_directory) as reader:
            views.catch_up(reader, until=until)
    except SpoolError as error:
        return f"the log is damaged: {error}"
    except Exception as error:  # noqa: BLE001 - whatever decoding or a projector raises is the answer
        return f"record {views.position + 1} or one after it cannot be folded: {error or repr(error)}"
    if views.position < until:
        return f"the views have seen sequence {until}, the log ends with {views.position}"
    return None


def _first_differences(
    fresh: Views[Any],
    wrong: list[str],
    log_directory: Path,
    views_directory: Path,
    projectors: Sequence[Projector[Any]],
) -> dict[str, str]:
    """What is the first difference in each of these tables. They may have gone on since they were first seen."""
    if not wrong:
        return {}
    try:
        with open_views_read_only(views_directory, _compared_tables(projectors)) as live:
            problem = _fold(fresh, log_directory, live.position)
            if problem is None and live.position != fresh.position:
                problem = "they have been built again in the meantime"
            if problem is not None:
                return dict.fromkeys(
                    wrong, f"differs from what the log gives; where, cannot be said: {problem}"
                )
            with fresh.read() as expected:
                return {table: _first_difference(live, expected, table) for table in wrong}
    except (lmdb.Error, struct.error, LookupError, OSError, ReadersFullError) as error:
        return dict.fromkeys(wrong, f"differs from what the log gives; where, cannot be said: {error}")


def _first_difference(live: Snapshot, expected: Snapshot, table: str) -> str:
    for found, right in zip_longest(live.scan(table), expected.scan(table)):
        if found == right:
            continue
        if right is None or (found is not None and found[0] < right[0]):
            return f"key {_shown(found[0])} holds {_shown(found[1])}; the log gives no such key"
        if found is None or right[0] < found[0]:
            return f"key {_shown(right[0])} is missing; the log gives {_shown(right[1])}"
        return f"key {_shown(found[0])} holds {_shown(found[1])}; the log gives {_shown(right[1])}"
    return "differed from what the log gives, and does no more"


def _shown(data: bytes) -> str:
    """In hex, because keys are binary, and shortened."""
    shown = data[:_SHOWN_BYTES_MAX].hex()
    if len(data) > _SHOWN_BYTES_MAX:
        return f"{shown}… ({len(data)} bytes)"
    return shown or "nothing"


def _compared_tables(projectors: Iterable[Projector[Any]]) -> list[str]:
    return [*_OWN_TABLES, *(table for projector in projectors for table in projector.tables)]
