"""What to do with what start-up finds: a decision table, and nothing else.

The invariant: **what had been acknowledged is never cut.** The writer begins no batch before the one in
front of it is durable. So whatever stands behind a damaged batch (a record of a later batch, a footer,
another segment, or a durable sequence that LMDB has witnessed) proves that the batch had been durable once,
and the damage is corruption: nothing is changed, a person has to look. Damage with nothing behind it but its
own batch was never acknowledged: it is a torn tail, and is cut.

Of a log that several machines have, this holds up to the *mark* (`spool.mark`): up to there the file was synced,
whoever acknowledged it. Behind it nothing was synced, and batches may be there in any part, in any order; all that was
acknowledged can be received again. So the first thing there that is not whole goes, with all that stands behind it
(`drop_behind`), and the table judges what is left, with the mark for its witness.

Pure: `inspect` in `repair` collects the evidence and `carry_out` there acts on the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from spool.errors import CorruptionError
from spool.record import CHAIN_START
from spool.segment import Fault, Scan, corruption


class Witness(NamedTuple):
    """How far the log has been durable, as somebody outside the log remembers it."""

    segment: int
    end_offset: int
    seq: int


class Found(Enum):
    """How a segment, or the whole directory, was found."""

    NOTHING = "no segment at all"
    STRAY = "a segment that does not follow from the one before it"
    HEADLESS = "a segment without a whole header"
    DAMAGED = "whole batches, then bytes that are no whole batch"
    OPEN = "whole batches up to the end of the file"
    SEALED = "whole batches and a footer"


class Memory(Enum):
    """What the witness says about the sequence at which the whole batches end."""

    ABSENT = "there is no witness"
    REACHED = "nothing beyond it had been witnessed"
    BEYOND = "more had been witnessed"


class Action(Enum):
    BEGIN = "create the first segment"
    APPEND = "go on in the last segment"
    ROTATE = "go on in a new segment"
    CUT = "keep a copy of the torn tail, cut it, seal, go on in a new segment"
    PASS = "look at the next segment"
    REFUSE = "corruption: change nothing, do not start"


class Row(NamedTuple):
    """One row of the table; None matches anything."""

    letter: str
    found: Found
    last: bool | None
    followed: bool | None
    memory: Memory | None
    action: Action
    because: str


# `last`: no segment comes after it. `followed`: behind the damage stands a valid header of a later batch.
# Exactly one row matches each situation; the tests try them all.
TABLE: Final = (
    Row("A", Found.NOTHING, None, None, Memory.ABSENT, Action.BEGIN, "a new log"),
    Row("B", Found.NOTHING, None, None, Memory.REACHED, Action.BEGIN, "a witness of nothing"),
    Row("C", Found.NOTHING, None, None, Memory.BEYOND, Action.REFUSE, "all segments are missing"),
    Row("D", Found.STRAY, None, None, None, Action.REFUSE, "the segment before it is missing"),
    Row("E", Found.HEADLESS, None, None, None, Action.REFUSE, "the header is durable before the name"),
    Row("F", Found.SEALED, False, None, None, Action.PASS, "a finished segment"),
    Row("G", Found.OPEN, False, None, None, Action.REFUSE, "the footer is durable before the next segment"),
    Row("H", Found.DAMAGED, False, None, None, Action.REFUSE, "a later segment proves it had been durable"),
    Row("I", Found.DAMAGED, True, True, None, Action.REFUSE, "a later batch proves it had been durable"),
    Row("J", Found.DAMAGED, True, False, Memory.BEYOND, Action.REFUSE, "a witness proves it had been durable"),
    Row("K", Found.DAMAGED, True, False, Memory.REACHED, Action.CUT, "torn: never acknowledged"),
    Row("L", Found.DAMAGED, True, False, Memory.ABSENT, Action.CUT, "torn, as far as the log can tell"),
    Row("M", Found.OPEN, True, None, Memory.BEYOND, Action.REFUSE, "whole batches are missing at the end"),
    Row("N", Found.OPEN, True, None, Memory.REACHED, Action.APPEND, "stopped between two batches"),
    Row("O", Found.OPEN, True, None, Memory.ABSENT, Action.APPEND, "whole, as far as the log can tell"),
    Row("P", Found.SEALED, True, None, Memory.BEYOND, Action.REFUSE, "whole segments are missing at the end"),
    Row("Q", Found.SEALED, True, None, Memory.REACHED, Action.ROTATE, "stopped while rotating"),
    Row("R", Found.SEALED, True, None, Memory.ABSENT, Action.ROTATE, "whole, as far as the log can tell"),
)  # fmt: skip


def matches(row: Row, found: Found, last: bool, followed: bool, memory: Memory) -> bool:
    return (
        row.found is found
        and row.last in (None, last)
        and row.followed in (None, followed)
        and row.memory in (None, memory)
    )


def judge(found: Found, *, last: bool, followed: bool, memory: Memory) -> Row:
    """The row of the table for this situation."""
    return next(row for row in TABLE if matches(row, found, last, followed, memory))


class Plan(NamedTuple):
    """What to do, and the segment to do it with."""

    row: Row
    tail: Scan | None
    """The last segment, or None if there is none."""
    loss_ruled_out: bool
    """False where only the views could have told that whole batches are missing at the end, and are gone."""
    witness: Witness | None
    """By whom it was judged."""
    mark: Witness | None = None
    """None: the log is this machine's alone."""
    dropped: tuple[Scan, ...] = ()
    """Segments behind the mark that go; they stand behind the tail. What is damaged in the tail itself is cut."""


