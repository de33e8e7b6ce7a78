"""The core's edges: kept, greeted, told what they must hear, and stopped in order.

    addresses = await nursery.start(serve_by_edges, core, count, listened, close)

It is to a core what `relay.doors.serve_doors` is to an edge. The sockets are the core's, and each edge inherits them:
so the ports stay open whichever edge dies, and what nobody has accepted yet the next one accepts.

What an edge hears without asking: the configuration that holds now, further peppers, a renewed certificate, what its
streams wait for, and that the log was written anew without what was erased, which is done when every edge has let go of
it. What changed between its greeting and the moment when it is ready, it is told first. All waits for an edge are
bounded, because one that does not answer is killed (`relay.processes.keeper`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import NoneType
from typing import Any, Final

import msgspec
import trio

from relay.config import Config
from relay.core import Core
from relay.edges import words
from relay.edges.answering import OneEdge
from relay.edges.shares import share_of
from relay.elsewhere import OwnNode
from relay.file_names import VIEWS_DIRECTORY
from relay.listening import Addresses, Listened, Listening
from relay.message.keys import Pepper
from relay.processes.carried import CARRIED
from relay.processes.channel import ChannelClosed
from relay.processes.frames import BrokenFrame
from relay.processes.keeper import Role, Worker, keep
from relay.processes.landlock import Rules
from relay.reception.certificates import Certificates
from spool.views.snapshot import LOCK_NAME

logger = logging.getLogger(__name__)

#: So often the core looks whether its certificate was renewed.
CERTIFICATE_SECONDS: Final = 1.0
#: So often edges are told what this node is, where there are several.
NODE_SECONDS: Final = 0.5
#: Until the first edge is ready. A start that takes longer has failed.
FIRST_SECONDS_MAX: Final = 60.0
#: From the word to stop until the last door is closed: its grace, the last answers, and a moment.
DOORS_SECONDS_MAX: Final = 12.0


async def serve_by_edges(
    core: Core,
    count: int,
    certificates: Certificates | None,
    listened: Listened,
    close: trio.Event,
    stop_wanted: Callable[[], Awaitable[None]] = trio.sleep_forever,
    *,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until `close`, and then until all have ended in order, or were killed. Reports the addresses when the first edge
    serves them, or `stop_wanted` returns. Raises OSError where none does in FIRST_SECONDS_MAX.

    Cancelled, what edges have asked is answered first: where the log has failed, whoever waits for it is told so (503).
    """
    role = Role(
        "edge",
        "relay.edges.program",
        words.TO_CORE,
        Rules(
            not_read=(str(core.directory.resolve() / "keys"),),
            write=(str(core.directory.resolve() / VIEWS_DIRECTORY / LOCK_NAME),),
        ),
    )
    sockets = [each for one in listened.all() for each in one.sockets]
    async with trio.open_nursery() as nursery:
        edges = _Edges(core, count, certificates, listened, nursery)
        async with keep(
            role,
            count,
            greeting=edges.greeting,
            sockets=sockets,
            begun=edges.begun,
            answer=edges.answer,
            hear=edges.hear,
            lost=edges.lost,
        ) as keeper:
            core.metrics.workers[role.name] = keeper.statistics
            nursery.start_soon(edges.tell_certificates)
            if core.node is not None:
                nursery.start_soon(edges.tell_node, core.node)
            with edges.observing():
                with trio.move_on_after(FIRST_SECONDS_MAX) as patience:
                    await _either(edges.first.wait, stop_wanted)
                if patience.cancelled_caught:
                    raise OSError(f"no edge got ready within {FIRST_SECONDS_MAX:.0f} s; the log says why")
                task_status.started(listened.addresses)
                await close.wait()
                keeper.begin_no_more()
                # Theirs they close when they hear of it: whoever comes now is refused by the kernel.
                listened.close()
                await keeper.stop(min(DOORS_SECONDS_MAX, core.config.service.grace_seconds))
        nursery.cancel_scope.cancel()


