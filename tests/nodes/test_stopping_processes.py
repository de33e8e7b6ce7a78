"""Relays in processes of their own end soon when they are told to, while all servers of the database stand still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.node_processes import NodeProcesses, send_until_taken
from tests.world.postgres import Servers, open_servers
from tests.world.process import PATIENCE_SECONDS, RelayProcess

#: Far more than any of them may take.
GRACE = "grace_seconds = 120"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


async def until_in_timeline(
    relay: RelayProcess, credentials: dict[str, str], message_id: int, event: str
) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with open_http(relay.address) as http:
            while True:
                answer = await http.request("GET", f"/v1/messages/{message_id}", credentials)
                # Or nobody leads at this very moment, so that it cannot be said.
                if answer.status == 200 and event in [entry["type"] for entry in answer.json()["timeline"]]:
                    return
                await trio.sleep(0.05)  # other processes tell nobody


@pytest.mark.parametrize("service", ["edges = 0", "edges = 1\ncouriers = 1"])
def test_they_end_without_the_database_and_without_their_grace(
    tmp_path: Path, servers: Servers, service: str
) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            beside = trio.to_thread.run_sync
            nodes = await beside(
                lambda: NodeProcesses(tmp_path, servers, route=mx.address, service=f"{service}\n{GRACE}")
            )
            with nodes.running():
                leader = await beside(nodes.wait_led)
                credentials = await beside(leader.enrol)
                message_id = await send_until_taken(leader, credentials, "hang-after-dot@example.com")
                await until_in_timeline(leader, credentials, message_id, "attempt.started")
                for server in servers.all:
                    server.stop()
                try:
                    for node in nodes.all:
                        node.terminate()
                    for node in nodes.all:
                        assert await beside(node.wait) == 0, node.output
                        assert not node.log_lines("service.grace_over")
                finally:
                    for server in servers.all:
                        server.go_on()
                assert leader.log_lines("node.gave_up")
                # Whoever leads next has it named.
                await beside(leader.start)
                await beside(leader.wait_until, lambda: nodes.times_led(leader) == 2, "leads")
                await until_in_timeline(leader, credentials, message_id, "attempt.interrupted")

    trio.run(main)
