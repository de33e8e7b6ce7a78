"""Durable on this machine's disk: the batch is written behind the others and synced, before anything else happens.

The invariant: **DURABLE is returned after the fdatasync of the very handle that the batch was written by.** It is never
tried a second time: after a failed fsync the kernel may believe the lost pages clean.
"""

from __future__ import annotations

from spool.disk import Offload
from spool.durability import Batch, Verdict
from spool.open_segment import OpenSegment


class DiskDurability:
    """A `Durability`. `beside` is where it waits for the disk."""

    def __init__(self, segment: OpenSegment, beside: Offload) -> None:
        self._segment = segment
        self._beside = beside
        self.batch_bytes_wanted: int | None = None
        self.sync_seconds_last = 0.0

    async def make_durable(self, batch: Batch) -> Verdict:
        self.sync_seconds_last = await self._beside(self._segment.write, batch.data)
        return Verdict.DURABLE
