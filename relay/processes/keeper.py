"""The core's half of its workers: they are begun, watched, and begun again when they die. `worker` is the other half.

    async with keep(role, 2, greeting=..., begun=..., answer=..., hear=..., lost=...) as keeper:
        await keeper.workers[0].channel.call(...)
        await keeper.stop(seconds)

The invariants:

- **A worker never stops the core.** Nothing is waited for without a bound. One that is silent for `Times.silent`, that
  is not ready in `Times.start`, or that sends what it may not, is killed (SIGKILL, which a stopped process obeys, too).
- **It is lost only when it is dead, and all that it sent has been read.** Then, and when nothing of what it had asked
  is still being answered, `lost(worker)` is called, and `Worker.gone` is set: from then on nobody but the core knows
  what it did. A call to it may raise ChannelClosed before: whoever has to know waits for `gone`.

Each is watched by heartbeats, which its loop answers. What is counted are beats that were not answered, so that a core
that was itself suspended, or busy, takes nobody's silence for longer than it was.

*Again and again.* After the first death the next is begun at once; when it dies, too, before it has been ready for
`Times.back_off_max`, the next begins later and later, and the log says so. The others are not disturbed.

*Ending.* `stop` lets all end in order, and kills those that have not after that time. Leaving the block without it
closes their sockets behind what they were answered last (that the log is broken, say), which they end by, and kills
those that have not in `Times.leave`. Either way they are reaped; `lost` is called for each for which `begun` was.

*A defect here*, in what `answer` or one of the other functions does, is raised out of the block. A defect of a worker
costs that worker.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import trio

from relay.processes import landlock
from relay.processes.channel import Channel
from relay.processes.frames import BrokenFrame
from relay.processes.process import Process, begin
from relay.processes.worker import Hello, Ready, Stop, Welcome

logger = logging.getLogger(__name__)


class Role(NamedTuple):
    """What a kind of worker does, and what it may."""

    #: In the log, with a number behind it.
    name: str
    #: Of its program (`worker`).
    module: str
    #: Tagged structs that it may ask the core, or tell it: a type of msgspec.
    questions: Any
    #: What it may do with files; None: whatever its user may.
    may: landlock.Rules | None = None


class Times(NamedTuple):
    """In seconds."""

    beat: float = 1.0
    #: Without an answer to a heartbeat.
    silent: float = 5.0
    #: Until it is ready; a machine that swaps takes its time.
    start: float = 30.0
    back_off: float = 0.5
    back_off_max: float = 60.0
    #: From the end of its socket to its own end, in order.
    leave: float = 1.0


class KeeperStatistics(NamedTuple):
    ready: int
    begun: int
    #: In another way than in order.
    died: int


_EXPONENT_MAX: Final = 32


class Worker:
    """One process, for as long as it lives."""

    def __init__(self, name: str, process: Process, channel: Channel) -> None:
        #: `edge 1`. The one that is begun in its place has the same.
        self.name = name
        self.pid = process.pid
        self.channel = channel
        #: It is dead, and everything of it has been read and answered.
        self.gone = trio.Event()
        self._process = process
        self._ready = trio.Event()
        self._dead = trio.Event()
        self._ready_at: float | None = None

    def kill(self) -> None:
        """For who cannot wait for it any longer. What follows is as for any death."""
        self._process.kill()


@asynccontextmanager
async def keep(
    role: Role,
    count: int,
    *,
    greeting: Callable[[], msgspec.Struct],
    sockets: Sequence[socket.socket] = (),
    begun: Callable[[Worker], None],
    answer: Callable[[Worker, Any], Awaitable[Any]],
    hear: Callable[[Worker, Any], None],
    lost: Callable[[Worker], None],
    times: Times = Times(),  # noqa: B008 - it is frozen
) -> AsyncIterator[Keeper]:
    """So many workers, which are being begun; see the module docstring.

    `greeting` is asked when one is there to hear it; `begun` is called when it is ready. What has changed in between is
    for `begun` to tell. `sockets` are inherited by each. `answer` and `hear` are as in `Channel.run`.
    """
    if role.may is not None and count and not landlock.version():
        logger.warning("landlock.not_there", extra={"role": role.name})
    host = _Host(greeting, begun, answer, hear, lost)
    async with trio.open_nursery() as nursery:
        keeper = Keeper(role, count, sockets, host, times)
        for number in range(1, count + 1):
            nursery.start_soon(keeper._keep, f"{role.name} {number}")
        try:
            yield keeper
        finally:
            nursery.cancel_scope.cancel()


class _Host(NamedTuple):
    greeting: Callable[[], msgspec.Struct]
    begun: Callable[[Worker], None]
    answer: Callable[[Worker, Any], Awaitable[Any]]
    hear: Callable[[Worker, Any], None]
    lost: Callable[[Worker], None]


class Keeper:
    """See the module docstring. Made by `keep`."""

    def __init__(
        self, role: Role, count: int, sockets: Sequence[socket.socket], host: _Host, times: Times
    ) -> None:
        #: Those that are ready; do not change it.
        self.workers: list[Worker] = []
        self._role = role
        self._sockets = sockets
        self._host = host
        self._times = times
        self._living: set[Worker] = set()
        self._stop = trio.Event()
        self._kept = count
        self._all_ended = trio.Event()
        self._not_yet_ready = {f"{role.name} {number}" for number in range(1, count + 1)}
        self._all_ready = trio.Event()
        if not count:
            self._all_ended.set()
            self._all_ready.set()
        self._begun = 0
        self._died = 0

    def statistics(self) -> KeeperStatistics:
        return KeeperStatistics(len(self.workers), self._begun, self._died)

    async def wait_ready(self) -> None:
        """Until each has been ready once; for ever where one never is."""
        await self._all_ready.wait()

    def begin_no_more(self) -> None:
        """None that dies is followed by another: what they inherit may be closed from now on. `stop` is to come."""
        self._stop.set()

    async def stop(self, seconds: float) -> None:
        """Let all end in order, kill those that have not after that time, and return when all are gone."""
        self._stop.set()
        for worker in list(self._living):
            if worker._ready.is_set():
                worker.channel.tell(Stop())
            else:
                worker._process.kill()
        with trio.move_on_after(seconds):
            await self._all_ended.wait()
        for worker in list(self._living):
            logger.warning("worker.killed", extra={"worker": worker.name, "because": "it did not stop"})
            worker._process.kill()
        await self._all_ended.wait()

    async def _keep(self, name: str) -> None:
        """One place: a worker, and the next when that has died."""
        deaths = 0
        while not self._stop.is_set():
            seconds_ready = await self._live(name)
            deaths = 1 if seconds_ready >= self._times.back_off_max else deaths + 1
            if deaths == 1 or self._stop.is_set():
                continue
            delay = self._times.back_off * 2 ** min(deaths - 2, _EXPONENT_MAX)
            delay = min(delay, self._times.back_off_max)
            logger.warning("worker.begun_later", extra={"worker": name, "deaths": deaths, "seconds": delay})
            with trio.move_on_after(delay):
                await self._stop.wait()
        self._kept -= 1
        if not self._kept:
            self._all_ended.set()

    async def _live(self, name: str) -> float:
        """From the beginning of one until it is gone; for how many seconds it was ready."""
        try:
            process, stream = self._begin(name)
        except OSError as error:
            logger.error("worker.not_begun", extra={"worker": name, "errno": error.errno})
            return 0.0
        self._begun += 1
        channel = Channel(stream, questions=self._role.questions | Hello | Ready)
        worker = Worker(name, process, channel)
        self._living.add(worker)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with_process, worker, stream)
                nursery.start_soon(self._kill_when_silent, worker)
                try:
                    await channel.run(partial(self._answer, worker), partial(self._hear, worker))
                    self._give_no_more(worker)
                    with trio.move_on_after(self._times.leave):
                        await worker._dead.wait()
                    worker.kill()
                except* BrokenFrame as broken:
                    self._log_kill(worker, "it sent what it may not", exc_info=broken)
                    worker.kill()
                nursery.cancel_scope.cancel()
        finally:
            self._give_no_more(worker)
            # Where this is cancelled it lives, has just heard its last answers, and finds its socket closed.
            if not worker._ready.is_set():
                worker.kill()  # it has asked for nothing
            with trio.move_on_after(self._times.leave, shield=True):
                await process.wait()
            code = await process.end()
            self._living.discard(worker)
            self._log_end(worker, code)
            if worker._ready.is_set():
                self._host.lost(worker)
            worker.gone.set()
        return 0.0 if worker._ready_at is None else trio.current_time() - worker._ready_at

    def _begin(self, name: str) -> tuple[Process, trio.SocketStream]:
        """Raises OSError, and leaves nothing behind then."""
        ours, theirs = socket.socketpair()
        listening = [one.fileno() for one in self._sockets]
        arguments = (self._role.module, name, theirs.fileno(), os.getpid(), *listening)
        try:
            process = begin("relay.processes.in_worker", arguments, passed=[theirs.fileno(), *listening])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return process, trio.SocketStream(trio.socket.from_stdlib_socket(ours))

    # ----------------------------------------------------------------------------------------------------- what it says

    async def _answer(self, worker: Worker, question: Any) -> Any:
        if isinstance(question, Hello):
            greeting = msgspec.msgpack.encode(self._host.greeting())
            return Welcome(msgspec.Raw(greeting), self._role.may)
        return await self._host.answer(worker, question)

    def _hear(self, worker: Worker, news: Any) -> None:
        if not isinstance(news, Ready):
            self._host.hear(worker, news)
            return
        if worker._ready.is_set() or self._stop.is_set():
            return
        logger.info("worker.ready", extra={"worker": worker.name, "pid": worker.pid})
        worker._ready.set()
        worker._ready_at = trio.current_time()
        self.workers.append(worker)
        self._host.begun(worker)
        self._not_yet_ready.discard(worker.name)
        if not self._not_yet_ready:
            self._all_ready.set()

    # ----------------------------------------------------------------------------------------------------- how it ends

    async def _end_with_process(self, worker: Worker, stream: trio.SocketStream) -> None:
        """What a dead process has sent is read, and then its socket is at its end, whoever else may hold it."""
        await worker._process.wait()
        worker._dead.set()
        with suppress(OSError):  # it may be closed already
            stream.socket.shutdown(socket.SHUT_RDWR)

    async def _kill_when_silent(self, worker: Worker) -> None:
        with trio.move_on_after(self._times.start) as starting:
            await worker._ready.wait()
        if starting.cancelled_caught:
            self._kill(worker, "it did not get ready")
            return
        heard_at, unanswered = worker.channel.heard_at, 0
        while unanswered * self._times.beat < self._times.silent:
            worker.channel.beat()
            await trio.sleep(self._times.beat)
            unanswered = unanswered + 1 if worker.channel.heard_at == heard_at else 0
            heard_at = worker.channel.heard_at
        self._kill(worker, "it was silent")

    def _kill(self, worker: Worker, because: str) -> None:
        self._log_kill(worker, because)
        self._give_no_more(worker)
        worker._process.kill()

    def _give_no_more(self, worker: Worker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)

    def _log_kill(self, worker: Worker, because: str, exc_info: BaseException | None = None) -> None:
        extra = {"worker": worker.name, "pid": worker.pid, "because": because}
        logger.error("worker.killed", extra=extra, exc_info=exc_info)

    def _log_end(self, worker: Worker, code: int | None) -> None:
        extra: dict[str, Any] = {"worker": worker.name, "pid": worker.pid, "code": code}
        if code is None:
            # It runs no instruction of its own any more, so what follows from its death is true.
            logger.error("worker.cannot_be_killed", extra=extra)
        if self._stop.is_set() and (code == 0 or not worker._ready.is_set()):
            logger.info("worker.stopped", extra=extra)
            return
        self._died += 1
        if code is not None and code < 0:
            extra["signal"] = _name_of(-code)
        logger.warning("worker.ended", extra=extra)


def _name_of(number: int) -> str:
    """Of a signal. Most of the real-time ones have a number only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
