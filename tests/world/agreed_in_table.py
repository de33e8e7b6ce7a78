"""A log that several machines have, agreed upon in a table of the database in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from spool import Log, open_log
from spool.replicated.following import Following
from spool.replicated.leading import Replicated, take_over
from spool.replicated.table import HOLDER_OCTETS
from tests.world.batches import TransparentSeal
from tests.world.disk import FakeDisk
from tests.world.servers import FIRST_HEAD
from tests.world.table import FakeDatabase

#: Of the machine with this disk, and of all others.
_DATABASES: WeakKeyDictionary[FakeDisk, FakeDatabase] = WeakKeyDictionary()


@asynccontextmanager
async def open_leading_by_table(directory: Path, *, disk: FakeDisk, **options: Any) -> AsyncIterator[Log]:
    """As `open_log`, of a machine that takes the head, applies what it has not, and leads. A database is founded for a
    disk that has none yet, where the log ends."""
    seal = TransparentSeal()
    async with open_log(directory, disk=disk, follows=True, **options) as log:
        if disk not in _DATABASES:
            first = FIRST_HEAD._replace(last_seq=log.last_seq, chain=log.last_chain)
            _DATABASES[disk] = FakeDatabase(head=first)
        database = _DATABASES[disk]
        table = database.table()
        head = database.shown.head
        assert head is not None
        taken = await take_over(table, head, bytes(HOLDER_OCTETS))
        assert taken is not None
        await Following(table, log, seal=seal).catch_up(*taken)
        log.lead(Replicated(table, *taken, write_own=log.write_unsynced, seal=seal))
        yield log
