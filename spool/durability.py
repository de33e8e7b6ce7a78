"""How a batch becomes durable: what the log's writer asks, in whatever form.

The invariant: **what `make_durable` has returned DURABLE for stays, whatever fails next; what it has returned ABSENT
for is nowhere, and never will be.** There is no third answer. Whoever cannot know yet goes on until it does, or raises.

The writer has one batch under way at a time, so this is asked for one at a time, and in the order of the log.

There are two forms. `spool.disk_durability` writes the batch behind the others in this machine's file and syncs it.
`spool.replicated.leading` makes it one row of a table that several machines read, and only then writes it to this
machine's file, which need not be synced for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from spool.record import Record


class Batch(NamedTuple):
    """Some records that become durable together, or not at all."""

    records: Sequence[Record]
    """As they are to be found in this machine's file."""
    data: bytes
    """Their bytes in this machine's file."""
    previous_chain: bytes
    """The chain value of the record before them."""


class Verdict(Enum):
    DURABLE = "it is there, and stays"
    ABSENT = "it is not there, and will never come: encode it anew, of what is still wanted, or leave it"


class Durability(Protocol):
    """Belongs to the log's writer."""

    @property
    def batch_bytes_wanted(self) -> int | None:
        """Appends are put together up to so many bytes; what is larger is one of its own. None: as many as may be."""

    @property
    def sync_seconds_last(self) -> float:
        """How long the last batch took to become durable: what the engine needed for it, without our own work."""

    async def make_durable(self, batch: Batch) -> Verdict:
        """Make the batch durable. The writer calls it shielded: what is begun is waited for.

        Raises `LogDeposedError` where another machine has taken the place of this one: the batch is not there and this
        process may append nothing any more. Raises whatever else went wrong for good: the log is then poisoned.
        """
