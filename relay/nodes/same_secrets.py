"""A node with another pepper does not start.

Whoever leads is right: what is in the database was sealed under its pepper. A node with another one could apply no row,
and where there are none yet, it could lead, and seal what nobody else can read.

Where nobody leads, or the database does not answer at once, nothing can be compared. Then a row that does not open says
it later (`relay.nodes.seal`).
"""

from __future__ import annotations

from typing import Final

import trio

from relay.message.key_files import KeyFileError, pepper_name
from relay.message.keys import Peppers
from relay.nodes.facts import Facts, from_row
from relay.nodes.seal import differing_pepper, pepper_digests
from spool.replicated.table import Table, TableError

#: So long a start waits for it.
PATIENCE_SECONDS: Final = 3.0


async def check_pepper(table: Table, peppers: Peppers, *, name: str) -> Facts | None:
    """What the node that leads, another one than `name`, says of itself; None: nobody is known to lead. Raises
    KeyFileError where it has another pepper."""
    leader: Facts | None = None
    try:
        with trio.move_on_after(PATIENCE_SECONDS):
            leader = await _leader(table)
    except TableError:
        return None
    if leader is None or leader.name == name:
        return None
    number = differing_pepper(pepper_digests(peppers), leader.peppers)
    if number is not None:
        raise KeyFileError(
            f"{pepper_name(int(number))}: is another one than that of {leader.name}, which leads; all nodes have the "
            "same: make this one anew by `node add` and `node join`"
        )
    return leader


async def _leader(table: Table) -> Facts | None:
    connection = await table.connect()
    try:
        lease, rows = await connection.lease(), await connection.nodes()
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()
    if lease is None:
        return None
    # As `relay.nodes.node` writes it: name and address.
    name = lease.address.partition(" ")[0]
    facts = from_row(name, rows.get(name, {}))
    return facts if isinstance(facts, Facts) else None
