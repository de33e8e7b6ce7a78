"""Three relays in processes of their own are upgraded one by one while clients send: nobody is told anything but
200 and 503, nothing that was acknowledged is lost, and what is new is written when the last one reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
import trio

from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.nodes.test_processes import check_logs_are_one
from tests.service.test_kill_under_load import by_message, wait_delivered
from tests.world.http import Answer, NoAnswerError, open_http
from tests.world.mx import open_mx
from tests.world.newer_relay import NEWER
from tests.world.node_processes import NodeProcesses
from tests.world.postgres import Servers, open_servers
from tests.world.process import RelayProcess

beside = trio.to_thread.run_sync
CLIENTS = 4
#: Between one node's upgrade and the next one's.
ANSWERS = 25
SECONDS_MAX = 300


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


class Clients:
    """Each sends again and again, at another node when one does not answer or says 503, by the same Idempotency-Key
    until it is told 200."""

    def __init__(self, nodes: NodeProcesses, credentials: dict[str, str]) -> None:
        #: messageId -> recipient, from every 200 that was read.
        self.told: dict[int, str] = {}
        self._nodes = nodes
        self._credentials = credentials
        self._sent = 0
        self._news = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(self._client, number)

    async def more(self, answers: int) -> None:
        wanted = len(self.told) + answers
        while len(self.told) < wanted:
            await self._news.wait()

    async def _client(self, number: int) -> None:
        while True:
            self._sent += 1
            to = f"friend-{self._sent}@example.com"
            while (answer := await self._ask(self._nodes.all[number % 3], to)) is None:
                number += 1
                await trio.sleep(0.05)  # as a client that is told to come again
            (accepted,) = answer.json()["accepted"]
            assert self.told.setdefault(accepted["messageId"], to) == to
            self._news.set()
            self._news = trio.Event()

    async def _ask(self, node: RelayProcess, to: str) -> Answer | None:
        try:
            async with open_http(node.address) as http:
                answer = await http.post_send({**self._credentials, "Idempotency-Key": to}, to=[to])
        except (NoAnswerError, OSError):
            return None
        assert answer.status in (200, 503), answer
        return answer if answer.status == 200 else None


def versions_in(node: RelayProcess) -> dict[str, list[int]]:
    """Of what has a newer version, in the log's order."""
    found: dict[str, list[int]] = {name: [] for name in NEWER}
    with LogReader(node.directory / LOG_DIRECTORY) as reader:
        for record in reader.read(1):
            skeleton = cbor2.loads(record.skeleton)
            if skeleton["type"] in found:
                found[skeleton["type"]].append(skeleton["v"])
    return found


def is_all_new(node: RelayProcess) -> bool:
    return all(versions[-1:] == [NEWER[name]] for name, versions in versions_in(node).items())


def upgrade(node: RelayProcess) -> None:
    assert node.stop() == 0
    node.run_from_now_on("-m", "tests.world.newer_relay")
    node.start()


@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize("leader_last", [True, False])
def test_nodes_are_upgraded_one_by_one_while_clients_send(
    tmp_path: Path, servers: Servers, leader_last: bool
) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            nodes = await beside(
                lambda: NodeProcesses(tmp_path, servers, route=mx.address, retry="delays_seconds = [1]")
            )
            with nodes.running():
                leader = await beside(nodes.wait_led)
                clients = Clients(nodes, await beside(leader.enrol))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(clients.run)
                    await clients.more(ANSWERS)
                    for node in sorted(nodes.all, key=lambda node: (node is leader) == leader_last):
                        await beside(upgrade, node)
                        await clients.more(ANSWERS)
                    # What all can read is said each second, and read each second; and who follows is a moment later.
                    while not all([await beside(is_all_new, node) for node in nodes.all]):
                        await clients.more(ANSWERS)
                    nursery.cancel_scope.cancel()
                await wait_delivered(mx, clients.told)
                for node in nodes.all:
                    assert await beside(node.stop) == 0
            assert mx.violations == []
            received = by_message(mx.messages)
            for message_id, to in clients.told.items():
                assert {copy.rcpt_to for copy in received[message_id]} == {(to,)}
            for node in nodes.all:
                assert node.log_lines("node.needs_upgrade") == []
                for name, versions in versions_in(node).items():
                    assert versions == sorted(versions), name
                    assert {versions[0], versions[-1]} == {NEWER[name] - 1, NEWER[name]}
            check_logs_are_one([node.directory for node in nodes.all])

    trio.run(main)
