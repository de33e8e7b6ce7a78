"""Nodes of a relay without a database: what one machine's log has is given to another, a batch at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from relay.config_nodes import NODE_FILE
from relay.core import Core, open_core
from relay.file_names import LOG_DIRECTORY
from relay.surroundings import Surroundings
from spool import LogReader, PlainRecord, Received
from spool.disk import Disk
from spool.durability import Batch, Verdict
from spool.log import Log
from spool.record import CHAIN_START
from spool.replicated.table import HOLDER_OCTETS, Row
from tests.world.relay import call_here, make_directory, virtual_clock
from tests.world.table import FakeDatabase

NODE = """
bind = "127.0.0.1:0"
address = "127.0.0.1:1"
database = "dbname=relay"
"""


def make_node(directory: Path, name: str = "two", settings: str = "[nodes]\n") -> Path:
    """A node's data directory. Its keys are those of `tests.world.relay.make_directory`."""
    make_directory(directory, settings)
    (directory / NODE_FILE).write_text(f'name = "{name}"{NODE}')
    return directory


def received_from(directory: Path, from_seq: int = 1) -> list[Received]:
    """The batches of a data directory's log, from the one that begins with `from_seq`, as another machine gets them."""
    batches = []
    with LogReader(directory / LOG_DIRECTORY) as reader:
        chain = CHAIN_START if from_seq == 1 else reader.get(from_seq - 1).chain
        for first_seq, group in groupby(reader.read(from_seq), lambda record: record.batch_seq):
            records = list(group)
            plain = [
                PlainRecord(record.skeleton, record.payload, record.payload_sha256, record.time_us)
                for record in records
            ]
            batches.append(Received(first_seq, chain, records[-1].chain, plain))
            chain = records[-1].chain
    return batches


@asynccontextmanager
async def open_node(directory: Path, disk: Disk | None = None) -> AsyncIterator[Core]:
    """The core of a node, which follows; `disk` is its log's."""
    more: dict[str, Any] = {} if disk is None else {"disk": disk}
    async with open_core(directory, Surroundings(clock=virtual_clock, offload=call_here, **more)) as core:
        yield core


class Alone:
    """A `Durability`: what is in the machine's own file counts as agreed upon."""

    batch_bytes_wanted = None
    sync_seconds_last = 0.0

    def __init__(self, log: Log) -> None:
        self._log = log

    async def make_durable(self, batch: Batch) -> Verdict:
        await self._log.write_unsynced(batch)
        return Verdict.DURABLE


def lead_alone(core: Core) -> None:
    log = core.store.of_several_machines
    log.lead(Alone(log))


async def agree(database: FakeDatabase, batches: Sequence[Received]) -> None:
    """Put rows for these batches into the table, a part for each, in which nobody is to look."""
    connection = await database.table().connect()
    holder = b"h" * HOLDER_OCTETS
    head = await connection.take_head(await connection.head(), holder)
    assert head is not None
    keeping = await database.table().keep()
    for batch in batches:
        row = Row(
            batch.first_seq, batch.last_seq, head.epoch, batch.previous_chain, batch.chain, b"data", b""
        )
        assert await connection.append(row, holder)
        await keeping.begin_part()
    await keeping.close()
    await connection.close()