class _Edges:
    """All that are ready, and what each of them is told."""

    def __init__(
        self,
        core: Core,
        count: int,
        certificates: Certificates | None,
        listened: Listened,
        nursery: trio.Nursery,
    ) -> None:
        self._core = core
        self._count = count
        self._certificates = certificates
        self._listened = listened
        self._nursery = nursery
        self._of: dict[Worker, tuple[OneEdge, trio.CancelScope]] = {}
        self.first = trio.Event()

    @contextmanager
    def observing(self) -> Iterator[None]:
        """The core tells this one what happens."""
        core = self._core
        core.settings.observers.append(self._tell_settings)
        core.pepper_observers.append(self._give_pepper)
        core.store.rewritten.append(self._let_go)
        try:
            yield
        finally:
            core.settings.observers.remove(self._tell_settings)
            core.pepper_observers.remove(self._give_pepper)
            core.store.rewritten.remove(self._let_go)

    # ------------------------------------------------------------------------------------------- for the keeper

    def greeting(self) -> words.Greeting:
        listened = self._listened
        return words.Greeting(
            directory=str(self._core.directory.resolve()),
            config=self._share(),
            peppers=self._peppers(),
            ticket_key=self._core.ticket_key,
            edges=self._count,
            certificate=None if self._certificates is None else self._certificates.pair,
            http=_served_on(listened.http),
            submission=tuple(map(_served_on, listened.submission)),
            inbound=tuple(map(_served_on, listened.inbound)),
            node=None if self._core.node is None else _told(self._core.node),
        )

    def begun(self, worker: Worker) -> None:
        edge, scope = OneEdge(self._core, worker.name, worker.channel), trio.CancelScope()
        self._of[worker] = edge, scope
        worker.channel.tell(words.Configured(self._share()))
        if self._certificates is not None:
            worker.channel.tell(words.NewCertificate(self._certificates.pair))
        self._nursery.start_soon(self._tell_news, worker, edge, scope)
        self.first.set()

    async def answer(self, worker: Worker, question: Any) -> Any:
        return await self._edge(worker).answer(question)

    def hear(self, worker: Worker, news: Any) -> None:
        self._edge(worker).hear(news)

    def lost(self, worker: Worker) -> None:
        self._core.store.clear_dead_readers()
        edge, scope = self._of.pop(worker)
        scope.cancel()
        edge.lose()

    def _edge(self, worker: Worker) -> OneEdge:
        found = self._of.get(worker)
        if found is None:
            raise BrokenFrame("it asks before it is ready")
        return found[0]

    # ------------------------------------------------------------------------------------------- what edges hear

    async def _tell_news(self, worker: Worker, edge: OneEdge, scope: trio.CancelScope) -> None:
        with scope:
            is_heard = await _ask(worker, words.NewPeppers(self._peppers()))
            is_heard = is_heard and await _ask(worker, words.LetGo())
            while is_heard:
                is_heard = await _ask(worker, words.Told(await edge.news.next()))

    async def tell_certificates(self) -> None:
        """Until cancelled: what is renewed is shown at all edges within CERTIFICATE_SECONDS."""
        if self._certificates is None:
            return
        shown = self._certificates.pair
        while True:
            await trio.sleep(CERTIFICATE_SECONDS)
            self._certificates.context()  # which looks whether the files have changed
            if self._certificates.pair is not shown:
                shown = self._certificates.pair
                for worker in self._of:
                    worker.channel.tell(words.NewCertificate(shown))

    async def tell_node(self, node: OwnNode) -> None:
        """Until cancelled: where the relay runs on several nodes, what this one is."""
        while True:
            await trio.sleep(NODE_SECONDS)
            for worker in self._of:
                worker.channel.tell(_told(node))

    def _tell_settings(self, before: Config) -> None:
        for worker in self._of:
            worker.channel.tell(words.Configured(self._share()))

    async def _give_pepper(self, number: int, pepper: Pepper) -> None:
        await self._ask_all(words.NewPeppers({number: pepper.root}))

    async def _let_go(self) -> None:
        await self._ask_all(words.LetGo())

    async def _ask_all(self, question: msgspec.Struct) -> None:
        """Until each has answered, or is dead."""
        async with trio.open_nursery() as nursery:
            for worker in self._of:
                nursery.start_soon(_ask, worker, question)

    # ------------------------------------------------------------------------------------------- leaves

    def _share(self) -> Config:
        return share_of(self._core.config, self._count)

    def _peppers(self) -> dict[int, bytes]:
        return {number: pepper.root for number, pepper in self._core.pepper.items()}


async def _either(*waits: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(one: Callable[[], Awaitable[None]]) -> None:
            await one()
            nursery.cancel_scope.cancel()

        for one in waits:
            nursery.start_soon(wait, one)


async def _ask(worker: Worker, question: msgspec.Struct) -> bool:
    """Until it has answered, or is gone: False. One that cannot do what is asked is no edge any more, and is killed."""
    try:
        await worker.channel.call(question, NoneType)
    except ChannelClosed:
        pass
    except CARRIED:
        logger.exception(
            "edge.killed", extra={"edge": worker.name, "because": "it could not do what it was told"}
        )
        worker.kill()
    else:
        return True
    await worker.gone.wait()
    return False


def _told(node: OwnNode) -> words.NodeIs:
    return words.NodeIs(node.role, node.lag_seconds, node.trouble, node.is_unfit)


def _served_on(one: Listening) -> words.ServedOn:
    return words.ServedOn(one.address, len(one.sockets))
