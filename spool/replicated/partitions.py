"""The parts of the table of batches: which there are, and what is to be done to them.

The invariant: **no part goes that the head names, or that a later row could come into, and none that has a row behind
the sequence number that the caller gave.**

A part is a partition, so that its rows go as a file goes: DELETE would leave their octets in the table, and in the WAL
of a quiet system, for as long as nobody needs the place. It is made beside the others and attached, which nobody waits
for; then the head names it, and from then on all new rows come into it. It goes in two steps, each of which may fail
where somebody uses the table for too long: it is detached (`CONCURRENTLY`, so that appends and reads go on), then
dropped. What an earlier call left between two steps is found here, and finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from spool.replicated.statements import SCHEMA

FIRST: Final = 1
_PREFIX: Final = "part_"

READ_CURRENT: Final = f"SELECT part FROM {SCHEMA}.head"
#: A row for each `Part`. Whoever made something of another name in our schema keeps it.
READ_PARTS: Final = f"""
SELECT substr(relname, {len(_PREFIX) + 1})::bigint AS number, inhrelid IS NOT NULL, coalesce(inhdetachpending, false)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
LEFT JOIN pg_inherits ON inhrelid = pg_class.oid
WHERE nspname = '{SCHEMA}' AND relkind = 'r' AND relname ~ '^{_PREFIX}[0-9]{{1,18}}$' ORDER BY number"""
NAME_NEXT: Final = f"UPDATE {SCHEMA}.head SET part = %(next)s WHERE part = %(current)s"


class Part(NamedTuple):
    number: int
    is_attached: bool
    """Its rows are seen. One that is not was not named yet, or is half gone."""
    is_detaching: bool
    """It was attached, and its rows are seen no more."""


def make(number: int) -> str:
    return f"CREATE TABLE {_name(number)} (LIKE {SCHEMA}.batches INCLUDING ALL)"


def attach(number: int) -> str:
    return f"ALTER TABLE {SCHEMA}.batches ATTACH PARTITION {_name(number)} FOR VALUES IN ({number})"


def detach(part: Part) -> str:
    how = "FINALIZE" if part.is_detaching else "CONCURRENTLY"
    return f"ALTER TABLE {SCHEMA}.batches DETACH PARTITION {_name(part.number)} {how}"


def drop(number: int) -> str:
    return f"DROP TABLE {_name(number)}"


def read_last_seq(number: int) -> str:
    """No row where there is none in it."""
    return f"SELECT last_seq FROM {_name(number)} ORDER BY first_seq DESC LIMIT 1"


def behind(parts: Sequence[Part], current: int) -> Sequence[Part]:
    """Those that no row comes into any more."""
    return [part for part in parts if part.number < current]


def _name(number: int) -> str:
    return f"{SCHEMA}.{_PREFIX}{number}"
