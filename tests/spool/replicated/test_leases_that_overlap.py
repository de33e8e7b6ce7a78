"""A renewal of one that held the head, and the first lease of one that has taken it, under way at the same time: one of
the two is refused. Else one would still act, by a lease that it saw renewed, while another has begun to."""

from __future__ import annotations

from functools import partial

import psycopg
import pytest
import trio

from spool.record import CHAIN_START
from spool.replicated.table import Connection, Head, Lease, Table
from tests.world.postgres import Servers
from tests.world.process import wait_until
from tests.world.tables import HOLDER, OTHER, DatabaseInPostgres, lead, take_and_close


@pytest.mark.parametrize("first", ["the renewal", "who has taken the head"])
def test_one_of_them_is_refused(servers: Servers, first: str) -> None:
    """The renewal has seen the head as it was, and waits for the lease's row, when the head is taken."""
    database = DatabaseInPostgres(servers)
    waits = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database.name}' AND wait_event_type = 'Lock'"

    async def main(table: Table, connection: Connection, head: Head) -> None:
        lease = Lease(head.epoch, HOLDER, "", 1, 0, CHAIN_START)
        assert await connection.take_lease(lease, None)
        renewed = lease._replace(counter=2)
        answers: list[bool] = []

        async def renew() -> None:
            answers.append(await connection.write_lease(renewed))

        # A session that has the row keeps both from it: for nobody, or for who has taken the head.
        with psycopg.connect(database.conninfo) as blocking:
            blocking.execute("SELECT one FROM replicated_log.lease FOR UPDATE")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(renew)
                await trio.to_thread.run_sync(
                    partial(wait_until, lambda: bool(servers.primary.execute(waits)), lambda: "it waits")
                )
                new = await take_and_close(table, head)
                assert new is not None
                if first != "the renewal":
                    blocking.execute(
                        "UPDATE replicated_log.lease SET epoch = %s, holder = %s, counter = 1",
                        (new.epoch, OTHER),
                    )
                blocking.commit()
        assert answers == [first == "the renewal"]
        theirs = Lease(new.epoch, OTHER, "", 1, 0, CHAIN_START)
        if first == "the renewal":
            assert not await connection.take_lease(theirs, lease)
            assert await connection.lease() == renewed
        else:
            assert await connection.lease() == theirs

    lead(database, main)
    servers.drop_database(database.conninfo)
