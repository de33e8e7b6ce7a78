"""A follower beside the relay of a world, in one process: a core of its own, which has the leader decide.

    async with open_world(tmp_path / "a") as world, open_follower(world, tmp_path / "b") as follower:
        await follower.core.decide("send", wanted, member)

The link is TLS with the certificates of both nodes over streams in memory, so that a clock that jumps overtakes
nothing. The follower's log gets what the leader's has, batch by batch, by a small task instead of a database;
`follower.feed` holds it up. (Its records have times of their own; what is in them is the same.)
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import trio
from trio.testing import MemoryReceiveStream, memory_stream_pair

from relay.api import create_app
from relay.codec import Recorded
from relay.console.member_door import member_console
from relay.core import Core, open_core
from relay.nodes.certificates import NodeCertificates, found
from relay.nodes.door import Door
from relay.nodes.forwarding import Forwarding, open_forwarding
from relay.nodes.links import Links, open_links
from relay.nodes.words import Node
from relay.surroundings import Surroundings
from tests.world.dns import FakeDns
from tests.world.relay import World, call_here, virtual_clock

LEADER = Node("a", "a.example", 8125)
#: Certificates are looked at by the machine's clock, whatever a test's says.
NOW = datetime.now(UTC)
_NOT_COPIED = shutil.ignore_patterns("log", "views", "*.sock", "*.address", "own.pem")


class Feed:
    """What a follower's log gets of the leader's."""

    def __init__(self, leader: Core, follower: Core) -> None:
        self._leader = leader
        self._follower = follower
        self._news = trio.Event()
        self._open = trio.Event()
        self._open.set()
        self.level_at = trio.current_time()
        leader.store.observers.append(self._observe)

    def hold(self) -> None:
        self._open = trio.Event()

    def go_on(self) -> None:
        self._open.set()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Reports when it has all that there is."""
        first = True
        while True:
            news = self._news
            await self._open.wait()
            behind = range(self._follower.store.last_seq + 1, self._leader.store.last_seq + 1)
            if behind:
                await self._follower.store.append([self._leader.store.get(seq).event for seq in behind])
            self.level_at = trio.current_time()
            if first:
                task_status.started()
                first = False
            await news.wait()

    def end(self) -> None:
        self._leader.store.observers.remove(self._observe)

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        self._news.set()
        self._news = trio.Event()


class Follower:
    def __init__(self, core: Core, feed: Feed, door: Door, links: Links, network: Network) -> None:
        self.core = core
        self.feed = feed
        #: The leader's.
        self.door = door
        self.links = links
        self.network = network
        self.forwarding: Forwarding
        #: Who leads, as far as the follower knows.
        self.leader: Node | None = LEADER
        #: Whether the leader thinks that it does.
        self.leads = True
        #: Names that the leader knows.
        self.nodes = {"a", "b"}
        #: And by which key it knows the follower; and by which it is known itself.
        self.identity = ""
        self.leader_identity = ""

    @property
    def level_at(self) -> float:
        """Where it leads itself, it is sure of it."""
        leads = self.leader is not None and self.leader.name != LEADER.name
        return trio.current_time() if leads else self.feed.level_at

    @cached_property
    def _app(self) -> Any:
        return create_app(self.core.edge, member_console(self.core.edge))

    async def page(self, method: str, path: str) -> int:
        """The status of a page of the follower's."""
        answer = await self._app.test_client().open(path, method=method)
        return int(answer.status_code)

    async def request(
        self, method: str, path: str, *, headers: dict[str, str], **arguments: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, decoded JSON and headers of the answer of the follower's HTTP door, to this machine."""
        scope_base = {"client": ("127.0.0.1", 0)}
        answer = await self._app.test_client().open(
            path, method=method, headers=headers, scope_base=scope_base, **arguments
        )
        return answer.status_code, json.loads(await answer.get_data()), answer.headers


class Network:
    """Between the two nodes."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.door: Door
        self.is_cut = False
        self._receiving: list[MemoryReceiveStream] = []

    def end_connections(self) -> None:
        """Both sides see the end of each, and what they have sent since goes nowhere."""
        for one in self._receiving:
            one.put_eof()

    async def open_stream(self, host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == (LEADER.host, LEADER.port)
        await trio.lowlevel.checkpoint()
        if self.is_cut:
            raise OSError(111, "Connection refused")
        ours, theirs = memory_stream_pair()
        self._receiving += [ours.receive_stream, theirs.receive_stream]
        self._nursery.start_soon(self.door.serve, theirs)
        return ours


@asynccontextmanager
async def open_follower(
    world: World, directory: Path, *, name: str = "b", seed: int = 1
) -> AsyncIterator[Follower]:
    leader: Core = world.core
    if not (leader.directory / "node").exists():
        found(leader.directory, NOW)
    own = NodeCertificates(leader.directory, LEADER.name, NOW)
    shutil.copytree(leader.directory, directory, ignore=_NOT_COPIED)
    certificates = NodeCertificates(directory, name, NOW)
    surroundings = Surroundings(
        clock=virtual_clock,
        offload=call_here,
        resolver=FakeDns(),
        dice=random.Random(seed),
        chance=random.Random(f"chance {seed}").randbytes,
    )
    async with trio.open_nursery() as nursery:
        network = Network(nursery)
        async with open_core(directory, surroundings) as core:
            feed = Feed(leader, core)
            door = Door(
                leader,
                own,
                is_node=lambda name, identity: name in follower.nodes and identity == follower.identity,
                leads=lambda: follower.leads,
            )
            network.door = door
            async with open_links(certificates, network.open_stream) as links:
                follower = Follower(core, feed, door, links, network)
                follower.identity = certificates.identity
                follower.leader_identity = own.identity
                async with open_forwarding(
                    core,
                    links,
                    name=name,
                    leader=lambda: follower.leader,
                    level_at=lambda: follower.level_at,
                ) as follower.forwarding:
                    await nursery.start(feed.run)
                    yield follower
            feed.end()
            nursery.cancel_scope.cancel()
