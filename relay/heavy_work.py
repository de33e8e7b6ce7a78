"""Work that is dear by nature: reading a large body, composing and signing a mail.

The invariant: **the loop never works for long at one thing, however large it is or however many there are of it.**

- What is larger than ON_LOOP_OCTETS_MAX is done beside the loop, in a thread.
- What is smaller is done on the loop, because handing it over costs more than doing it. But when WORK_SECONDS_MAX have
  gone into such work, others are looked after before the next: fifty recipients of one send are fifty small works that
  all want to begin at once, and twenty long answers are read in twenty steps at a time.

For both, parties (members) take turns (`relay.turns`): a thousand large mails of one cost another one turn.

    async with heavy_work.turn(did, octets) as do:
        gathered = ...                        # on the loop: what is read from views, keys and log
        done = await do(function, gathered)   # there, or in the thread: pure

One thread is at work at a time. The interpreter runs one at a moment, so a second would make nothing faster (only
SHA-256 lets others run meanwhile), and each takes its turns from the loop: with four, the loop was as late as with
one, four times. For the same reason the work is made of short steps, as `relay.message.compose` makes it: nobody else
runs while one call into C does.

Cancelled while waiting: nothing is done. Cancelled while the thread is at it: it is waited for, and thrown away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import trio

from relay.turns import Turns

#: What has more octets is done in a thread.
ON_LOOP_OCTETS_MAX = 256 * 1024
THREADS_MAX = 1
#: So much small work is done before others are looked after.
WORK_SECONDS_MAX = 0.002

Done = TypeVar("Done")
#: `await do(f, *args)` is f(*args).
Do = Callable[..., Awaitable[Any]]


class HeavyWork:
    """Of one relay. `offload` is that of `relay.surroundings`."""

    def __init__(self, offload: Do) -> None:
        self._offload = offload
        self._threads = Turns(THREADS_MAX)
        self._on_loop = Turns(1)
        #: What has gone into small work since others were looked after, in seconds.
        self._worked = 0.0

    def turn(self, party: str | None, octets: int) -> AbstractAsyncContextManager[Do]:
        """Wait for the turn of a work at so many octets. None as the party: before all others.

        Within the block nothing is awaited but `do`.
        """
        return self._beside(party) if octets > ON_LOOP_OCTETS_MAX else _OnLoop(self, party)

    async def step(self, party: str, function: Callable[..., Done], *arguments: Any) -> Done:
        """`function(*arguments)`, which is some of a longer work on the loop: a millisecond at most."""
        async with self.turn(party, 0) as do:
            done: Done = await do(function, *arguments)
        return done

    @asynccontextmanager
    async def _beside(self, party: str | None) -> AsyncIterator[Do]:
        async with self._threads.turn(party):
            yield self._offload


class _OnLoop:
    """A turn on the loop. A class, because every small mail pays for two of them."""

    def __init__(self, work: HeavyWork, party: str | None) -> None:
        self._work = work
        self._party = party
        self._since = 0.0

    async def __aenter__(self) -> Do:
        await self._work._on_loop.acquire(self._party)
        self._since = trio.current_time()
        return _here

    async def __aexit__(self, *_: object) -> None:
        work = self._work
        work._worked += trio.current_time() - self._since
        if work._worked >= WORK_SECONDS_MAX:
            # Who comes meanwhile waits for this turn to end.
            await trio.lowlevel.cancel_shielded_checkpoint()
            work._worked = 0.0
        work._on_loop.release()


async def _here(function: Callable[..., Done], *arguments: Any) -> Done:
    return function(*arguments)
