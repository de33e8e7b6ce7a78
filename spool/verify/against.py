"""Whether two logs are one: the chain values of both at the same sequence number.

The invariant: **where both have the same chain value, all that is in front of it is the same in both**: sequence
numbers, times, batches, skeletons, and the digests of payloads. So one look at the last record that both have is
enough. Where it is another one in each, the first at which they part is found by bisection. Payloads themselves may be
gone from one of them.

Each of the two has to be whole in itself, which `verify_log` says. Both may be written meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from spool.reader import LogReader


class Compared(NamedTuple):
    our_last_seq: int
    their_last_seq: int
    compared_through: int
    """The last sequence number that both have; 0: they have none in common, and nothing was compared."""
    first_different: int | None
    """The first record that is another one in each. None: there is none up to there."""


def compare(ours: LogReader, theirs: LogReader) -> Compared:
    """Raises `CorruptionError` where a record that is looked at is damaged, and OSError."""
    our_last, their_last = _last_seq(ours), _last_seq(theirs)
    first, last = max(ours.first_seq(), theirs.first_seq()), min(our_last, their_last)
    if last < first:
        return Compared(our_last, their_last, 0, None)

    def is_same(seq: int) -> bool:
        return ours.get(seq).chain == theirs.get(seq).chain

    if is_same(last):
        return Compared(our_last, their_last, last, None)
    same, different = first - 1, last
    while different - same > 1:
        middle = (same + different) // 2
        if is_same(middle):
            same = middle
        else:
            different = middle
    return Compared(our_last, their_last, last, different)


def _last_seq(reader: LogReader) -> int:
    segments = reader.segments()
    return segments[-1].last_seq if segments else 0
