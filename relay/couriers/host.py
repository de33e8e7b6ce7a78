"""The core's couriers: its own, and those in other processes, as one carrier (`relay.delivery.carrier`).

The rules.

- A connection belongs to one courier for its life, because that one has the socket. The courier with the fewest
  connections gets the next; where no other process gets ready within seconds, the core's own courier gets it. So there
  is always somebody who delivers, and a courier that is being begun again takes up its share by itself.
- A courier that is silent gets nothing new. (When it has been silent for longer it is killed:
  `relay.processes.keeper`.)
- One that is lost takes its connections along, and nobody else's: their numbers are opened by another courier when
  they are wanted next. What it had in hand ends as `relay.couriers.away` says.
- `hang_up` waits for other processes for HANG_UP_SECONDS_MAX, and kills those that have not obeyed: the relay ends in
  its grace time, whatever a courier does.

What couriers must hear is told to each of them when it is ready and whenever it changes: the configuration and the
number of the last pepper. (Keys are files that never change, and are read when they are first wanted.)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from relay.codec import Recorded
from relay.config import Config
from relay.core import SENDING_OCTETS_MAX, Core
from relay.couriers.away import AwayCourier
from relay.couriers.words import FROM_COURIER, Greeting, NewConfig, NewPepper
from relay.delivery.carrier import Carrier, CourierLost, Errand
from relay.delivery.outcomes import Carried
from relay.events import PepperRotated
from relay.file_names import VIEWS_DIRECTORY
from relay.processes.channel import Channel
from relay.processes.frames import BrokenFrame
from relay.processes.keeper import Role, keep
from relay.processes.landlock import Rules
from relay.views import peppers
from spool.views.snapshot import LOCK_NAME

logger = logging.getLogger(__name__)

#: From the word to hang up until a courier that has not is killed.
HANG_UP_SECONDS_MAX = 2.0
#: One that has not been heard for so long gets nothing new. It is heard each second.
SILENT_SECONDS_MAX = 2.5
#: Since there was none that is ready, from the start of the relay on: so long its mail waits for one.
NONE_SECONDS_MAX = 5.0
#: From the word to stop, when nothing is under way any more, until a courier is killed.
STOP_SECONDS_MAX = 2.0


class Process(Protocol):
    """A courier's, as `relay.processes.keeper` has it."""

    @property
    def name(self) -> str: ...
    @property
    def channel(self) -> Channel: ...
    def kill(self) -> None: ...


