"""What a node does before it opens its doors: it fetches what it missed, and removes from its files what was erased.

The invariant: **nobody is shown by a node that was away what was erased meanwhile, where the database could be asked.**
That something is erased is an event like any other, so a node that was away, or was made from a backup, has to have
what the others had when it was begun. It is waited for as long as the log grows.

Where the database does not answer, nobody knows what is missing, and a node serves what it has: reading goes on without
the database, at a node that is begun again, too. What it answers says how old it is (`Atmos-Lag: unknown`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from relay.core import Core
from relay.nodes.node import Node

logger = logging.getLogger(__name__)

#: So long a log that does not grow is waited for. Longer than a connection to each of three hosts takes.
PATIENCE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.02


async def prepare(core: Core, node: Node, stop_wanted: Callable[[], Awaitable[None]]) -> None:
    """While `node` runs. Returns, with nothing or something left undone, when `stop_wanted` does."""
    assert core.own_stripping is not None
    # Also where the node's own task does it, which may be the first.
    core.own_stripping.alone = True
    try:
        await _prepare(core, node, stop_wanted)
    finally:
        core.own_stripping.alone = False


async def _prepare(core: Core, node: Node, stop_wanted: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await stop_wanted()
            nursery.cancel_scope.cancel()

        nursery.start_soon(end)
        await _wait_until_level(core, node)
        await _strip(core)
        nursery.cancel_scope.cancel()


async def _wait_until_level(core: Core, node: Node) -> None:
    began = grew_at = trio.current_time()
    seq = core.store.last_seq
    while not (node.leads or node.level_at >= began):
        if core.store.last_seq > seq:
            seq, grew_at = core.store.last_seq, trio.current_time()
        elif trio.current_time() - grew_at >= PATIENCE_SECONDS:
            logger.warning("node.serves_what_it_has", extra={"seq": seq, "because": node.trouble})
            return
        await trio.sleep(LOOK_SECONDS)


async def _strip(core: Core) -> None:
    """A disk that is full or fails is reported, and tried again beside all else: what the views have lost nobody
    sees."""
    assert core.own_stripping is not None
    async with core.erasing:
        try:
            await core.own_stripping.catch_up()
        except OSError as error:
            logger.error("node.not_stripped", extra={"because": error.strerror or type(error).__name__})
