"""One child of the relay: a process that computes answers, one at a time, and may fail.

    async with open_child(program) as child:
        answer = await child.ask(question, octets, answer=Reading, seconds=2, party=domain)

`answer` is what the program makes of the question, of the type that was named, or `NoAnswer` with the reason. The
invariant: **a child never keeps anybody**. What has not been answered in its seconds, and a child that ends, says what
cannot be read, or is stopped, is killed (SIGKILL, which a stopped process obeys, too) and reaped; that question is
answered by NoAnswer, and the next finds another child. One that has used up its processor time ends by itself
(SIGPROF). Whoever asks waits in turn (`relay.turns`), by party.

*Beginning* (`process`). It takes as long as to start an interpreter with the program's modules, so the first begins
with the block, and stays. When several in a row have ended without an answer, the next begins later and later
(BACK_OFF_SECONDS_MAX). After ANSWERS_MAX answers it is made again: what a library keeps of all it reads never adds up.

*Ending.* With the block, killed: nothing that it knows is needed. Where the relay is killed, the kernel and the end of
its socket end the child (`in_child`). No zombie, socket or pipe is left behind either way.

*Cancelled* while waiting: nothing has happened. Cancelled while the child is at it: the child is killed.

What a child says on standard error goes into the relay's log, in short lines, and not many.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
import trio

from relay.processes import frames
from relay.processes.frames import BrokenFrame, Frame
from relay.processes.process import Process, begin
from relay.turns import Turns

logger = logging.getLogger(__name__)

#: Until it is ready; a machine that swaps takes its time.
START_SECONDS_MAX: Final = 20.0
BACK_OFF_SECONDS: Final = 0.1
BACK_OFF_SECONDS_MAX: Final = 5.0
ANSWERS_MAX: Final = 1000
SAID_LINES_MAX: Final = 20
SAID_CHARACTERS_MAX: Final = 300
_PIPE_BYTES: Final = 4096
_SOCKET_BYTES: Final = 256 * 1024

#: How the end of a process shows; the last where it was reaped before its socket was read.
_GONE: Final = (BrokenFrame, trio.BrokenResourceError, trio.ClosedResourceError)

Answered = TypeVar("Answered")


class Program(NamedTuple):
    """What a child computes."""

    #: In the log.
    name: str
    #: Has QUESTIONS, the type of what may be asked (of msgspec), and `answer(question, octets)`.
    module: str
    #: Of memory, beyond what it needs to be ready.
    data_bytes_max: int
    #: Of processor time, for one question. It says how dear a question is, whatever else the machine does.
    cpu_seconds_max: float


#: It took too long; it ended; it said what is no answer; none could be begun.
Why = Literal["late", "ended", "nonsense", "not_begun"]


class NoAnswer(NamedTuple):
    why: Why


class ChildStatistics(NamedTuple):
    begun: int
    answered: int
    no_answers: dict[Why, int]
    waiting: int


@dataclass(eq=False)
class _Process:
    """One process, until it is reaped."""

    begun: Process
    stream: trio.SocketStream
    errors: trio.lowlevel.FdStream
    is_ready: bool = False
    answered: int = 0


@asynccontextmanager
async def open_child(program: Program) -> AsyncIterator[Child]:
    """A child that is being begun, and ends with the block."""
    async with trio.open_nursery() as nursery:
        child = Child(nursery, program)
        try:
            child.begin()
            yield child
        finally:
            nursery.cancel_scope.cancel()


class Child:
    """See the module docstring. Made by `open_child`."""

    def __init__(self, nursery: trio.Nursery, program: Program) -> None:
        self._nursery = nursery
        self._program = program
        self._turns = Turns(1)
        self._process: _Process | None = None
        #: That ended without an answer, one after the other.
        self._failures = 0
        self._not_before = -math.inf
        self._begun = 0
        self._answered = 0
        self._no_answers: Counter[Why] = Counter()

    @property
    def pid(self) -> int | None:
        """Of the process that would be asked now."""
        return None if self._process is None else self._process.begun.pid

    def statistics(self) -> ChildStatistics:
        return ChildStatistics(self._begun, self._answered, dict(self._no_answers), self._turns.waiting)

    async def ask(
        self,
        question: msgspec.Struct,
        octets: bytes = b"",
        *,
        answer: type[Answered],
        seconds: float,
        party: str | None,
    ) -> Answered | NoAnswer:
        """See the module docstring. `seconds` begin with the turn, when the child is ready; `party` None: first."""
        frame = Frame(msgspec.msgpack.encode(question), octets)
        async with self._turns.turn(party):
            process = await self._ready()
            if process is None:
                return self._without("not_begun")
            try:
                with trio.move_on_after(seconds):
                    answered = await _asked(process, frame, answer)
                    process.answered += 1
                    self._answered += 1
                    self._failures = 0
                    if process.answered >= ANSWERS_MAX:
                        self._end(process)
                        self.begin()
                    return answered
                why: Why = "late"
            except _GONE:
                why = "ended"
            except msgspec.MsgspecError:
                why = "nonsense"
            except BaseException:
                self._end(process)
                raise
            self._fail(process)
            return self._without(why)

    # ------------------------------------------------------------------------------------------------- its process

    def begin(self) -> None:
        """Begin a process. Nothing is waited for: it gets ready by itself."""
        try:
            process = _begun(self._program)
        except OSError as error:
            logger.error("child.not_begun", extra={"program": self._program.name, "errno": error.errno})
            self._fail(None)
            return
        self._process = process
        self._begun += 1
        self._nursery.start_soon(self._keep, process)

    async def _ready(self) -> _Process | None:
        """One that can be asked; None: there is none to be had."""
        if self._process is not None and self._process.begun.has_ended:
            self._fail(self._process)  # meanwhile, while nobody asked
        if self._process is None:
            await trio.sleep_until(self._not_before)
            self.begin()
        process = self._process
        if process is None or process.is_ready:
            return process
        try:
            with trio.move_on_after(START_SECONDS_MAX):
                process.is_ready = await _receive(process.stream, octets_max=0) == frames.READY
        except _GONE:
            pass
        except BaseException:
            self._end(process)
            raise
        if not process.is_ready:
            self._fail(process)
            return None
        return process

    def _without(self, why: Why) -> NoAnswer:
        self._no_answers[why] += 1
        logger.warning("child.no_answer", extra={"program": self._program.name, "why": why})
        return NoAnswer(why)

    def _fail(self, process: _Process | None) -> None:
        """It ended, or has to, and has not answered: the next begins later, unless it was the first."""
        if process is not None:
            self._end(process)
        if self._failures:
            delay = min(BACK_OFF_SECONDS * 2 ** (self._failures - 1), BACK_OFF_SECONDS_MAX)
            self._not_before = trio.current_time() + delay
        self._failures = min(self._failures + 1, 32)

    def _end(self, process: _Process) -> None:
        process.begun.kill()
        if self._process is process:
            self._process = None

    async def _keep(self, process: _Process) -> None:
        """Until it has ended: hear what it says, and reap it."""
        try:
            await self._hear(process)
            await process.begun.wait()
        finally:
            code = await process.begun.end()
            if code is None:
                logger.error("child.cannot_be_killed", extra={"program": self._program.name})
            process.errors.close()
            process.stream.socket.close()
            if code not in (0, None, -signal.SIGKILL):
                logger.warning("child.ended", extra={"program": self._program.name, "code": code})

    async def _hear(self, process: _Process) -> None:
        """What it says, until it has closed its standard error. Behind SAID_LINES_MAX lines it is only read."""
        said, lines = b"", 0
        while octets := await process.errors.receive_some(_PIPE_BYTES):
            *whole, said = (said + octets).split(b"\n")
            if len(said) > SAID_CHARACTERS_MAX:
                whole, said = [*whole, said], b""
            for line in whole[: SAID_LINES_MAX - lines]:
                text = line[:SAID_CHARACTERS_MAX].decode("ascii", "replace")
                logger.warning("child.said", extra={"program": self._program.name, "line": text})
            lines = min(lines + len(whole), SAID_LINES_MAX)


async def _asked(process: _Process, frame: Frame, answer: type[Answered]) -> Answered:
    """Raises one of _GONE, or msgspec.MsgspecError."""
    await _send(process.stream, frame)
    answered = await _receive(process.stream, octets_max=0)
    return msgspec.msgpack.decode(answered.head, type=answer)


async def _send(stream: trio.SocketStream, frame: Frame) -> None:
    """Raises trio.BrokenResourceError where nobody reads any more. Cancelled: half a frame may have been sent."""
    await stream.send_all(frame.beginning())
    if frame.octets:
        await stream.send_all(frame.octets)


async def _receive(stream: trio.SocketStream, *, octets_max: int) -> Frame:
    """Raises BrokenFrame, or trio.BrokenResourceError."""
    head_bytes, octets = frames.judged(await _exactly(stream, frames.LENGTHS.size), octets_max)
    return Frame(await _exactly(stream, head_bytes), await _exactly(stream, octets))


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = await stream.receive_some(min(count - len(received), _SOCKET_BYTES))
        if not piece:
            raise BrokenFrame("the child has closed its socket")
        received += piece
    return bytes(received)


def _begun(program: Program) -> _Process:
    """A new process. Raises OSError, and leaves nothing behind then."""
    ours, theirs = socket.socketpair()
    errors, their_errors = os.pipe()
    arguments = (
        program.module,
        theirs.fileno(),
        os.getpid(),
        program.data_bytes_max,
        program.cpu_seconds_max,
    )
    try:
        begun = begin("relay.processes.in_child", arguments, passed=[theirs.fileno()], errors=their_errors)
    except BaseException:
        ours.close()
        os.close(errors)
        raise
    finally:
        theirs.close()
        os.close(their_errors)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    return _Process(begun, stream, trio.lowlevel.FdStream(errors))
