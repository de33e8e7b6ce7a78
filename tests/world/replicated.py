"""Machines that have one log, over the database in memory: each with a fake disk, following, and leading when told to.

async with open_node(database, "anna") as anna, open_node(database, "bert") as bert:
    await anna.lead()
    nursery.start_soon(bert.following.run)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio

from spool import Entry, Log, Record
from spool.durability import Batch, Verdict
from spool.record import CHAIN_START
from spool.replicated.following import Following
from spool.replicated.leading import Replicated, take_over
from spool.replicated.rows import Seal, decode
from spool.replicated.table import HOLDER_OCTETS, Lease, Row, Table, TableError
from tests.world.disk import FakeDisk
from tests.world.spool import open_fake

POLL_SECONDS = 5.0


class Noting(Replicated):
    """Remembers the last thing that it has said of each batch, by its chain value. Encoded anew at the same moment, the
    same entries are the same batch again."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.verdicts: dict[bytes, Verdict] = {}

    async def make_durable(self, batch: Batch) -> Verdict:
        chain = batch.records[-1].chain
        self.verdicts.pop(chain, None)
        self.verdicts[chain] = verdict = await super().make_durable(batch)
        return verdict


class Reached(Protocol):
    """A database, as machines reach it by their names. `FakeDatabase` is one."""

    def table(self, name: str) -> Table: ...


class Node:
    """One machine. `table` is how it reaches the database for its appends, `beside` for all else."""

    def __init__(self, database: Reached, name: str, log: Log, seal: Seal | None) -> None:
        self.name = name
        self.log = log
        self.table = database.table(name)
        self.beside = database.table(f"{name}, beside")
        self.holder = name.encode().ljust(HOLDER_OCTETS, b".")
        self.seal = seal
        #: In words, or as they were raised.
        self.troubles: list[object] = []
        self.following = Following(
            self.beside, log, seal=seal, on_trouble=self.troubles.append, poll_seconds=POLL_SECONDS
        )
        self.leading: Noting
        #: How it leads.
        self.form: type[Noting] = Noting

    async def lead(self, **options: Any) -> None:
        """Take the head, apply what is missing, and lead. It is tried until it is done."""
        while not await self._try_to_lead(options):
            self.table.prefer_another_host()
            await trio.sleep(1)

    async def _try_to_lead(self, options: dict[str, Any]) -> bool:
        try:
            connection = await self.table.connect()
            known = await connection.head()
            await connection.close()
            taken = await take_over(self.table, known, self.holder)
            if taken is None:
                return False
            await self.following.catch_up(*taken)
        except TableError:
            return False
        defaults: dict[str, Any] = {
            "write_own": self.log.write_unsynced,
            "seal": self.seal,
            "on_trouble": self.troubles.append,
        }
        self.leading = self.form(self.table, *taken, **(defaults | options))
        self.log.lead(self.leading)
        return True

    async def renew_lease(self, seconds: float = POLL_SECONDS) -> None:
        """Write it again and again."""
        counter = 0
        while True:
            try:
                connection = await self.beside.connect()
                while True:
                    counter += 1
                    told = self.leading.witnessed
                    lease = Lease(told.epoch, self.holder, self.name, counter, told.seq, told.chain)
                    if not await connection.write_lease(lease):
                        await connection.close()
                        raise TableError("the lease is not written here")
                    await trio.sleep(seconds)
            except TableError:
                self.beside.prefer_another_host()
                await trio.sleep(1)


@asynccontextmanager
async def open_node(
    database: Reached,
    name: str,
    *,
    disk: FakeDisk | None = None,
    seal: Seal | None = None,
    **options: Any,
) -> AsyncIterator[Node]:
    async with open_fake(disk or FakeDisk(), follows=True, **options) as log:
        yield Node(database, name, log, seal)


def entries_of(rows: Sequence[Row], seal: Seal | None = None) -> list[Entry]:
    """What is in the table, in order. That each row is whole, and behind the last, is looked at as well."""
    entries: list[Entry] = []
    chain, seq = CHAIN_START, 1
    for row in rows:
        assert (row.first_seq, row.previous_chain) == (seq, chain)
        entries += [Entry(skeleton, payload) for skeleton, payload, *_ in decode(row, seal=seal).records]
        chain, seq = row.chain, row.last_seq + 1
    return entries


def assert_is_beginning(records: Sequence[Record], rows: Sequence[Row]) -> None:
    """A machine's log is what the table has, as far as it goes, and ends with a whole row."""
    chains = {row.last_seq: row.chain for row in rows}
    if records:
        assert chains.get(records[-1].seq) == records[-1].chain
    assert [Entry(record.skeleton, record.payload) for record in records] == entries_of(rows)[: len(records)]
