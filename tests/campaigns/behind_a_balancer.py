"""Three real relays behind HAProxy, as docs/NODES.md has it, and clients that know its address alone.

    async with open_behind_a_balancer(directory, servers, seed=7) as life:
        async with life.load():
            await life.wait_answers(20)
            life.lose_machine(1)
        await life.recover()
        await life.settle()

A machine is a relay and the server of PostgreSQL of the same number: both are lost in the same moment.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from tests.campaigns.nodes_life import NodesLife, open_nodes_life
from tests.world.daemon import free_port, is_listening, require_program, running
from tests.world.pages import DOCS
from tests.world.postgres import Servers
from tests.world.process import RelayProcess, configure

HAPROXY: Final = "haproxy"
#: What stands for each node in the page, and has its port in the place of 8025.
_SERVER: Final = re.compile(r"^( +server )(one|two|three) 10\.0\.0\.[123]:8025$", re.MULTILINE)


class BehindABalancer(NodesLife):
    #: The balancer's own among them: it does not know what became of a request.
    ask_again = frozenset({502, 503, 504})
    balancer: str

    def any_address(self) -> tuple[RelayProcess, str]:
        return self.nodes.all[0], self.balancer

    def note_status(self, node: RelayProcess, message_id: int, status: str) -> None:
        """Which node has answered, nobody knows here."""

    def lose_machine(self, number: int) -> None:
        """kill -9 of all that runs on it. Where it had the primary, the most advanced standby takes its place."""
        self.kill(self.nodes.all[number])
        server = self.servers.all[number]
        if server is self.servers.primary:
            self.servers.fail_over()
        else:
            server.kill()


def configuration(nodes: list[RelayProcess], bind: str) -> str:
    """The page's, with loopback's addresses and without TLS."""
    (text,) = re.findall(r"```haproxy\n(.*?)```", (DOCS / "NODES.md").read_text(), re.DOTALL)
    addresses = {node.directory.name: node.address for node in nodes}
    text, count = _SERVER.subn(lambda found: f"{found[1]}{found[2]} {addresses[found[2]]}", text)
    assert count == 2 * len(nodes)
    text, count = re.subn(r"bind :443 ssl crt \S+", f"bind {bind}", text)
    assert count == 1
    return text


@asynccontextmanager
async def open_behind_a_balancer(
    directory: Path, servers: Servers, *, seed: int
) -> AsyncIterator[BehindABalancer]:
    """Nodes keep their addresses when they are begun again: the balancer has them from a file."""
    haproxy = require_program(HAPROXY)
    async with open_nodes_life(directory, servers, seed=seed, life_of=BehindABalancer) as life:
        for node in life.nodes.all:
            configure(node.directory, http=f'bind = "{node.address}"')
        port = free_port()
        life.balancer = f"127.0.0.1:{port}"
        file = directory / "haproxy.cfg"
        file.write_text(configuration(life.nodes.all, life.balancer))
        with ExitStack() as stack:
            command = [haproxy, "-db", "-f", str(file)]
            ready = running(command, directory, ready=lambda: is_listening(port))
            await trio.to_thread.run_sync(stack.enter_context, ready)
            yield life
