"""A machine on which a relay lives, dies and is started again: the log on a disk that forgets, the views on a real one.

    machine = Machine(directory, internet, receivers, seed=7)
    end = await machine.live(story)          # one life: until `story` returns, the relay dies, or it gives up
    answer = await machine.ask(request)      # from any other task: None where nobody answered

`die` is a death at that very moment, and may be called from anywhere inside a life: from the disk's operations, from a
receiver that has just got a message, from an observer of the views. From then on nothing that the dying relay does
reaches the world: the disk refuses, connections are cut, answers are lost, and the views are those of that moment.

- `kill`: the process dies, the machine does not. What was written is there, synced or not; LMDB is as it was.
- `power`: the machine dies. Of what was not synced any sector, length or name may be lost (`tests.world.disk`), and the
  views bear the mark of another boot.

A life can also end in order (`story` returns: SIGTERM), or because the log was poisoned: then the relay's own way out
is taken, as in a real process. Any other end is a defect, and raised.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import trio
import trio.abc

from relay.codec import Recorded
from relay.file_names import VIEWS_DIRECTORY
from relay.service import Relay, open_relay
from relay.store import Store
from relay.surroundings import Surroundings
from spool.errors import LogPoisonedError
from tests.world.internet import Internet
from tests.world.mortal_disk import Death, bury, copy_views, disk_with, let_die, write_out
from tests.world.mx import Mx
from tests.world.relay import World, virtual_clock

End = Literal["stopped", "kill", "power", "poisoned"]
T = TypeVar("T")


class Journal:
    """Every event that a relay has had in its views, over all lives; what it has shown cannot be taken back."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        #: What is wrong with what was seen, in sentences.
        self.breaches: list[str] = []
        #: Called with new events.
        self.observers: list[Callable[[Sequence[Recorded]], None]] = []

    def begin_life(self, store: Store) -> None:
        """See what became true at the end of the last life, and whether all that was true still is."""
        if store.last_seq < len(self.events):
            self.breaches.append(
                f"{len(self.events)} events had been acknowledged; after a restart there are {store.last_seq}"
            )
        self.see([store.get(seq) for seq in range(len(self.events) + 1, store.last_seq + 1)])

    def see(self, recorded: Sequence[Recorded]) -> None:
        for item in recorded:
            if item.seq != len(self.events) + 1:
                self.breaches.append(f"after event {len(self.events)} came {item.seq}")
            self.events.append(item)
        for observer in self.observers:
            observer(recorded)


