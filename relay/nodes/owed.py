"""What is left to do until personal data that were erased are gone everywhere: which nodes, and which rows.

The invariant: **nobody is told that something is gone while a file or a row may have it that we know of.** A node that
has not said that it has stripped its files has not, however long it has been silent: its disk is somewhere. What the
database's own backups and archives of its WAL keep, nobody can know here.

Pure, but for `wait_for_others` and `read_oldest_seq`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

import trio

from relay.nodes.facts import Facts, StrangeRow
from spool.replicated.table import Table, TableError, connected

#: So long whoever has ordered it is kept waiting.
WAIT_SECONDS_MAX: Final = 15.0
POLL_SECONDS: Final = 0.5


def owing_nodes(nodes: Iterable[Facts | StrangeRow], erased_seq: int) -> list[str]:
    """A sentence for each node that may have payloads still that `payload.erased` up to this one names."""
    found = []
    for node in nodes:
        if isinstance(node, StrangeRow):
            found.append(f"node {node.name} may have them: {node.sentence}")
        elif node.began_at and node.stripped_through < erased_seq:
            why = f" ({node.trouble})" if node.trouble else ""
            found.append(
                f"node {node.name} has them in its files: it has removed what events up to {node.stripped_through} "
                f"erase, and not yet those up to {erased_seq}{why}"
            )
    return found


def never_begun(nodes: Iterable[Facts | StrangeRow]) -> list[str]:
    """A sentence for each node that was added and has never run. Whether it was joined is not known here, so nobody
    waits for it."""
    return [
        f"node {node.name} was added and has never run: if it has joined with a log, that may have them until its "
        "relay is started, or the node is removed and its directory deleted"
        for node in nodes
        if isinstance(node, Facts) and not node.began_at
    ]


def owing_rows(oldest_seq: int | None, payload_seq: int, tail_hours: int) -> list[str]:
    """The same of the database's table, whose rows begin with `oldest_seq`. `payload_seq`: the last record whose
    payload goes."""
    if oldest_seq is None or oldest_seq > payload_seq:
        return []
    return [
        f"the database has rows from sequence {oldest_seq} on, sealed under the pepper; those up to {payload_seq} go "
        f"when all nodes have them and they are older than tail_hours ({tail_hours})"
    ]


async def wait_for_others(
    erased_seq: int,
    payload_seq: int,
    *,
    read_nodes: Callable[[], Awaitable[Iterable[Facts | StrangeRow]]],
    read_oldest_seq: Callable[[], Awaitable[int | None]],
    tail_hours: int,
    seconds: float = WAIT_SECONDS_MAX,
) -> Sequence[str]:
    """What is still owed when all nodes have stripped, or `seconds` have gone: as `Core.wait_for_others_to_strip`.

    For rows nobody waits, which may need a day, nor for a node that has never run. The two readers may raise
    TableError, of which the answer tells.
    """
    until = trio.current_time() + seconds
    try:
        while owed := owing_nodes(nodes := list(await read_nodes()), erased_seq):
            if trio.current_time() >= until:
                break
            await trio.sleep(POLL_SECONDS)
        rows = owing_rows(await read_oldest_seq(), payload_seq, tail_hours)
        return [*owed, *never_begun(nodes), *rows]
    except TableError as error:
        return [f"which nodes have them still is not known, since the database does not answer: {error}"]


async def read_oldest_seq(table: Table) -> int | None:
    """The first sequence number that the database has a row of. Raises TableError."""
    async with connected(table) as connection:
        return await connection.oldest_seq()


def waiting_for_others(
    table: Table, nodes: Callable[[], Iterable[Facts | StrangeRow]], tail_hours: Callable[[], int]
) -> Callable[[int, int], Awaitable[Sequence[str]]]:
    """`Core.wait_for_others_to_strip` of a node. `nodes`: as they were read last."""

    async def wait(erased_seq: int, payload_seq: int) -> Sequence[str]:
        async def read_nodes() -> Iterable[Facts | StrangeRow]:
            return nodes()

        return await wait_for_others(
            erased_seq,
            payload_seq,
            read_nodes=read_nodes,
            read_oldest_seq=partial(read_oldest_seq, table),
            tail_hours=tail_hours(),
        )

    return wait
