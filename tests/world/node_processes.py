"""Relays of several machines as processes of their own, over servers of PostgreSQL, on loopback.

    with open_servers() as servers:
        nodes = NodeProcesses(tmp_path, servers, route=mx.address)
        with nodes.running():
            leader = nodes.wait_led()
            leader.kill()
            nodes.wait_led(but=leader)

As in `tests.world.process`, what waits blocks. With a `network` (`tests.world.network`) they reach the servers, and
each other, by its paths, so whoever serves those must not be blocked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

from relay.config import CONFIG_FILE
from relay.config_nodes import NODE_FILE
from tests.world.daemon import free_port
from tests.world.http import open_http
from tests.world.network import Network
from tests.world.postgres import Servers
from tests.world.process import RelayProcess, make_process_directory, wait_until

NAMES = ("one", "two", "three")
_NOT_COPIED = shutil.ignore_patterns("views", "log", "*.sock", "*.address", "own.pem", NODE_FILE)


async def send_until_taken(
    node: RelayProcess, credentials: dict[str, str], to: str, *, text: str = "Hi\n"
) -> int:
    """As a client that is told to come again: on a busy machine a lease may be renewed too late. The message's id."""
    headers = {**credentials, "Idempotency-Key": f"to {to}"}
    async with open_http(node.address) as http:
        while (answer := await http.post_send(headers, to=[to], text=text)).status == 503:  # noqa: ASYNC110
            await trio.sleep(0.05)
    assert answer.status == 200, answer
    (accepted,) = answer.json()["accepted"]
    return int(accepted["messageId"])


class NodeProcesses:
    """As many as there are NAMES, founded, and none of them running yet."""

    def __init__(
        self,
        directory: Path,
        servers: Servers,
        *,
        route: str,
        network: Network | None = None,
        **settings: str,
    ) -> None:
        self._conninfo = servers.make_database()
        self._network = network
        first = make_process_directory(directory / NAMES[0], route=route, **settings)
        config = first / CONFIG_FILE
        config.write_text(f"{config.read_text()}\n[nodes]\n")
        self._write_node(first)
        self.all = [RelayProcess(directory / name) for name in NAMES]
        self.all[0].command("node", "found")
        for name in NAMES[1:]:
            shutil.copytree(first, directory / name, ignore=_NOT_COPIED)
            self._write_node(directory / name)

    def _write_node(self, directory: Path) -> None:
        own_port = port = free_port()
        conninfo, network = self._conninfo, self._network
        if network is not None:
            network.door(directory.name).to_port = own_port
            port = network.door(directory.name).port
            conninfo = network.conninfo(directory.name, conninfo)
        file = directory / NODE_FILE
        file.touch(mode=0o600)
        file.write_text(
            f'name = "{directory.name}"\nbind = "127.0.0.1:{own_port}"\naddress = "127.0.0.1:{port}"\n'
            f'database = "{conninfo}"\n'
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Whatever runs at the end of the block is killed."""
        with ExitStack() as stack:
            for node in self.all:
                stack.enter_context(node.running())
            yield

    def times_led(self, node: RelayProcess) -> int:
        return len(node.log_lines("node.leads"))

    def wait_led(self, before: int = 0) -> RelayProcess:
        """Until there is a leader, where there were so many before it, those that are gone among them; who that is."""
        wait_until(
            lambda: sum(map(self.times_led, self.all)) > before,
            lambda: "\n".join(node.output for node in self.all),
        )
        lines = [(line["epoch"], node) for node in self.all for line in node.log_lines("node.leads")]
        return max(lines, key=lambda line: int(line[0]))[1]
