"""Logs on fake disks that follow another machine's, and what that one has appended."""

from __future__ import annotations

from functools import partial

from spool import Received, Record
from spool.record import CHAIN_START
from tests.world.agreed import received
from tests.world.disk import FakeDisk
from tests.world.spool import group, open_fake, read_all, run

follow_fake = partial(open_fake, follows=True)


def batches_of(disk: FakeDisk) -> list[Received]:
    """All that this log has, as another machine is given it."""
    found: list[Received] = []
    batch: list[Record] = []
    chain = CHAIN_START
    for record in read_all(disk):
        batch.append(record)
        if record.batch_end:
            found.append(received(batch, chain))
            chain, batch = record.chain, []
    return found


def appended_elsewhere(appends: int = 24) -> tuple[list[Record], list[Received]]:
    """Several segments full."""
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk) as log:
            for number in range(1, appends + 1):
                await log.append(group(number, 1 + number % 3))

    run(main)
    return read_all(disk), batches_of(disk)


def placeless(record: Record) -> Record:
    return record._replace(segment=0, offset=0)
