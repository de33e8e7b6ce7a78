"""kill -9 at each statement of a take-over and of an append, against PostgreSQL: no acknowledged mail is lost, and all
nodes have one log.

For all statements and moments: `KILLED_AT=all python -m pytest tests/nodes/test_killed_at_statements.py`. Otherwise
those that tell most are tried.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.nodes.test_processes import ANSWERS, SECONDS_MAX, Clients, check_logs_are_one
from tests.service.test_kill_under_load import by_message, wait_delivered
from tests.world.mx import Mx, open_mx
from tests.world.node_processes import NodeProcesses
from tests.world.postgres import Servers, open_servers
from tests.world.process import RelayProcess

ALL: Final = os.environ.get("KILLED_AT") == "all"
TAKING_OVER: Final = (
    ("take_head", "before"),
    ("take_head", "committed"),
    ("take_head", "after"),
    ("take_lease", "before"),
    ("take_lease", "after"),
    ("append", "before"),
    ("append", "committed"),
    ("append", "after"),
    ("write_own", "before"),
    ("write_own", "after"),
)
APPENDING: Final = (
    ("append", "before"),
    ("append", "committed"),
    ("append", "after"),
    ("write_own", "before"),
    ("write_own", "after"),
)
SLICE: Final = {("take_head", "committed"), ("append", "committed"), ("write_own", "before")}
#: Of a leader's appends: it has led for a while, and clients send.
NUMBER: Final = 25
ONE_DELAY: Final = {"retry": "delays_seconds = [1]"}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


def plant(node: RelayProcess, call: str, moment: str, number: int) -> None:
    node._command[1:] = ["-m", "tests.world.killed_at", call, moment, str(number)]


def heal(node: RelayProcess) -> None:
    node._command[1:] = ["-m", "relay"]


class PatientClients(Clients):
    async def see_ended(self, node: RelayProcess) -> None:
        """Of a process that kills itself, sockets end a moment before it does."""
        await until_killed(node)


async def until_killed(node: RelayProcess) -> None:
    assert await trio.to_thread.run_sync(node.wait) == -signal.SIGKILL


async def end_well(mx: Mx, clients: Clients, nodes: Sequence[RelayProcess]) -> None:
    """All that was acknowledged is delivered, and nothing twice but what was being sent."""
    await clients.send(ANSWERS)
    await wait_delivered(mx, clients.told)
    for node in nodes:
        assert await trio.to_thread.run_sync(node.stop) == 0
    check_logs_are_one([node.directory for node in nodes])
    assert mx.violations == []
    copies = by_message(mx.messages)
    assert all(len({copy.data for copy in each}) == 1 for each in copies.values())


@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize(("call", "moment"), [one for one in TAKING_OVER if ALL or one in SLICE])
def test_who_takes_over_is_killed_and_the_next_one_goes_on(
    tmp_path: Path, servers: Servers, call: str, moment: str
) -> None:
    async def main() -> None:
        beside = trio.to_thread.run_sync
        async with open_mx() as mx:
            nodes = await beside(lambda: NodeProcesses(tmp_path, servers, route=mx.address, **ONE_DELAY))
            one, two, _ = nodes.all
            nodes.all = [one, two]
            with one.running():
                assert await beside(nodes.wait_led) is one
                plant(two, call, moment, 1)
                with two.running():
                    clients = Clients(nodes, await beside(one.enrol))
                    await clients.send(ANSWERS)
                    one.kill()
                    await until_killed(two)
                    heal(two)
                    await beside(two.start)
                    await beside(one.start)
                    await end_well(mx, clients, nodes.all)

    trio.run(main)


@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize(("call", "moment"), [one for one in APPENDING if ALL or one in SLICE])
def test_a_leader_is_killed_while_it_appends_and_another_goes_on(
    tmp_path: Path, servers: Servers, call: str, moment: str
) -> None:
    async def main() -> None:
        beside = trio.to_thread.run_sync
        async with open_mx() as mx:
            nodes = await beside(lambda: NodeProcesses(tmp_path, servers, route=mx.address, **ONE_DELAY))
            one, two, _ = nodes.all
            nodes.all = [one, two]
            plant(one, call, moment, NUMBER)
            with one.running():
                assert await beside(nodes.wait_led) is one
                with two.running():
                    clients = PatientClients(nodes, await beside(one.enrol))
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(clients.send, 4 * ANSWERS)
                        await until_killed(one)
                    heal(one)
                    await beside(one.start)
                    await end_well(mx, clients, nodes.all)

    trio.run(main)
