"""Machines that share one log over PostgreSQL: what the others show over the database in memory, in a few ways."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
import trio

from spool import Entry, Record
from tests.world.postgres import Servers
from tests.world.replicated import Node, open_node
from tests.world.servers import FIRST_HEAD
from tests.world.tables import LITTLE_PATIENCE, DatabaseInPostgres, found

APPENDS = 60


def entries(number: int) -> list[Entry]:
    return [Entry(b"skeleton %d" % number, b"payload %d" % number), Entry(b"beside %d" % number, None)]


async def follows(node: Node, seq: int) -> list[Record]:
    """Until it has come so far; all of its log."""
    records = []
    async with aclosing(node.log.follow(1)) as following:
        async for record in following:
            records.append(record)
            if record.seq == seq:
                break
    return records


def key(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(r.seq, r.chain, r.time_us, r.skeleton, r.payload) for r in records]


@pytest.mark.parametrize("failure", ["none", "failover", "restart", "standbys stopped for a while"])
def test_a_follower_has_what_the_leader_has_whatever_fails(servers: Servers, failure: str) -> None:
    database = DatabaseInPostgres(servers)
    database.patience = LITTLE_PATIENCE

    def restart() -> None:
        servers.primary.kill()
        servers.primary.start()

    def stop_for_a_while() -> None:
        database.stall_standbys()
        database.go_on()

    failures: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "failover": servers.fail_over,
        "restart": restart,
        "standbys stopped for a while": stop_for_a_while,
    }

    async def main() -> None:
        await found(database.table(), FIRST_HEAD)
        async with (
            open_node(database, "anna") as anna,
            open_node(database, "bert") as bert,
            trio.open_nursery() as nursery,
        ):
            await anna.lead()
            nursery.start_soon(anna.renew_lease, 0.5)
            nursery.start_soon(bert.following.run)
            appended: list[Record] = []
            for number in range(APPENDS):
                if number == APPENDS // 2:
                    nursery.start_soon(trio.to_thread.run_sync, failures[failure])
                appended += await anna.log.append(entries(number))
            with trio.fail_after(60):
                have = await follows(bert, appended[-1].seq)
            assert key(have) == key(appended) == key(list(anna.log.read(1)))
            nursery.cancel_scope.cancel()
        await anna.leading.close()

    database.run(main)
    servers.mend()
    servers.drop_database(database.conninfo)
