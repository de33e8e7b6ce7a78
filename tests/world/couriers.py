"""Couriers at the other end of a socket, in the test's process: the same words pass as between two processes, on a
clock that jumps.

    async with open_world(tmp_path, carried_by=Couriers(2)) as world: ...

`kill` ends one as SIGKILL does: in the middle of whatever it does, and its connections break; what it had said before
is heard. For real processes there is `relay.processes.keeper`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from relay.core import Core
from relay.couriers.host import Couriers as Pool
from relay.couriers.program import CourierService
from relay.couriers.words import FROM_CORE, FROM_COURIER, Greeting
from relay.delivery.carrier import Carrier
from relay.processes.channel import Channel


class StoreOfTheCore:
    """What a courier reads: LMDB knows one environment for each directory in a process, and the core has it."""

    def __init__(self, core: Core) -> None:
        self.get = core.store.get
        self.read = core.store.read
        self.times_let_go = 0

    def let_go(self) -> None:
        self.times_let_go += 1


class Process:
    """A courier in a task."""

    def __init__(self, name: str, core: Core) -> None:
        self.name = name
        self.store = StoreOfTheCore(core)
        self.gone = trio.Event()
        self.service: CourierService
        self._nursery: trio.Nursery
        self._core = core
        self._scope = trio.CancelScope()
        ours, theirs = trio.socket.socketpair()
        self.channel = Channel(trio.SocketStream(ours), questions=FROM_COURIER)
        self._there = Channel(trio.SocketStream(theirs), questions=FROM_CORE)

    def kill(self) -> None:
        """Nothing that it says from now on is heard, and its connections are closed without a goodbye."""
        self._there._forget_unsent()
        self._there._is_closed = True
        self._scope.cancel()
        for session in self.service._courier._sessions.values():
            self._nursery.start_soon(trio.aclose_forcefully, session._stream)

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
                await self._there.run(self.service.answer, self.service.hear)


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
