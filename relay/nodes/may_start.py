"""A node that was removed does not start, and neither does one with another pepper.

*Removed*: what the rows of the nodes say (`relay.nodes.members`).

*Another pepper*: whoever leads is right: what is in the database was sealed under its pepper. A node with another one
could apply no row, and where there are none yet, it could lead, and seal what nobody else can read.

Where nobody leads, peppers cannot be compared; where the database does not answer at once, nothing can. Then a row
that does not open says the one later (`relay.nodes.seal`), and the first look at the rows the other
(`relay.nodes.speaking`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from relay.message.key_files import KeyFileError, pepper_name
from relay.message.keys import Peppers
from relay.nodes.facts import Facts, from_row
from relay.nodes.lease import read_address
from relay.nodes.members import Rows, members_in
from relay.nodes.seal import differing_pepper, pepper_digests
from relay.refusals import Refusal
from spool.replicated.table import Lease, Table, TableError, connected

#: So long a start waits for it.
PATIENCE_SECONDS: Final = 3.0


async def check_may_start(table: Table, peppers: Peppers, *, name: str, identity: str) -> Facts | None:
    """What the node that leads, another one than `name`, says of itself; None: nobody is known to lead. Raises
    Refusal(CONFLICT) where it was removed, KeyFileError where the one that leads has another pepper."""
    lease: Lease | None = None
    rows: Rows = {}
    try:
        with trio.move_on_after(PATIENCE_SECONDS):
            lease, rows = await _read(table)
    except TableError:
        return None
    why_not = members_in(rows).why_not(name, identity)
    if why_not is not None:
        raise Refusal("CONFLICT", why_not)
    leader = _leader(lease, rows)
    if leader is None or leader.name == name:
        return None
    number = differing_pepper(pepper_digests(peppers), leader.peppers)
    if number is not None:
        raise KeyFileError(
            f"{pepper_name(int(number))}: is another one than that of {leader.name}, which leads; all nodes have the "
            "same: make this one anew by `node add` and `node join`"
        )
    return leader


async def _read(table: Table) -> tuple[Lease | None, Mapping[str, Mapping[str, object]]]:
    async with connected(table) as connection:
        return await connection.lease(), await connection.nodes()


def _leader(lease: Lease | None, rows: Rows) -> Facts | None:
    if lease is None:
        return None
    led = read_address(lease.address)
    facts = None if led is None else from_row(led.name, rows.get(led.name, {}))
    return facts if isinstance(facts, Facts) else None
