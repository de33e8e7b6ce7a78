"""Three relays in processes of their own, and three servers of PostgreSQL: an erasure reaches all of them, and a node
whose rows have gone is filled from another one by a command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from relay.config import load_config, load_node
from relay.file_names import LOG_DIRECTORY
from relay.nodes.database import open_table
from tests.nodes.test_processes import check_logs_are_one
from tests.world.directories import names_in
from tests.world.mx import open_mx
from tests.world.node_processes import NodeProcesses, send_until_taken
from tests.world.postgres import Servers, open_servers
from tests.world.removals import FRIEND

SECONDS_MAX = 240


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


async def drop_rows(directory: Path) -> int:
    """As who leads does, when all are old enough. Returned: the last sequence number then."""
    config = load_config(directory)
    assert config.nodes is not None
    table = open_table(directory, config.nodes, load_node(directory))
    keeping = await table.keep()
    await keeping.begin_part()
    head = await keeping.head()
    assert head is not None
    assert await keeping.drop_through(head.last_seq) >= 1
    await keeping.close()
    return head.last_seq


def is_named(directory: Path, address: str) -> bool:
    return bool(names_in(directory / LOG_DIRECTORY, address))


@pytest.mark.timeout(SECONDS_MAX)
def test_erased_at_one_node_it_is_gone_at_all_and_a_node_that_was_away_is_filled(
    tmp_path: Path, servers: Servers
) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            beside = trio.to_thread.run_sync
            nodes = await beside(lambda: NodeProcesses(tmp_path, servers, route=mx.address))
            with nodes.running():
                leader = await beside(nodes.wait_led)
                credentials = await beside(leader.enrol)
                await send_until_taken(leader, credentials, FRIEND)
                follower, away = (node for node in nodes.all if node is not leader)
                await beside(
                    leader.wait_until, lambda: b"message.sent" in log_of(away.directory), "has what is sent"
                )
                assert all(is_named(node.directory, FRIEND) for node in nodes.all)

                # Ordered where it is not led.
                erased = await beside(
                    follower.command, "log", "erase", "--recipient", FRIEND, "--reason", "ticket 1"
                )
                assert "Removed the personal data of 1 message." in erased
                assert "Not everywhere yet: the database has rows from sequence" in erased
                assert "Not everywhere yet: node" not in erased
                assert not any(is_named(node.directory, FRIEND) for node in nodes.all)

                # Away until its rows have gone.
                assert await beside(away.stop) == 0
                await send_until_taken(leader, credentials, "late@example.com")
                await beside(
                    leader.wait_until,
                    lambda: log_of(follower.directory).count(b"message.sent") == 2,
                    "has what is sent",
                )
                gone = await drop_rows(leader.directory)
                await send_until_taken(leader, credentials, "later@example.com")
                await beside(away.start)
                await beside(away.wait_logged, "node.database_trouble")
                assert "`atmos-relay node fill DIR --from NAME`" in away.output
                assert await beside(away.stop) == 0

                filled = await beside(away.command, "node", "fill", "--from", follower.directory.name)
                assert f"{away.directory} has the log up to sequence" in filled
                await beside(away.start)
                await beside(
                    away.wait_until,
                    lambda: log_of(away.directory).count(b"message.sent") == 3,
                    "follows again",
                )
                compared = await beside(
                    away.command, "log", "verify", "--against", leader.directory.name, "--json"
                )
                against = json.loads(compared)["against"]
                assert against["firstDifferent"] is None
                assert against["comparedThrough"] > gone
                for node in nodes.all:
                    assert await beside(node.stop) == 0
            assert mx.violations == []
            assert len(mx.messages) == 3
            check_logs_are_one([node.directory for node in nodes.all])

    trio.run(main)


def log_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((directory / LOG_DIRECTORY).glob("*.seg")))
