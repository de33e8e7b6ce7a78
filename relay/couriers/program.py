"""The courier's process: `relay.delivery.courier` behind a channel, and what it reads. `relay.couriers.words` says what
passes.

It reads the views, the log and the keys, and writes nothing. It decides nothing: a message is tried when the core says
so, and the dot leaves when the core has said that the start is durable. What goes wrong here in a way that nobody
expects ends the process, and the core finds out from what it had said.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import assert_never

import trio

from relay.buffers import Buffers
from relay.config import Config
from relay.couriers.words import (
    FROM_CORE,
    Cancel,
    Carry,
    Connections,
    Done,
    DotDue,
    DotMayLeave,
    Greeting,
    HangUp,
    LetGo,
    NewConfig,
    NewPepper,
    NothingDone,
    Part,
    Parted,
    Start,
    Started,
)
from relay.delivery.carrier import Errand
from relay.delivery.connect import Connector
from relay.delivery.courier import Courier
from relay.heavy_work import HeavyWork
from relay.message.key_files import KeyFileError, read_pepper
from relay.message.keys import KeyRing, Pepper, load_peppers
from relay.message.outgoing import Composer
from relay.processes.channel import Channel
from relay.processes.tuning import calm_the_collector, switch_soon
from relay.processes.worker import Here
from relay.reading_store import ReadingStore, open_reading_store
from relay.surroundings import Surroundings
from relay.views import peppers

logger = logging.getLogger(__name__)

QUESTIONS = FROM_CORE
GREETING = Greeting


async def main(here: Here) -> None:
    """See `relay.processes.worker`."""
    switch_soon()
    greeting: Greeting = here.greeting
    with open_reading_store(Path(greeting.directory)) as store:
        async with trio.open_nursery() as nursery:
            service = CourierService(here.channel, greeting, store, Surroundings(), nursery)
            calm_the_collector()
            here.ready(service.answer, service.hear)
            await here.stopping.wait()
            # The core has nothing in hand any more.
            nursery.cancel_scope.cancel()


class _Work:
    """An errand, while it is carried."""

    __slots__ = ("dot_may_leave", "scope", "started")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.started = trio.Event()
        self.dot_may_leave = trio.Event()


class CourierService:
    """What a courier does with what it is told."""

    def __init__(
        self,
        channel: Channel,
        greeting: Greeting,
        store: ReadingStore,
        surroundings: Surroundings,
        nursery: trio.Nursery,
    ) -> None:
        """Errands are carried in the nursery. Raises KeyFileError."""
        self._channel = channel
        self._directory = Path(greeting.directory)
        self._config: Config = greeting.config
        self._store = store
        self._nursery = nursery
        self._works: dict[int, _Work] = {}
        keyring, loaded = KeyRing(self._directory), load_peppers(self._directory)
        self._peppers = {number for number, _ in loaded.items()}
        self._composer = Composer.of(keyring, loaded, greeting.operator_domain, self._pepper_at)
        self._courier = Courier(
            store.get,
            self._composer,
            Connector(lambda: self._config, surroundings),
            heavy_work=HeavyWork(surroundings.offload),
            sending=Buffers(lambda: greeting.sending_octets_max),
            before_dot=self._ask_for_dot,
            connections_changed=self._tell_connections,
        )

    async def answer(self, question: FROM_CORE) -> None:
        """What is asked, and not told."""
        assert isinstance(question, LetGo)
        self._store.let_go()
        self._composer.forget_sends()

    def hear(self, word: FROM_CORE) -> None:
        match word:
            case Carry(connection):
                work = self._works[connection] = _Work()
                self._nursery.start_soon(self._carry, word, work)
            case Started(connection):
                # It may have been given up at the same moment.
                if (work_of := self._works.get(connection)) is not None:
                    work_of.started.set()
            case DotMayLeave(connection):
                if (work_of := self._works.get(connection)) is not None:
                    work_of.dot_may_leave.set()
            case Cancel(connection):
                # It may have ended at the same moment.
                if (work_of := self._works.get(connection)) is not None:
                    work_of.scope.cancel()
            case Part(connection):
                self._nursery.start_soon(self._part, connection)
            case HangUp():
                self._nursery.start_soon(self._courier.hang_up)
            case NewConfig(config):
                self._config = config
            case NewPepper(number):
                self._know_peppers(number)
            case LetGo():
                raise AssertionError("it is asked, not told")
            case _:
                assert_never(word)

    async def _carry(self, word: Carry, work: _Work) -> None:
        connection = word.connection

        async def start() -> None:
            self._channel.tell(Start(connection))
            await work.started.wait()

        carried = None
        with work.scope:
            queued = self._store.get(word.state.message_id)
            errand = Errand(word.state, word.domain, queued, word.refused)
            carried = await self._courier.carry(connection, errand, start)
        del self._works[connection]
        self._channel.tell(NothingDone(connection) if carried is None else Done(connection, carried))

    async def _ask_for_dot(self, connection: int) -> None:
        if self._config.nodes is not None:
            granted = self._works[connection].dot_may_leave = trio.Event()
            self._channel.tell(DotDue(connection))
            await granted.wait()

    async def _part(self, connection: int) -> None:
        await self._courier.part(connection)
        self._channel.tell(Parted(connection))

    def _tell_connections(self) -> None:
        self._channel.tell(Connections(self._courier.connections))

    def _pepper_at(self, seq: int) -> int:
        with self._store.read() as view:
            return peppers.number_at(view, seq)

    def _know_peppers(self, number: int) -> None:
        """All up to that number. A file that cannot be read is looked at again with the next news; its mail waits."""
        for wanted in range(1, number + 1):
            if wanted in self._peppers:
                continue
            try:
                pepper = Pepper(read_pepper(self._directory, wanted))
            except KeyFileError:
                logger.exception("courier.pepper_missing", extra={"number": wanted})
                continue
            self._composer.add_pepper(wanted, pepper)
            self._peppers.add(wanted)