class Machine:
    """See the module. `receivers` is where the receivers' ends of connections live, longer than any life."""

    def __init__(self, directory: Path, internet: Internet, receivers: trio.Nursery, *, seed: int) -> None:
        self.directory = directory
        self.disk = disk_with(directory)
        self.journal = Journal()
        #: Of the clock, against the time that passes; set it at will.
        self.clock_offset_us = 0
        #: How long each call that may block takes.
        self.disk_seconds: Callable[[], float] = lambda: 0.0
        #: Called with the number of the life when its relay is up.
        self.lives = 0
        self.death: Death | None = None
        self.world: World | None = None
        #: A relay is being started; what it does already, nobody sees yet.
        self.is_starting = False
        self._internet = internet
        self._connect = internet.connected_by(receivers)
        self._dice = random.Random(f"relay {seed}")
        self._chance = random.Random(f"chance {seed}")
        self._fate = random.Random(f"fate {seed}")
        self._cables: dict[_Cable, None] = {}
        self._store: Store | None = None
        self._start_failed = False
        #: Of the disks that a loss of power has ended.
        self._failures: Counter[str] = Counter()
        self._life: trio.Nursery
        self._requests: trio.Nursery

    async def live(self, story: Callable[[World], Awaitable[None]]) -> End:
        """Start the relay, and let it live until `story` returns. Raises whatever is no proper end of a relay."""
        self.lives += 1
        self.death = None
        self.is_starting = True
        try:
            async with trio.open_nursery() as self._life:
                async with open_relay(self.directory, self._surroundings()) as relay:
                    await self._serve(relay, story)
                self._life.cancel_scope.cancel()
        except ExceptionGroup as group:
            # The last words of a dead process are heard by nobody.
            if self.death is None and not (self.disk.has_failed and _is_of_the_disk(group)):
                raise
            if self.death is None:
                self.disk.restart()
                self._start_failed = True
                return "poisoned"
        if self.death is None:
            self.disk.restart()
            return "stopped"
        self._bury()
        return self.death

    async def _serve(self, relay: Relay, story: Callable[[World], Awaitable[None]]) -> None:
        world = World(relay, Mx(), self._internet.dns)
        self._store, self._start_failed = relay.core.store, False
        self.is_starting = False
        self.journal.begin_life(relay.core.store)
        relay.core.store.observers.append(self._observe)
        async with trio.open_nursery() as self._requests:
            self.world = world
            try:
                await story(world)
            finally:
                self.world = None
            await relay.stop()
            self._requests.cancel_scope.cancel()

    def disk_failures(self) -> Counter[str]:
        """How many of the disk's operations failed, by the name of the error, over all lives."""
        return self._failures + self.disk.failures

    @property
    def is_log_in_doubt(self) -> bool:
        """A sync of it has failed, and no relay has started since: what can be read of it may be lost all the same."""
        return self._start_failed or (self._store is not None and self._store.poisoned)

    def die(self, death: Death) -> None:
        """Now. Without effect where the relay is dead or down."""
        if self.death is not None:
            return
        self.death = death
        self.world = None
        let_die(self.disk, self.directory)
        for cable in list(self._cables):
            cable.cut()
        self._life.cancel_scope.cancel()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call it in this life, at that time."""
        self._life.start_soon(self._act_after, seconds, act)

    async def _act_after(self, seconds: float, act: Callable[[], None]) -> None:
        await trio.sleep(seconds)
        act()

    async def ask(self, request: Callable[[World], Awaitable[T]]) -> T | None:
        """What the relay answers; None where it is down, or dies before."""
        world = self.world
        if world is None:
            return None
        life = self.lives
        answers: list[T] = []
        answered = trio.Event()

        async def carry_out() -> None:
            try:
                answers.append(await request(world))
                if self.lives == life and self.death is not None:
                    answers.clear()  # it was said by a dead process
            finally:
                answered.set()

        self._requests.start_soon(carry_out)
        await answered.wait()
        return answers[0] if answers else None

    # ---------------------------------------------------------------- what may happen to the views

    def lose_views(self) -> bool:
        """Whether there were any."""
        directory = self.directory / VIEWS_DIRECTORY
        had_any = directory.exists()
        shutil.rmtree(directory, ignore_errors=True)
        return had_any

    def keep_views(self) -> None:
        """Remember them, as a copy that an operator has made."""
        copy_views(self.directory / VIEWS_DIRECTORY, self.directory / "views.old")

    def bring_back_views(self) -> bool:
        """Those of the last `keep_views`; whether there are any."""
        has_any = (self.directory / "views.old").exists()
        if has_any:
            copy_views(self.directory / "views.old", self.directory / VIEWS_DIRECTORY)
        return has_any

    def write_out(self) -> Path:
        """The log's segments as they are on the disk, as real files in the directory, for those who read those."""
        return write_out(self.disk, self.directory)

    # ----------------------------------------------------------------

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            clock=lambda: virtual_clock() + self.clock_offset_us,
            disk=self.disk,
            offload=self._offload,
            open_stream=self._open_stream,
            resolver=self._internet.dns,
            tls=self._internet.trust,
            dice=self._dice,
            chance=self._chance.randbytes,
        )

    async def _offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        await trio.sleep(self.disk_seconds())
        return function(*arguments)

    async def _open_stream(self, address: str, port: int) -> trio.abc.Stream:
        cable = _Cable(await self._connect(address, port), self._cables)
        self._cables[cable] = None
        return cable

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        if self.death is None:
            self.journal.see(recorded)

    def _bury(self) -> None:
        assert self.death is not None
        if self.death == "power":
            self._failures += self.disk.failures
        self.disk = bury(self.disk, self.directory, self.death, self._fate)


class _Cable(trio.abc.Stream):
    """A connection that can be cut: what was sent before arrives, and nothing more."""

    def __init__(self, stream: trio.abc.Stream, cables: dict[_Cable, None]) -> None:
        self._stream = stream
        self._cables = cables
        self._is_cut = False
        self._waiting: trio.CancelScope | None = None

    def cut(self) -> None:
        self._is_cut = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _check(self) -> None:
        if self._is_cut:
            raise trio.BrokenResourceError("the connection was cut")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._check()
        with trio.CancelScope() as self._waiting:
            return await self._stream.receive_some(max_bytes)
        self._check()
        raise AssertionError("only a cut cancels this")

    async def aclose(self) -> None:
        self._cables.pop(self, None)
        await self._stream.aclose()


def _is_of_the_disk(error: BaseException) -> bool:
    """Whether all that was raised comes from a disk that had been told to fail."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_of_the_disk(inner) for inner in error.exceptions)
    if isinstance(error, OSError):
        return error.errno in (errno.EIO, errno.ENOSPC)
    return isinstance(error, LogPoisonedError) and isinstance(error.__cause__, OSError | None)


def at_call(count: int, act: Callable[[], None]) -> Callable[[], None]:
    """Something to be called; at the `count`-th call, counted from 1, it acts, and never again."""

    def call() -> None:
        nonlocal count
        count -= 1
        if count == 0:
            act()

    return call
