"""The acceptance seam by each of its carriers, in one process: the plain call, a channel over a pair of sockets, and
the link between two nodes.

    async with open_door(world, carrier) as door:
        sent = await door.decide("send", wanted, member)

By a channel all is as in two processes but that there is one loop: the words are encoded, and pass through the kernel.
By a link there is a whole second core, which follows (`tests.world.nodes`).
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import trio

from relay.core import Core
from relay.edge import Decide
from relay.edges import words
from relay.edges.answering import OneEdge
from relay.edges.asking import AskedCore, EdgeQuota
from relay.processes.channel import Channel
from relay.quota import Quota
from relay.refusals import Refusal
from tests.world.nodes import open_follower
from tests.world.relay import World

Carrier = Literal["call", "channel", "link"]
CARRIERS: tuple[Carrier, ...] = ("call", "channel", "link")
_numbers = count(1)


@dataclass
class Door:
    """What an edge has of the core."""

    decide: Decide
    take_message: Callable[[str], Awaitable[None]]
    why_not_accepting: Callable[[], Awaitable[Refusal | None]]
    quota: Quota
    #: Of the edge; None: it is in the core.
    channel: Channel | None = None
    #: What `tell_refused` of an edge does at its times.
    tell_refused: Callable[[], Awaitable[None]] | None = None
    #: As `relay.elsewhere.OwnNode` has it.
    catch_up: Callable[[], Awaitable[None]] | None = None


@asynccontextmanager
async def open_door(world: World, carrier: Carrier) -> AsyncIterator[Door]:
    if carrier == "call":
        edge = world.core.edge
        yield Door(edge.decide, edge.take_message, edge.why_not_accepting, edge.quota)
        return
    if carrier == "link":
        number = next(_numbers)
        directory = world.core.directory.with_name(f"follower {number}")
        async with open_follower(world, directory, seed=number) as follower:
            edge = follower.core.edge
            yield Door(edge.decide, edge.take_message, edge.why_not_accepting, edge.quota)
        return
    async with open_channel(world.core) as door:
        yield door


@asynccontextmanager
async def open_channel(core: Core) -> AsyncIterator[Door]:
    """The door of an edge of this core."""
    theirs, ours = (
        trio.SocketStream(trio.socket.from_stdlib_socket(one)) for one in socket.socketpair(socket.AF_UNIX)
    )
    to_edge, to_core = Channel(ours, questions=words.TO_CORE), Channel(theirs, questions=words.TO_EDGE)
    one = OneEdge(core, f"edge of a test {next(_numbers)}", to_edge)
    quota = EdgeQuota(lambda: core.config.members, lambda: core.config.inbound)
    asked = AskedCore(to_core, quota)

    async def nothing_is_asked(question: Any) -> Any:
        raise AssertionError(question)

    async with trio.open_nursery() as nursery:
        await nursery.start(to_edge.run, one.answer, one.hear)
        await nursery.start(to_core.run, nothing_is_asked, lambda news: None)
        yield Door(
            asked.decide,
            asked.take_message,
            asked.why_not_accepting,
            quota,
            to_core,
            asked.tell_refused,
            asked.catch_up,
        )
        nursery.cancel_scope.cancel()
    one.lose()
