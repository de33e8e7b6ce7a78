"""Real edges that are killed and stopped: every 200 is true, nothing is half there, and the port is never closed."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from relay.codec import decode
from relay.events import MessageQueued
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader
from tests.api.test_stream_process import all_events, listen
from tests.world.checker import half_accepted
from tests.world.daemon import free_port
from tests.world.edge_processes import EdgeRelay, wait_dead
from tests.world.http import NoAnswerError, open_http
from tests.world.process import PATIENCE_SECONDS, make_process_directory
from tests.world.strangers import OPERATOR_MAILBOX

#: Nobody delivers: what is accepted is what this is about.
NOWHERE = "127.0.0.1:9"
CONNECTIONS = 8
KILLS = 4


#: A relay whose edges end as soon as they are begun.
WITH_BROKEN_EDGES = """
import runpy
from relay.edges import host
from relay.processes import keeper
host.Role = lambda name, module, *others: keeper.Role(name, "relay.edges.no_program", *others)
runpy.run_module("relay", run_name="__main__")
"""


def make_relay(
    tmp_path: Path, edges: int = 2, *, command: Sequence[str] = ("-m", "relay"), **settings: str
) -> tuple[EdgeRelay, dict[str, str]]:
    directory = make_process_directory(
        tmp_path / "data", route=NOWHERE, service=f"edges = {edges}", **settings
    )
    relay = EdgeRelay(directory, command=command)
    return relay, relay.enrol()


class Clients:
    """Connections that send, are opened again when they break, and know what they were told."""

    def __init__(self, relay: EdgeRelay, credentials: dict[str, str]) -> None:
        self.told: dict[int, str] = {}
        self.broken = 0
        self._relay = relay
        self._credentials = credentials
        self._dice = random.Random(1)
        self._told = trio.Event()

    async def send_for_ever(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            # A port that is closed for a moment would be an error here.
            async with open_http(self._relay.address) as http:
                try:
                    while True:
                        await self._send(http)
                except NoAnswerError:
                    self.broken += 1

    async def _send(self, http: Any) -> None:
        to = [f"friend-{self._dice.getrandbits(64):016x}@example.com" for _ in range(2)]
        answer = await http.post_send(self._credentials, to=to, text="x" * self._dice.randint(1, 20_000))
        assert answer.status == 200, answer
        for accepted in answer.json()["accepted"]:
            self.told[accepted["messageId"]] = accepted["recipient"]
        self._told.set()
        self._told = trio.Event()

    async def wait_told(self, more: int) -> None:
        wanted = len(self.told) + more
        while len(self.told) < wanted:
            await self._told.wait()


def check_the_log(directory: Path, told: dict[int, str]) -> None:
    with LogReader(directory / LOG_DIRECTORY) as reader:
        recorded = [decode(record) for record in reader.read(1)]
    assert half_accepted(recorded) == []
    queued = {
        record.seq: record.event.personal.address
        for record in recorded
        if isinstance(record.event, MessageQueued) and record.event.personal is not None
    }
    assert told.items() <= queued.items()


@pytest.mark.timeout(300)
def test_kill_9_under_load(tmp_path: Path) -> None:
    relay, credentials = make_relay(tmp_path)
    clients = Clients(relay, credentials)

    async def main() -> None:
        with trio.fail_after(240):
            async with trio.open_nursery() as nursery:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(clients.send_for_ever)
                for kill in range(KILLS):
                    await clients.wait_told(40)
                    name = f"edge {kill % 2 + 1}"
                    pid = await trio.to_thread.run_sync(relay.kill_edge, name)
                    await clients.wait_told(40)  # by the other
                    seconds = await trio.to_thread.run_sync(relay.wait_followed, name, pid)
                    assert seconds < 60, "a busy machine is slow, and this is more than that"
                nursery.cancel_scope.cancel()

    with relay.running():
        relay.wait_edges(2)
        trio.run(main)
        assert clients.broken
        assert relay.stop() == 0
        relay.command("log", "verify", "--json")
    check_the_log(relay.directory, clients.told)


def test_who_waits_for_the_next_edge_is_answered_by_it(tmp_path: Path) -> None:
    """They stand in the kernel's queue, and what they want has to be asked of the core: with several doors to open, the
    first is served some turns of the loop before the last."""
    relay, _ = make_relay(
        tmp_path,
        edges=1,
        submission='bind = ["127.0.0.1:0", "127.0.0.1:0"]',
        inbound=f'bind = ["127.0.0.1:0"]\noperator_mailbox = "{OPERATOR_MAILBOX}"',
    )
    answered: list[int] = []

    async def ask() -> None:
        async with open_http(relay.address) as http:
            answered.append((await http.request("GET", "/readyz")).status)

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            relay.kill_edge("edge 1")
            wait_dead(*relay.edges().values())
            async with trio.open_nursery() as nursery:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(ask)

    with relay.running():
        relay.wait_edges(1)
        trio.run(main)
        assert answered == [200] * CONNECTIONS
        assert relay.log_lines("worker.killed") == []
        assert relay.stop() == 0


@pytest.mark.timeout(300)
def test_one_that_is_stopped_is_killed_and_the_relay_goes_on(tmp_path: Path) -> None:
    relay, credentials = make_relay(tmp_path)
    clients = Clients(relay, credentials)

    async def main() -> None:
        with trio.fail_after(240):
            pid = relay.kill_edge("edge 1", signal.SIGSTOP)
            # What comes now comes to the other, and orders are obeyed.
            async with trio.open_nursery() as nursery:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(clients.send_for_ever)
                await clients.wait_told(40)
                await trio.to_thread.run_sync(relay.command, "queue", "list", "--json")
                await trio.to_thread.run_sync(relay.wait_followed, "edge 1", pid)
                await clients.wait_told(40)
                nursery.cancel_scope.cancel()
            (killed,) = relay.log_lines("worker.killed")
            assert (killed["pid"], killed["because"]) == (pid, "it was silent")

    with relay.running():
        relay.wait_edges(2)
        trio.run(main)
        # One that is stopped does not keep the relay from stopping in order, either.
        relay.kill_edge("edge 2", signal.SIGSTOP)
        assert relay.stop() == 0
    check_the_log(relay.directory, clients.told)


@pytest.mark.timeout(300)
def test_kill_9_of_the_core_ends_its_edges_and_the_next_start_has_the_port(tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    relay, credentials = make_relay(tmp_path, http=f'bind = "{bind}"')
    clients = Clients(relay, credentials)

    async def send() -> None:
        async with open_http(relay.address) as http:
            await clients._send(http)

    async def under_load() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(CONNECTIONS):
                        nursery.start_soon(clients.send_for_ever)
                    await clients.wait_told(40)
                    pids.extend(relay.edges().values())
                    await trio.to_thread.run_sync(relay.kill)
            except* OSError:
                pass  # nobody is there

    pids: list[int] = []
    with relay.running():
        relay.wait_edges(2)
        trio.run(under_load)
        wait_dead(*pids)
        relay.start()
        assert relay.address == bind
        trio.run(send)
        assert relay.stop() == 0
    check_the_log(relay.directory, clients.told)


@pytest.mark.timeout(300)
def test_a_stream_has_no_gap_whatever_edge_it_is_at(tmp_path: Path) -> None:
    """Its edge is killed, and the one that sends is another's."""
    relay, credentials = make_relay(tmp_path)
    clients = Clients(relay, credentials)
    seen: list[Any] = []

    async def main() -> None:
        with trio.fail_after(240):
            async with trio.open_nursery() as nursery:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(clients.send_for_ever)
                for kill in range(3):
                    cursor = seen[-1]["seq"] if seen else 0
                    try:
                        async with listen(relay.address, credentials, cursor) as listener:
                            for _ in range(60):
                                seen.append(json.loads(await listener.get_message()))
                            name = f"edge {kill % 2 + 1}"
                            pid = await trio.to_thread.run_sync(relay.kill_edge, name)
                            await trio.to_thread.run_sync(relay.wait_followed, name, pid)
                            while len(seen) < 200 * (kill + 1):
                                seen.append(json.loads(await listener.get_message()))
                    except* ConnectionClosed:
                        pass  # it was at the one that was killed
                nursery.cancel_scope.cancel()
            last = max(clients.told)
            async with listen(relay.address, credentials, seen[-1]["seq"]) as listener:
                while seen[-1]["seq"] < last:
                    seen.append(json.loads(await listener.get_message()))
            expected = await all_events(relay.address, credentials)
            assert seen == expected[: len(seen)]

    with relay.running():
        relay.wait_edges(2)
        trio.run(main)
        assert relay.stop() == 0


def test_a_relay_whose_edges_never_get_ready_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """It waits for its first edge for a minute, which is not the time of who stops it."""
    relay, _ = make_relay(tmp_path, command=("-c", WITH_BROKEN_EDGES))
    try:
        relay.launch()
        relay.wait_logged("worker.begun_later")
        began = time.monotonic()
        relay.terminate()
        assert relay.wait() == 0
        assert time.monotonic() - began < 50
    finally:
        relay.kill()
