"""Which versions of events a node reads and writes, while nodes are upgraded one by one.

The invariant: **no node is given an event that it cannot read, as far as it has said what it can; and what it is given
all the same, it does not take.** Whoever leads looks at the rows of all nodes at each append, and writes what some
cannot read yet as they can, or refuses it (`relay.store.CommonStore`, `relay.codec.DOWNCASTS`). As soon as the last
node says that it can, the new version is written. From then on no node can go back to an older one.

There is still a way to meet an event that cannot be read here: this node was brought back to an older version, or was
away for so long that nobody waited for it. It stops in front of the row that holds it. Nothing of that row is in its
log or in its views; it goes on serving what it has, says what it needs (`needs_upgrade`), and tries the row again and
again, though only another version of the relay can read it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from relay.codec import NotRead, Skeletons, versions_read_here
from relay.nodes.facts import not_read_by_all, read_rows
from relay.refusals import Refusal
from spool.received import Received
from spool.replicated.rows import DamagedRowError
from spool.replicated.table import Row

logger = logging.getLogger(__name__)

#: An upgrade takes its time.
RETRY_AFTER_SECONDS: Final = 60


class UnreadRowError(DamagedRowError):
    """The row is whole, and an older version of the relay than the one that wrote it has met it."""

    def __str__(self) -> str:
        return self.problem


class Versions:
    """Of one node. `rows`: of all nodes, as they were read last, another mapping each time. `skeletons`: of what is
    folded into its views."""

    def __init__(
        self,
        rows: Callable[[], Mapping[str, Mapping[str, object]]],
        skeletons: Skeletons,
        *,
        clock: Callable[[], int],
        tail_hours: Callable[[], int],
    ) -> None:
        #: Type of an event -> the highest version that is read here.
        self.reads = versions_read_here()
        #: What cannot be read here, in a sentence about this node.
        self.needs_upgrade: str | None = None
        self._rows = rows
        self._skeletons = skeletons
        self._clock = clock
        self._tail_hours = tail_hours
        self._looked_at: Mapping[str, Mapping[str, object]] | None = None
        self._not_read: Mapping[str, NotRead] = {}

    def not_read_by_all(self) -> Mapping[str, NotRead]:
        """As `relay.store.CommonStore.not_read_by_all`."""
        rows = self._rows()
        if rows is not self._looked_at:
            found = not_read_by_all(read_rows(rows), self._clock(), self._tail_hours())
            self._tell(found)
            self._looked_at, self._not_read = rows, found
        return self._not_read

    def why_not_following(self) -> Refusal | None:
        """None: all that came could be read."""
        if self.needs_upgrade is None:
            return None
        sentence = f"this node runs too old a version of the relay: {self.needs_upgrade}"
        return Refusal("TEMPORARILY_UNAVAILABLE", sentence, retry_after_seconds=RETRY_AFTER_SECONDS)

    def check(self, row: Row, batch: Received) -> None:
        """Before anything is done with a row. Raises `UnreadRowError`."""
        for seq, record in enumerate(batch.records, row.first_seq):
            what = self._skeletons.unread(seq, record.skeleton, self.reads)
            if what is not None:
                self._stop_at(row, f"it cannot read event {seq}, {what}, and takes no more: upgrade it")
        self.needs_upgrade = None

    def _stop_at(self, row: Row, sentence: str) -> None:
        if sentence != self.needs_upgrade:
            logger.error("node.needs_upgrade", extra={"because": sentence})
        self.needs_upgrade = sentence
        raise UnreadRowError(row, sentence)

    def _tell(self, found: Mapping[str, NotRead]) -> None:
        """When it begins, and when it is over."""
        if found and not self._not_read:
            name, first = next(iter(found.items()))
            logger.info(
                "node.writes_as_before", extra={"because": first.because, "type": name, "types": len(found)}
            )
        elif self._not_read and not found:
            logger.info("node.writes_as_new")
