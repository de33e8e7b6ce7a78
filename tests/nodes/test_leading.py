"""A node that leads acts while nobody can take its lease for stale, however long answers of the database take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from relay.nodes.leading import Leading
from spool.replicated.leading import Replicated, take_over
from spool.replicated.table import HOLDER_OCTETS, Connection, Head
from tests.world.relay import run
from tests.world.servers import FIRST_HEAD, put_head
from tests.world.table import FakeDatabase

LEASE_SECONDS = 2.0
ANSWER_SECONDS = 0.75


async def _nowhere(batch: object) -> None:
    """No file of its own."""


@asynccontextmanager
async def holding_the_head(database: FakeDatabase) -> AsyncIterator[tuple[Leading, Connection, Head]]:
    """Who has just taken it, by which connection, and as it was then."""
    table = database.table()
    taken = await take_over(table, FIRST_HEAD, b"h" * HOLDER_OCTETS)
    assert taken is not None
    replicated = Replicated(table, *taken, write_own=_nowhere)
    yield Leading(table, replicated, address="", lease_seconds=LEASE_SECONDS), *taken
    await replicated.close()


def test_a_lease_counts_from_before_its_renewal_was_sent() -> None:
    """Others may have read it when it was written: the answer comes later."""

    async def main() -> None:
        database = FakeDatabase()
        async with holding_the_head(database) as (leading, connection, _):
            database.latency_seconds = ANSWER_SECONDS
            sent_at = trio.current_time()
            await leading.first(connection, None)
            assert trio.current_time() == sent_at + 2 * ANSWER_SECONDS
            assert leading.is_sure
            await trio.sleep_until(sent_at + LEASE_SECONDS)
            assert not leading.is_sure
            with trio.move_on_after(100) as waiting:
                await leading.wait_until_sure()
            assert waiting.cancelled_caught

    run(main)


def test_a_renewal_counts_when_a_standby_has_it() -> None:
    async def main() -> None:
        database = FakeDatabase()
        async with holding_the_head(database) as (leading, connection, _), trio.open_nursery() as nursery:
            await leading.first(connection, None)
            database.servers.stall_standbys()
            nursery.start_soon(leading.run)
            await trio.sleep(LEASE_SECONDS)
            assert not leading.is_sure
            # Whoever reads it sees that somebody is there.
            before = database.shown.lease
            await trio.sleep(LEASE_SECONDS)
            assert database.shown.lease != before
            assert not leading.is_sure
            database.servers.go_on()
            await leading.wait_until_sure()
            nursery.cancel_scope.cancel()

    run(main)


def test_a_renewal_leaves_an_old_primary_that_shows_a_later_epoch_of_ours() -> None:
    """What we had asked of it last came to nothing for all others."""

    async def main() -> None:
        database = FakeDatabase()
        async with holding_the_head(database) as (leading, connection, head), trio.open_nursery() as nursery:
            await leading.first(connection, None)
            nursery.start_soon(leading.run)
            await trio.sleep(LEASE_SECONDS)
            old = database.servers.part()
            old.write(put_head(head._replace(epoch=head.epoch + 1)))
            await trio.sleep(2 * LEASE_SECONDS)
            assert leading.is_sure
            nursery.cancel_scope.cancel()

    run(main)