def decide(scans: Sequence[Scan], witness: Witness | None) -> Plan:
    """Look at all segments in order of their names. Raises `CorruptionError` where the table says REFUSE."""
    if not scans:
        row = judge(Found.NOTHING, last=True, followed=False, memory=_memory(witness, 0))
        if witness is not None and row.action is Action.REFUSE:
            problem = f"the file is missing: {row.because}"
            raise corruption(witness.segment, Fault(witness.end_offset, witness.seq, "segment", problem))
        return Plan(row, None, loss_ruled_out=True, witness=witness)
    row = TABLE[0]
    next_seq, chain, time_us = 1, CHAIN_START, 0
    for position, scan in enumerate(scans):
        last = position == len(scans) - 1
        found, fault = _how_found(scan, next_seq, chain)
        row = judge(
            found,
            last=last,
            followed=scan.followed,
            memory=_memory(witness, scan.end.next_seq - 1),
        )
        if row.action is Action.REFUSE:
            raise _refusal(row, scan, fault, witness)
        next_seq, chain = scan.end.next_seq, scan.end.chain
        # A segment without a record does not know the time of the last one.
        time_us = max(time_us, scan.end.time_us)
    tail = scans[-1]._replace(end=scans[-1].end._replace(time_us=time_us))
    return Plan(row, tail, loss_ruled_out=witness is not None, witness=witness)


def decide_behind(scans: Sequence[Scan], mark: Witness) -> Plan:
    """As `decide`, of a log that several machines have."""
    kept = drop_behind(scans, mark)
    return decide(kept, mark)._replace(mark=mark, dropped=tuple(scans[len(kept) :]))


def drop_behind(scans: Sequence[Scan], mark: Witness) -> list[Scan]:
    """The segments up to the first one that is not as it should be, and that one with them, if it begins well; all of
    them, where that lies in front of the mark: then it is for the table to refuse."""
    next_seq, chain = 1, CHAIN_START
    for position, scan in enumerate(scans):
        found, _ = _how_found(scan, next_seq, chain)
        last = position == len(scans) - 1
        if found in (Found.STRAY, Found.HEADLESS):
            return list(scans) if mark.seq >= next_seq else list(scans[:position])
        next_seq, chain = scan.end.next_seq, scan.end.chain
        if found is Found.DAMAGED or (found is Found.OPEN and not last):
            if mark.seq >= next_seq:
                break
            # What stands behind proves nothing: it may have come to the disk before what is missing.
            return [*scans[:position], scan._replace(followed=False)]
    return list(scans)


def _how_found(scan: Scan, next_seq: int, chain: bytes) -> tuple[Found, Fault | None]:
    if scan.header is None:
        return Found.HEADLESS, scan.fault
    if scan.first_seq != next_seq:
        problem = f"the segment begins with {scan.first_seq} where {next_seq} belongs"
        return Found.STRAY, Fault(0, next_seq, "segment", problem)
    if scan.header.previous_chain != chain:
        problem = "its chain value does not follow from the segment before it"
        return Found.STRAY, Fault(0, next_seq, "segment-header", problem)
    if scan.fault is not None:
        return Found.DAMAGED, scan.fault
    return (Found.OPEN if scan.footer is None else Found.SEALED), None


def _memory(witness: Witness | None, seq: int) -> Memory:
    if witness is None:
        return Memory.ABSENT
    return Memory.BEYOND if witness.seq > seq else Memory.REACHED


def _refusal(row: Row, scan: Scan, fault: Fault | None, witness: Witness | None) -> CorruptionError:
    if fault is None:
        problem = "the segment ends here without a footer"
        if row.found is Found.SEALED or row.last:
            problem = "the log ends here"
        fault = Fault(scan.end.offset, scan.end.next_seq, "segment", problem)
    problem = f"{fault.problem}; {row.because}"
    if row.memory is Memory.BEYOND and witness is not None:
        problem += f" (sequence {witness.seq} had been durable)"
    return corruption(scan.first_seq, fault._replace(problem=problem))
