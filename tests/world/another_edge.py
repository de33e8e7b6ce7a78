"""An edge that is not the core's own, with all that passes between the two in the test's hands.

    async with another_edge(world) as edge:
        async with open_stream(world, edge=edge.edge) as stream:
            edge.news_pass.shut()

It asks the core for places, and waits for the answer until `answers_pass` is open; what it should hear waits until
`news_pass` is. As over a socket, both come in the order in which they were sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from relay.edge import Edge
from relay.news import News
from relay.stream_places import HeldPlaces, Places, TicketUse
from relay.streams import Streams
from tests.world.gate import Gate
from tests.world.relay import World


class _AskedPlaces(Places):
    def __init__(self, held: HeldPlaces, answers_pass: Gate) -> None:
        self._held = held
        self._answers_pass = answers_pass

    async def take(self, did: str, ticket: TicketUse | None, session: str | None = None) -> float | None:
        left = await self._held.take(did, ticket, session)
        with trio.CancelScope(shield=True):  # the core has given it
            await self._answers_pass.opened.wait()
        return left

    def leave(self, did: str) -> None:
        self._held.leave(did)


class AnotherEdge:
    def __init__(self, world: World) -> None:
        core = world.core
        self.held: HeldPlaces = core.stream_places.held()
        self.answers_pass = Gate()
        self.news_pass = Gate()
        self.told = 0
        self.news = News(self.held)
        core.store.observers.append(self.news.observe)
        core.console_links.ended.append(self.news.revoked)
        self.streams = Streams(
            _AskedPlaces(self.held, self.answers_pass),
            core.store.read,
            lambda: core._stream_tickets,
            core.surroundings.dice.randbytes,
        )
        self.edge: Edge = dataclasses.replace(core.edge, streams=self.streams)

    async def run(self) -> None:
        while True:
            heard = await self.news.next()
            await self.news_pass.opened.wait()
            self.told += 1
            self.streams.hear(heard)


@asynccontextmanager
async def another_edge(world: World) -> AsyncIterator[AnotherEdge]:
    edge = AnotherEdge(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(edge.run)
        try:
            yield edge
        finally:
            world.core.store.observers.remove(edge.news.observe)
            world.core.console_links.ended.remove(edge.news.revoked)
            nursery.cancel_scope.cancel()
