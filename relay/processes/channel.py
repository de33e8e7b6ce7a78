"""Two processes that ask and tell each other things, over a pair of connected Unix sockets.

    channel = Channel(stream, questions=Ask | Tell)
    nursery.start_soon(channel.run, answer, hear)
    answered = await channel.call(Question(...), Answer)
    channel.tell(News(...))

Both sides do the same; many calls are under way at a time, and are answered in any order. The invariant: **whoever
calls learns what has become of it, or that the other side has ended** (`ChannelClosed`), and **what has been received
is handed out before the end is**: the other side may be killed right behind its last word.

*Cancelled* while a call waits: the other side is told, and its answer is awaited all the same. Only when it says that
nothing was done is Cancelled raised; where it had been done, the answer is returned. Where the other side ends
meanwhile nobody knows, and that is ChannelClosed, too. So cancelling a call takes as long as the other side takes.

*The end.* When the other side has closed, or is dead, and all that it sent has been read, calls of this side raise
ChannelClosed. What the other side asked and is still being answered here is cancelled, and when the last of that has
ended, `run` returns. Whoever has to know that nothing works for the other side any more waits for that. What is told
behind the end goes nowhere. Where `run` is cancelled, or raises, the socket is closed, so that the other side sees an
end.

*What is raised* by `answer` and stands in `relay.processes.carried` is raised at the caller. Anything else is a defect
here: `run` raises it. What the other side sends and may not send (`BrokenFrame`) is a defect over there, and `run`
raises that.

*Frames*: length of the body (4 octets), kind (1), number of the call (8), all big-endian; then the body in MessagePack.
Frames are gathered while tasks run, and are sent when the loop is about to wait, all of one turn of it in one system
call; no task is woken for that unless the socket takes no more. In the same way all frames of one read are handled at
once. (Two frames a call, two calls a message: this is the way of every mail.)

Nothing here bounds how much waits to be sent: who calls, waits; who tells, sees to it that there is a bound. What the
other side may make this one hold is bounded: one frame by FRAME_BYTES_MAX, calls at a time by CALLS_MAX and
CALLS_BYTES_MAX.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import outcome
import trio

from relay.processes import carried
from relay.processes.frames import BrokenFrame

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
#: That are being answered at a time.
CALLS_MAX: Final = 65_536
#: As they came. What is legal to have under way is a part of this: bodies have bounds of their own, at every door.
CALLS_BYTES_MAX: Final = 1024 * 1024 * 1024

_HEAD: Final = struct.Struct(">IBQ")
_CALL, _TELL, _ANSWER, _RAISED, _CANCEL, _NOTHING_DONE, _BEAT, _ALIVE = range(8)

#: Under what the allocator takes from the kernel each time.
_READ_BYTES: Final = 64 * 1024
#: So much is not kept until the loop waits.
_GATHERED_BYTES_MAX: Final = 64 * 1024
#: <limits.h>: IOV_MAX is 1024.
_PIECES_MAX: Final = 512

Answered = TypeVar("Answered")

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_raised: Final = msgspec.msgpack.Decoder(carried.Raised).decode


class ChannelClosed(Exception):
    """The other side has ended. Whether it did what it was asked for is not known."""


class _Waiting:
    """One call of this side."""

    __slots__ = ("decode", "raise_cancelled", "task")

    def __init__(self, task: trio.lowlevel.Task, decode: Callable[[memoryview], Any]) -> None:
        self.task = task
        self.decode = decode
        #: Set when it was cancelled, and the other side has been told.
        self.raise_cancelled: Callable[[], NoReturn] | None = None


class Channel(trio.abc.Instrument):
    """See the module docstring. It belongs to one trio loop.

    `questions`: the tagged structs that the *other* side may ask or tell, a type of msgspec.
    """

    def __init__(self, stream: trio.SocketStream, *, questions: Any) -> None:
        self._stream = stream
        self._fd = stream.socket.fileno()
        self._decode_question: Final = msgspec.msgpack.Decoder(questions).decode
        self._decoders: dict[Any, Callable[[memoryview], Any]] = {}
        self._last_number = 0
        self._waiting: dict[int, _Waiting] = {}
        #: What the other side asked, while it is being answered.
        self._answering: dict[int, trio.CancelScope] = {}
        self._answering_bytes = 0
        self._unsent: deque[bytes | memoryview] = deque()
        self._unsent_bytes = 0
        self._runs = False
        #: The other side has closed, or is not listened to any more.
        self._is_deaf = False
        self._is_closed = False
        #: The socket takes no more, and `_send_the_rest` has been called.
        self._is_full = False
        self._full = trio.Event()
        #: Somebody waits for all to be sent.
        self._all_sent: trio.Event | None = None
        #: When anything came last, heartbeats among it; of trio's clock.
        self.heard_at = trio.current_time()

    @property
    def has_ended(self) -> bool:
        """The other side has closed, or is dead, and all that it sent has been read; or `run` has ended."""
        return self._is_deaf

    # ---------------------------------------------------------------------------------------------- asking and telling

    async def call(self, question: msgspec.Struct, answer: type[Answered]) -> Answered:
        """What the other side's `answer` returns, of that type. Raises what it raises of CARRIED, and ChannelClosed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_deaf:
            raise ChannelClosed
        decode = self._decoders.get(answer)
        if decode is None:
            decode = self._decoders[answer] = msgspec.msgpack.Decoder(answer).decode
        self._last_number = number = self._last_number + 1
        self._put(_CALL, number, _encode(question))
        waiting = self._waiting[number] = _Waiting(trio.lowlevel.current_task(), decode)

        def abort(raise_cancelled: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            waiting.raise_cancelled = raise_cancelled
            self._put(_CANCEL, number)
            return trio.lowlevel.Abort.FAILED

        answered: Answered = await trio.lowlevel.wait_task_rescheduled(abort)
        return answered

    def tell(self, news: msgspec.Struct) -> None:
        """One way, and never waits. Whoever tells sees to it that it is bounded."""
        self._put(_TELL, 0, _encode(news))

    def beat(self) -> None:
        """Let the other side show that its loop runs: `heard_at` says when it did."""
        self._put(_BEAT, 0)

    async def settled(self) -> None:
        """Until nothing of what the other side asked is still being answered, and everything is with the kernel.

        For one that ends in order: what is with the kernel arrives although this process ends.
        """
        await trio.lowlevel.checkpoint()
        while self._answering or self._unsent:
            event = self._all_sent = trio.Event()
            await event.wait()

    # --------------------------------------------------------------------------------------------------------- serving

    async def run(
        self,
        answer: Callable[[Any], Awaitable[Any]],
        hear: Callable[[Any], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until the other side has closed; see the module docstring.

        `answer` is called in a task of its own for each call; what it returns is encoded. `hear` is called with what is
        told, in order, and must be quick.
        """
        assert not self._runs, "a channel runs once"
        self._runs = True
        trio.lowlevel.add_instrument(self)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_when_there_is_room)
                task_status.started()
                try:
                    await self._read(nursery, answer, hear)
                finally:
                    self._fail_calls()
                nursery.cancel_scope.cancel()
        finally:
            self._close()

    def before_io_wait(self, timeout: float) -> None:
        """Of trio.abc.Instrument: all tasks that could run have run, and the loop is about to wait."""
        if self._unsent and not self._is_full:
            self._send()

    def _fail_calls(self) -> None:
        """Before what is being answered has ended: some of that may wait for such a call."""
        self._is_deaf = True
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            trio.lowlevel.reschedule(one.task, outcome.Error(ChannelClosed()))

    def _close(self) -> None:
        if self._unsent and not self._is_full:
            self._send()  # answers, where this side is ended from outside: the other learns what became of its calls
        self._is_closed = True
        self._forget_unsent()
        trio.lowlevel.remove_instrument(self)
        self._stream.socket.close()

    # --------------------------------------------------------------------------------------------------------- sending

    def _put(self, kind: int, number: int, body: bytes = b"") -> None:
        if len(body) > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {len(body)} octets is too large")
        if self._is_closed:
            return
        self._unsent.append(_HEAD.pack(len(body), kind, number))
        if body:
            self._unsent.append(body)
        self._unsent_bytes += _HEAD.size + len(body)
        if self._unsent_bytes > _GATHERED_BYTES_MAX and self._runs and not self._is_full:
            self._send()

    def _send(self) -> None:
        """As much as the socket takes. Called by trio's loop itself, too, so nothing is raised."""
        unsent = self._unsent
        try:
            while unsent:
                pieces = [unsent.popleft() for _ in range(min(len(unsent), _PIECES_MAX))]
                try:
                    sent = os.writev(self._fd, pieces)
                except BlockingIOError:
                    sent = 0
                self._unsent_bytes -= sent
                for index, piece in enumerate(pieces):
                    if sent < len(piece):
                        unsent.extendleft(reversed(pieces[index + 1 :]))
                        unsent.appendleft(memoryview(piece)[sent:])
                        self._is_full = True
                        # The loop may have decided for how long it waits: an event alone would not wake it.
                        trio.lowlevel.current_trio_token().run_sync_soon(self._full.set, idempotent=True)
                        return
                    sent -= len(piece)
        except OSError:
            # Nobody reads any more. What was sent by the other side is still read to its end.
            self._forget_unsent()
        if self._all_sent is not None:
            trio.lowlevel.current_trio_token().run_sync_soon(self._all_sent.set, idempotent=True)

    def _forget_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0

    async def _send_when_there_is_room(self) -> None:
        while True:
            await self._full.wait()
            self._full = trio.Event()
            while self._is_full:
                await trio.lowlevel.wait_writable(self._fd)
                self._is_full = False
                self._send()

    # --------------------------------------------------------------------------------------------------------- reading

    async def _read(
        self, nursery: trio.Nursery, answer: Callable[[Any], Awaitable[Any]], hear: Callable[[Any], None]
    ) -> None:
        """Until the other side has closed, and all that it sent is handed out. Raises BrokenFrame."""
        # Of a frame that has not come whole, with how much is needed to go on.
        partial, needed = bytearray(), 0
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            try:
                octets = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                continue
            except ConnectionError:
                return  # it was killed with something unread; what it sent itself has been read
            if not octets:
                return  # half a frame of one that was killed says nothing
            self.heard_at = trio.current_time()
            if partial:
                partial += octets
                if len(partial) < needed:
                    continue
                received = memoryview(partial)
            else:
                received = memoryview(octets)
            at, end, needed = 0, len(received), 0
            while end - at >= _HEAD.size:
                size, kind, number = _HEAD.unpack_from(received, at)
                if size > FRAME_BYTES_MAX:
                    raise BrokenFrame(f"a frame of {size} octets is not read")
                stop = at + _HEAD.size + size
                if stop > end:
                    needed = stop - at
                    break
                self._take(kind, number, received[at + _HEAD.size : stop], nursery, answer, hear)
                at = stop
            partial = bytearray(received[at:])

    def _take(
        self,
        kind: int,
        number: int,
        body: memoryview,
        nursery: trio.Nursery,
        answer: Callable[[Any], Awaitable[Any]],
        hear: Callable[[Any], None],
    ) -> None:
        if kind == _CALL:
            self._answering_bytes += len(body)
            if (
                number in self._answering
                or len(self._answering) >= CALLS_MAX
                or self._answering_bytes > CALLS_BYTES_MAX
            ):
                raise BrokenFrame("a call that is under way, or too many")
            scope = self._answering[number] = trio.CancelScope()
            nursery.start_soon(self._answer, answer, number, self._question(body), len(body), scope)
        elif kind in (_ANSWER, _RAISED, _NOTHING_DONE):
            self._answered(kind, number, body)
        elif kind == _TELL:
            hear(self._question(body))
        elif kind == _CANCEL:
            # It may have been answered meanwhile.
            if (scope_of := self._answering.get(number)) is not None:
                scope_of.cancel()
        elif kind == _BEAT:
            self._put(_ALIVE, 0)
        elif kind != _ALIVE:
            raise BrokenFrame(f"a frame of kind {kind}")

    def _question(self, body: memoryview) -> Any:
        try:
            return self._decode_question(body)
        except msgspec.MsgspecError as error:
            raise BrokenFrame("a question that cannot be read") from error

    def _answered(self, kind: int, number: int, body: memoryview) -> None:
        waiting = self._waiting.get(number)
        if waiting is None:
            raise BrokenFrame("an answer to nothing")
        came: outcome.Outcome[Any]
        try:
            if kind == _ANSWER:
                came = outcome.Value(waiting.decode(body))
            elif kind == _RAISED:
                came = outcome.Error(carried.made(_decode_raised(body)))
            elif waiting.raise_cancelled is not None:
                came = outcome.capture(waiting.raise_cancelled)
            else:
                raise BrokenFrame("nothing was done, and nobody had cancelled")
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise BrokenFrame("an answer that cannot be read") from error
        del self._waiting[number]
        trio.lowlevel.reschedule(waiting.task, came)

    async def _answer(
        self,
        answer: Callable[[Any], Awaitable[Any]],
        number: int,
        question: Any,
        size: int,
        scope: trio.CancelScope,
    ) -> None:
        kind, body = _NOTHING_DONE, b""
        if not scope.cancel_called:
            with scope:
                try:
                    body = _encode(await answer(question))
                    kind = _ANSWER
                except carried.CARRIED as error:
                    raised = carried.taken(error)
                    if raised is None:
                        raise
                    kind, body = _RAISED, _encode(raised)
        del self._answering[number]
        self._answering_bytes -= size
        self._put(kind, number, body)
