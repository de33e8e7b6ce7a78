"""Who shows nothing at the nodes' door, and opens many connections, keeps out nobody but himself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec
import trio

from relay.nodes.certificates import NodeCertificates, found
from relay.nodes.door import open_door
from relay.nodes.handshakes import HANDSHAKE_SECONDS_MAX, HANDSHAKES_MAX, Handshakes
from relay.nodes.links import open_links
from relay.nodes.words import HowFar, Node
from tests.world.nodes import NOW
from tests.world.relay import open_world, run

STRANGER, ANNA, BERT = "203.0.113.1", "192.0.2.1", "192.0.2.2"


class Held:
    """Handshakes that do nothing, and how each ended."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.handshakes = Handshakes()
        self._nursery = nursery
        #: Those that had room.
        self.under_way: list[str] = []
        self.sent_away: list[str] = []

    async def begin(self, address: str, count: int = 1) -> None:
        for _ in range(count):
            await self._nursery.start(self._hold, address)

    async def _hold(self, address: str, task_status: trio.TaskStatus[None]) -> None:
        with self.handshakes.begin(address) as has_room:
            (self.under_way if has_room else self.sent_away).append(address)
            task_status.started()
            if has_room:
                await trio.sleep_forever()
        if has_room:
            self.under_way.remove(address)


def holding(test: Callable[[Held], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await test(Held(nursery))
            nursery.cancel_scope.cancel()

    run(main)


def test_a_stranger_makes_room_for_another_address_and_not_for_himself() -> None:
    async def test(held: Held) -> None:
        await held.begin(STRANGER, HANDSHAKES_MAX + 3)
        assert held.sent_away == [STRANGER] * 3
        await held.begin(ANNA, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert held.under_way.count(ANNA) == 2
        assert held.under_way.count(STRANGER) == HANDSHAKES_MAX - 2
        await held.begin(STRANGER)
        assert held.sent_away == [STRANGER] * 4
        await trio.sleep(HANDSHAKE_SECONDS_MAX)
        await trio.testing.wait_all_tasks_blocked()
        assert held.under_way == []
        await held.begin(STRANGER, HANDSHAKES_MAX)
        assert len(held.under_way) == HANDSHAKES_MAX

    holding(test)


def test_nodes_that_connect_at_once_do_not_end_each_other_s() -> None:
    async def test(held: Held) -> None:
        for _ in range(HANDSHAKES_MAX):
            await held.begin(ANNA)
            await held.begin(BERT)
        await trio.testing.wait_all_tasks_blocked()
        assert held.under_way.count(ANNA) == held.under_way.count(BERT) == HANDSHAKES_MAX // 2
        assert held.sent_away.count(ANNA) == held.sent_away.count(BERT) == HANDSHAKES_MAX // 2

    holding(test)


def test_a_node_gets_in_while_a_stranger_holds_all_that_he_can(tmp_path: Path) -> None:
    """Over sockets: he comes from 127.0.0.2, and opens another one for each that ends."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(open_world(tmp_path / "data", stop=False))
            found(world.core.directory, NOW)
            own = NodeCertificates(world.core.directory, "anna", NOW)
            links = await stack.enter_async_context(open_links(own))
            door = await stack.enter_async_context(
                open_door(
                    world.core, "127.0.0.1:0", own, is_node=lambda name, identity: True, leads=lambda: True
                )
            )
            host, _, port = door.address.rpartition(":")
            nursery = await stack.enter_async_context(trio.open_nursery())
            full = trio.Event()
            opened = 0

            async def hold() -> None:
                nonlocal opened
                while True:
                    stream = await trio.open_tcp_stream(host, int(port), local_address="127.0.0.2")
                    async with stream:
                        opened += 1
                        if opened == 2 * HANDSHAKES_MAX:
                            full.set()
                        with suppress(trio.BrokenResourceError):
                            await stream.receive_some(1)

            for _ in range(2 * HANDSHAKES_MAX):
                nursery.start_soon(hold)
            await full.wait()
            for _ in range(3):
                await links.ask(Node("anna", host, int(port)), msgspec.msgpack.encode(HowFar()), None)
            nursery.cancel_scope.cancel()

    trio.run(main)