class Couriers:
    """See the module docstring. `begun`, `hear` and `lost` are for whoever keeps the processes."""

    def __init__(self, core: Core, own: Carrier) -> None:
        self._core = core
        self._own = own
        #: Those that are ready.
        self._away: dict[Process, AwayCourier] = {}
        #: Whose each connection is.
        self._of: dict[int, Process | None] = {}
        self._counts: dict[Process, int] = {}
        #: Set while one is ready.
        self._some_ready = trio.Event()
        self._wait_until = trio.current_time() + NONE_SECONDS_MAX

    # ------------------------------------------------------------------------------------------------ as a carrier

    @property
    def connections(self) -> int:
        return self._own.connections + sum(courier.connections for courier in self._away.values())

    async def carry(self, connection: int, errand: Errand, start: Callable[[], Awaitable[None]]) -> Carried:
        if connection not in self._of:
            await self._wait_for_one()
            self._give_to(connection, self._least_busy())
        try:
            carried = await self._courier_of(connection).carry(connection, errand, start)
        except CourierLost:
            self._leave(connection)
            raise
        if not carried.usable:
            self._leave(connection)
        return carried

    async def part(self, connection: int) -> None:
        if connection in self._of:
            await self._courier_of(connection).part(connection)
            self._leave(connection)

    async def hang_up(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._own.hang_up)
            for process, courier in self._away.items():
                nursery.start_soon(_hang_up_or_kill, process, courier)

    async def _wait_for_one(self) -> None:
        """A connection that the core begins with while its couriers are being begun would be the core's for minutes."""
        with trio.move_on_at(self._wait_until):
            await self._some_ready.wait()

    def _least_busy(self) -> Process | None:
        """None: the core's own."""
        now = trio.current_time()
        ready = [
            process for process, courier in self._away.items() if now < courier.heard_at + SILENT_SECONDS_MAX
        ]
        return min(ready, key=self._counts.__getitem__, default=None)

    def _courier_of(self, connection: int) -> Carrier:
        process = self._of[connection]
        return self._own if process is None else self._away[process]

    def _give_to(self, connection: int, process: Process | None) -> None:
        self._of[connection] = process
        if process is not None:
            self._counts[process] += 1

    def _leave(self, connection: int) -> None:
        """The connection is no more. It may have gone with its courier."""
        process = self._of.pop(connection, None)
        if process is not None:
            self._counts[process] -= 1

    # ------------------------------------------------------------------------------------------------ the processes

    def begun(self, process: Process) -> None:
        """It is ready."""
        courier = self._away[process] = AwayCourier(process.channel, lambda: self._core.before_acting())
        self._counts[process] = 0
        self._some_ready.set()
        # Since it was greeted, it may have missed something.
        courier.tell(NewConfig(self._core.config))
        with self._core.store.read() as view:
            courier.tell(NewPepper(peppers.current(view)))

    def hear(self, process: Process, word: FROM_COURIER) -> None:
        courier = self._away.get(process)
        if courier is None:
            raise BrokenFrame("a courier speaks before it is ready")
        courier.hear(word)

    async def answer(self, process: Process, question: object) -> None:
        raise BrokenFrame("a courier tells, and asks for nothing")

    def lost(self, process: Process) -> None:
        """It is dead, and all that it said was heard. It may never have been ready."""
        courier = self._away.pop(process, None)
        if courier is None:
            return
        del self._counts[process]
        self._of = {connection: whose for connection, whose in self._of.items() if whose is not process}
        courier.lose()
        if not self._away:
            self._some_ready = trio.Event()
            self._wait_until = trio.current_time() + NONE_SECONDS_MAX
        self._core.store.clear_dead_readers()

    # ------------------------------------------------------------------------------------------------ news for them

    def config_changed(self, before: Config) -> None:
        for courier in self._away.values():
            courier.tell(NewConfig(self._core.config))

    def observe(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if isinstance(item.event, PepperRotated):
                for courier in self._away.values():
                    courier.tell(NewPepper(item.event.number))

    async def let_go(self) -> None:
        """Files of the log were rewritten: no courier reads the old ones any more, when this returns."""
        async with trio.open_nursery() as nursery:
            for courier in self._away.values():
                nursery.start_soon(courier.let_go)


async def _hang_up_or_kill(process: Process, courier: AwayCourier) -> None:
    with trio.move_on_after(HANG_UP_SECONDS_MAX) as waiting:
        await courier.hang_up()
    if waiting.cancelled_caught:
        logger.warning("courier.killed", extra={"courier": process.name, "because": "it does not hang up"})
        process.kill()


@asynccontextmanager
async def open_couriers(core: Core, own: Carrier, count: int) -> AsyncIterator[Couriers]:
    """So many other processes, which are being begun, and `own` for when there are none. They end with the block, which
    is left when nothing is carried any more."""
    couriers = Couriers(core, own)

    directory = core.directory.absolute()
    # What the core's own composer was made with; it may have changed in the file since.
    operator_domain = core.config.operator_domain

    def greeting() -> Greeting:
        return Greeting(str(directory), core.config, operator_domain, SENDING_OCTETS_MAX // count)

    lock = directory / VIEWS_DIRECTORY / LOCK_NAME
    role = Role("courier", "relay.couriers.program", FROM_COURIER, may=Rules(write=(str(lock),)))
    core.settings.observers.append(couriers.config_changed)
    core.store.observers.append(couriers.observe)
    core.store.rewritten.append(couriers.let_go)
    try:
        async with keep(
            role,
            count,
            greeting=greeting,
            begun=couriers.begun,
            answer=couriers.answer,
            hear=couriers.hear,
            lost=couriers.lost,
        ) as keeper:
            core.metrics.workers[role.name] = keeper.statistics
            yield couriers
            await keeper.stop(STOP_SECONDS_MAX)
    finally:
        core.settings.observers.remove(couriers.config_changed)
        core.store.observers.remove(couriers.observe)
        core.store.rewritten.remove(couriers.let_go)
