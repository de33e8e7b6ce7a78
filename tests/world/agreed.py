"""A log that several machines have, with a list in memory for what they agree upon.

What is in the list stays, whatever happens to a machine: it stands for a database that keeps its promises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import trio

from spool import Log, PlainRecord, Received, Record, open_log
from spool.durability import Batch, Verdict
from tests.world.disk import FakeDisk


def received(records: Sequence[Record], previous_chain: bytes) -> Received:
    """One batch, as another machine is given it."""
    return Received(
        first_seq=records[0].seq,
        previous_chain=previous_chain,
        chain=records[-1].chain,
        records=[
            PlainRecord(record.skeleton, record.payload, record.payload_sha256, record.time_us)
            for record in records
        ],
    )


class InMemory:
    """A `Durability`: a batch is durable when it stands in the list of `agreed`, and then in the log's own file.

    `answers` are given first, one to each batch: a verdict, or an error that is raised; only what is DURABLE is agreed
    upon. `asked` has all batches that it was asked for. It waits while it is shut.
    """

    def __init__(self, log: Log, agreed: list[Received], answers: Iterable[Verdict | Exception] = ()) -> None:
        self._log = log
        self._agreed = agreed
        self.answers = deque(answers)
        self.asked: list[Batch] = []
        self.opened = trio.Event()
        self.opened.set()
        self.batch_bytes_wanted: int | None = None
        self.sync_seconds_last = 0.0

    def shut(self) -> None:
        self.opened = trio.Event()

    async def make_durable(self, batch: Batch) -> Verdict:
        self.asked.append(batch)
        await self.opened.wait()
        answer = self.answers.popleft() if self.answers else Verdict.DURABLE
        if isinstance(answer, Exception):
            raise answer
        if answer is Verdict.DURABLE:
            self._agreed.append(received(batch.records, batch.previous_chain))
            await self._log.write_unsynced(batch)
        return answer


#: What the machine with this disk and all others agree upon.
_AGREED: WeakKeyDictionary[FakeDisk, list[Received]] = WeakKeyDictionary()


@asynccontextmanager
async def open_leading(directory: Path, *, disk: FakeDisk, **options: Any) -> AsyncIterator[Log]:
    """As `open_log`, of a machine that follows until it has all that was agreed upon, and then leads."""
    agreed = _AGREED.setdefault(disk, [])
    async with open_log(directory, disk=disk, follows=True, **options) as log:
        await log.receive([batch for batch in agreed if batch.first_seq > log.last_seq])
        log.lead(InMemory(log, agreed))
        yield log
