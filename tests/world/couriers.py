"""Couriers at the other end of a socket, in the test's process: the same words pass as between two processes, on a
clock that jumps.

    async with open_world(tmp_path, carried_by=Couriers(2)) as world: ...

`kill` ends one as SIGKILL does: in the middle of whatever it does, and its connections break; what it had said before
is heard. For real processes there is `relay.processes.keeper`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from relay.core import Core
from relay.couriers.host import Couriers as Pool
from relay.couriers.program import CourierService
from relay.couriers.words import FROM_CORE, FROM_COURIER, Greeting
from relay.delivery.carrier import Carrier, Errand
from relay.delivery.outcomes import Carried
from relay.processes.channel import Channel
from relay.views import messages
from tests.world.relay import World


class StoreOfTheCore:
    """What a courier reads: LMDB knows one environment for each directory in a process, and the core has it."""

    def __init__(self, core: Core) -> None:
        self.get = core.store.get
        self.read = core.store.read
        self.times_let_go = 0

    def let_go(self) -> None:
        self.times_let_go += 1


class Rests:
    """Carries nothing for as long as the relay runs."""

    connections = 0

    async def carry(self, connection: int, errand: Errand, start: Callable[[], Awaitable[None]]) -> Carried:
        await trio.sleep_forever()
        raise AssertionError

    async def part(self, connection: int) -> None:
        raise AssertionError("nothing was carried")

    async def hang_up(self) -> None:
        await trio.lowlevel.checkpoint()


async def errand_for(world: World, **fields: Any) -> Errand:
    """A message that the relay has accepted, for whoever is to carry it."""
    message_id = await world.send(**fields)
    store = world.core.store
    with store.read() as view:
        state = messages.message(view, message_id)
    assert state is not None
    return Errand(state, fields["to"].partition("@")[2], store.get(message_id))


class _Heard(Channel):
    """Its other side answers heartbeats, which would take all the time of a clock that jumps over days, until it is
    `stopped`."""

    stopped_at: float | None = None

    @property
    def heard_at(self) -> float:
        return trio.current_time() if self.stopped_at is None else self.stopped_at

    @heard_at.setter
    def heard_at(self, at: float) -> None:
        pass


class Process:
    """A courier in a task."""

    def __init__(self, name: str, core: Core) -> None:
        self.name = name
        self.store = StoreOfTheCore(core)
        self.gone = trio.Event()
        self.service: CourierService
        self._nursery: trio.Nursery
        self._core = core
        self._unheard: list[object] = []
        self._scope = trio.CancelScope()
        ours, theirs = trio.socket.socketpair()
        self.channel = _Heard(trio.SocketStream(ours), questions=FROM_COURIER)
        self._there = Channel(trio.SocketStream(theirs), questions=FROM_CORE)

    def kill(self) -> None:
        """Nothing that it says from now on is heard, and its connections are closed without a goodbye."""
        self._there._forget_unsent()
        self._there._is_closed = True
        self._scope.cancel()
        for session in self.service._courier._sessions.values():
            self._nursery.start_soon(trio.aclose_forcefully, session._stream)

    def stop(self) -> None:
        """As SIGSTOP: it hears nothing any more."""
        self.channel.stopped_at = trio.current_time()
        self.service.hear = self._unheard.append  # type: ignore[method-assign]

    async def run(self, pool: Pool) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._run_there)
            try:
                await self.channel.run(partial(pool.answer, self), partial(pool.hear, self))
            finally:
                pool.lost(self)
                self.gone.set()

    async def _run_there(self) -> None:
        core = self._core
        greeting = Greeting(str(core.directory), core.config, core.config.operator_domain, 1 << 24)
        with self._scope:
            async with trio.open_nursery() as nursery:
                store: Any = self.store
                self.service = CourierService(self._there, greeting, store, core.surroundings, nursery)
                await self._there.run(self.service.answer, lambda word: self.service.hear(word))


class Couriers:
    """So many of them carry the errands of a world's relay."""

    def __init__(self, count: int = 1) -> None:
        self.processes: list[Process] = []
        self.pool: Pool
        self._count = count
        self._core: Core
        self._nursery: trio.Nursery

    @asynccontextmanager
    async def __call__(self, core: Core, own: Carrier) -> AsyncIterator[Carrier]:
        self._core = core
        self.pool = Pool(core, own)
        core.settings.observers.append(self.pool.config_changed)
        core.store.observers.append(self.pool.observe)
        core.store.rewritten.append(self.pool.let_go)
        async with trio.open_nursery() as self._nursery:
            for _ in range(self._count):
                self.begin()
            yield self.pool
            self._nursery.cancel_scope.cancel()

    def begin(self) -> Process:
        process = Process(f"courier {len(self.processes) + 1}", self._core)
        self.processes.append(process)
        self._nursery.start_soon(process.run, self.pool)
        self.pool.begun(process)
        return process
