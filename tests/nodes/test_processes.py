"""Three relays in processes of their own, and three servers of PostgreSQL: after kill -9 of the one that leads nothing
that was acknowledged is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.service.test_kill_under_load import by_message, wait_delivered
from tests.world.http import NoAnswerError, open_http
from tests.world.mx import open_mx
from tests.world.node_processes import NodeProcesses
from tests.world.postgres import Servers, open_servers
from tests.world.process import RelayProcess

CONNECTIONS = 4
#: Before the leader is killed, and after another leads.
ANSWERS = 40
SECONDS_MAX = 240


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


class Clients:
    """They send at all nodes that answer, and note what they were told."""

    def __init__(self, nodes: NodeProcesses, credentials: dict[str, str]) -> None:
        #: messageId -> recipient, from every 200 that was read.
        self.told: dict[int, str] = {}
        self._nodes = nodes
        self._credentials = credentials
        self._sent = 0

    async def send(self, answers: int) -> None:
        wanted = len(self.told) + answers
        async with trio.open_nursery() as nursery:
            for number in range(CONNECTIONS):
                node = self._nodes.all[number % len(self._nodes.all)]
                nursery.start_soon(self._send, node, wanted)

    async def _send(self, node: RelayProcess, wanted: int) -> None:
        try:
            async with open_http(node.address) as http:
                while len(self.told) < wanted:
                    self._sent += 1
                    to = f"friend-{self._sent}@example.com"
                    answer = await http.post_send(self._credentials, to=[to], text="Hi\n")
                    if answer.status != 200:
                        assert answer.status == 503, answer
                        await trio.sleep(0.05)  # as a client that is told to come again
                        continue
                    (accepted,) = answer.json()["accepted"]
                    self.told[accepted["messageId"]] = to
        except (NoAnswerError, OSError):
            await self.see_ended(node)

    async def see_ended(self, node: RelayProcess) -> None:
        """A connection broke."""
        assert not node.is_running


@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize("service", ["edges = 0", "edges = 1\ncouriers = 1"])
def test_a_leader_that_is_killed_loses_no_mail_and_all_logs_stay_one(
    tmp_path: Path, servers: Servers, service: str
) -> None:
    settings = {"retry": "delays_seconds = [1]", "service": service}

    async def main() -> None:
        async with open_mx() as mx:
            beside = trio.to_thread.run_sync
            nodes = await beside(lambda: NodeProcesses(tmp_path, servers, route=mx.address, **settings))
            with nodes.running():
                leader = await beside(nodes.wait_led)
                clients = Clients(nodes, await beside(leader.enrol))
                await clients.send(ANSWERS)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(clients.send, ANSWERS)
                    leader.kill()
                other = await beside(nodes.wait_led, 1)
                assert other is not leader
                await beside(leader.start)
                await clients.send(ANSWERS)
                await wait_delivered(mx, clients.told)
                for node in nodes.all:
                    assert await beside(node.stop) == 0
                for node in nodes.all:
                    await beside(node.command, "log", "verify", "--json")
            assert mx.violations == []
            # Twice only what was being sent when the leader was killed.
            copies = by_message(mx.messages)
            assert all(len({copy.data for copy in each}) == 1 for each in copies.values())
            check_logs_are_one([node.directory for node in nodes.all])

    trio.run(main)


@pytest.mark.timeout(SECONDS_MAX)
def test_a_leader_that_stood_still_ends_when_it_goes_on_and_follows_when_it_is_begun_again(
    tmp_path: Path, servers: Servers
) -> None:
    nodes = NodeProcesses(tmp_path, servers, route="127.0.0.1:1")
    with nodes.running():
        leader = nodes.wait_led()
        os.kill(leader.pid, signal.SIGSTOP)
        other = nodes.wait_led(1)
        assert other is not leader
        os.kill(leader.pid, signal.SIGCONT)
        assert leader.wait() == 75
        assert "another machine" in leader.output
        leader.start()
        other.enrol()
        for node in nodes.all:
            assert node.stop() == 0
    check_logs_are_one([node.directory for node in nodes.all])


def check_logs_are_one(directories: list[Path]) -> None:
    """As far as each goes: who was stopped first may lack what the others still had to say."""
    logs = []
    for directory in directories:
        with LogReader(directory / LOG_DIRECTORY) as reader:
            logs.append([record.chain for record in reader.read(1)])
    longest = max(logs, key=len)
    for log in logs:
        assert log == longest[: len(log)]
