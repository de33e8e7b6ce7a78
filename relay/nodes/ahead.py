"""Whether a node has more of the log than the database: then that was restored to an earlier time, or changed by hand.

The invariant: **no node begins to lead on a database that has lost what a node that is there says it has applied.**
Each node says each second how far it has come, and so do the rows of those that are ahead, a moment after the database
is back. A node that is behind has to hear that before it leads there: what it appended would be another log than
theirs. A row that cannot be read says nothing.

In a database that has all that it ever had, nothing is ahead of the head: each of these is written after the head has
come so far, and a server that has lost one has lost the other.

How long others are waited for is bounded: until each of them has written its row on this connection, HEAR_SECONDS at
most, counted from when the connection was made. A database is restored while nobody is connected to it, so a node that
has been connected for so long does not wait at all. A node that says nothing meanwhile may be ahead, too: when it comes
back it finds out by itself (`spool.replicated.following`), and its log is then the one that has parted.

A row of a node that is gone for good, and is ahead, keeps all from leading until that node is removed, or the log is
founded anew: what it says was acknowledged.

A log that another leader has gone on with since is not ahead, it has parted: whoever runs on by tables that were thrown
away hinders nobody. Its row says so, by the epoch with which who led there last began to lead. Along one log these only
rise, so what stands behind ours was appended by who led last in ours, or by somebody who began later. Where nobody has
taken the head since the tables were made, it was by somebody who began later than that. The head's epoch says nothing
else: who leads raises it by each new connection, and its records are of the one with which it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from relay.nodes.facts import Facts, StrangeRow
from relay.views.nodes import Leader
from spool.replicated.table import NOBODY, Connection, Head, Lease

#: A node writes its row each second, and connects anew within seconds when the database is back.
HEAR_SECONDS: Final = 5.0

_SEQ_MAX: Final = (1 << 63) - 1


class Heard:
    """Which nodes have written their rows since this connection was made."""

    def __init__(self) -> None:
        self._since: float | None = None
        #: Name of a node that has run -> when it had written its row, as that was first read here.
        self._first: dict[str, object] = {}
        self._heard: set[str] = set()

    def begin_anew(self) -> None:
        """The connection is another one."""
        self._since = None

    def read(self, rows: Mapping[str, Mapping[str, object]], now: float) -> None:
        if self._since is None:
            self._since = now
            self._first = {name: row.get("written_at") for name, row in rows.items() if row.get("began_at")}
            self._heard = set()
        self._heard |= {
            name for name, at in self._first.items() if rows.get(name, {}).get("written_at") != at
        }

    def why_not_yet(self, own_name: str, now: float) -> str | None:
        """Why it is not known yet how far the others are."""
        if self._since is None:
            return "it does not know yet how far the other nodes are"
        silent = sorted(self._first.keys() - self._heard - {own_name})
        if silent and now - self._since < HEAR_SECONDS:
            return f"it waits to hear how far node {silent[0]} is"
        return None


async def find_ahead(
    connection: Connection,
    head: Head,
    lease: Lease | None,
    nodes: Iterable[Facts | StrangeRow],
    own_name: str,
    led: Leader | None,
) -> str | None:
    """What there is that the head has not come to, in a sentence. `led`: who led last, in the log here. Raises
    `TableError`."""
    began = 0 if led is None else led.epoch
    if head.holder == NOBODY:
        began = head.epoch
    for node in nodes:
        # What this node says of itself, its own log knows better.
        if isinstance(node, StrangeRow) or node.name == own_name or 0 < node.epoch < began:
            continue
        if node.applied_seq > head.last_seq:
            return _in_words(f"node {node.name} has the log up to sequence {node.applied_seq}", head)
    if lease is not None and lease.witnessed_seq > head.last_seq:
        return _in_words(f"its lease says that sequence {lease.witnessed_seq} was acknowledged", head)
    behind = await connection.rows(head.last_seq, _SEQ_MAX, 1)
    if behind:
        return _in_words(f"there is a row behind it, with sequence {behind[0].first_seq}", head)
    return None


def _in_words(more: str, head: Head) -> str:
    return (
        f"the database's log ends with sequence {head.last_seq}, and {more}: the database was restored to an earlier "
        "time, or somebody has changed it. Nobody leads before the log is founded anew at the node that is furthest: "
        "`atmos-relay node found DIR --discard NAME` (docs/NODES.md); where that one is gone for good, `node remove` it"
    )
