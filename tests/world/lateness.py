"""How late a loop is while something is at work in it: what everybody else waits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

#: How often the heartbeat wants to run.
BEAT_SECONDS = 0.001


class Lateness(NamedTuple):
    """The most that passed between two beats, in milliseconds."""

    processor: float
    clock: float


async def lateness(work: Callable[[], Awaitable[object]]) -> Lateness:
    """How late a heartbeat was while that was at work."""
    processor = clock = 0.0

    async def beat() -> None:
        nonlocal processor, clock
        while True:
            began, used = time.perf_counter(), time.process_time()
            await trio.sleep(BEAT_SECONDS)
            processor = max(processor, time.process_time() - used)
            clock = max(clock, time.perf_counter() - began - BEAT_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await trio.sleep(10 * BEAT_SECONDS)
        await work()
        await trio.sleep(10 * BEAT_SECONDS)
        nursery.cancel_scope.cancel()
    return Lateness(1000 * processor, 1000 * clock)
