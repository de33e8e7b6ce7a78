"""A worker's own half: a process that does a part of the relay's work beside the core. `keeper` is the core's half.

What it does is a *program*, a module with

    QUESTIONS = Ask | Tell             # tagged structs that the core may ask or tell it
    class GREETING(msgspec.Struct)     # what the core says first: configuration, directory
    async def main(here: Here) -> None

`main` sets up what it needs, calls `here.ready(answer, hear)` when it serves, and returns when it has ended what was
under way after `here.stopping`. What the core has asked is answered, and all answers are sent, before the process ends.

The invariant: **a worker ends with its socket.** When the core closes that or dies, the process ends in the same moment
and touches nothing any more; whatever it was doing, the core finds that out from the log. (The kernel kills it, too:
`own_rights`. This is for a worker whose core gives it up.)

*In order*: signals that end a relay are ignored (`in_worker`), only the core stops a worker. Files are fenced in
(`landlock`) when the program's modules have been loaded, and before it does anything; and it gives no orders, for it
reaches no other process by a socket of this machine (`local_sockets`).
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import trio

from relay.processes import landlock, local_sockets
from relay.processes.channel import Channel

logger = logging.getLogger(__name__)


class Hello(msgspec.Struct, frozen=True, tag="worker.hello"):
    """Asked of the core, first. Answered by Welcome."""


class Welcome(msgspec.Struct, frozen=True):
    #: Of the program's type.
    greeting: msgspec.Raw
    #: None: files are not fenced in.
    rules: landlock.Rules | None


class Ready(msgspec.Struct, frozen=True, tag="worker.ready"):
    """Told to the core: it serves, and may be asked."""


class Stop(msgspec.Struct, frozen=True, tag="worker.stop"):
    """Told by the core: end in order."""


Answer = Callable[[Any], Awaitable[Any]]
Hear = Callable[[Any], None]


class Here:
    """What a program is given."""

    def __init__(self, name: str, channel: Channel, sockets: Sequence[socket.socket]) -> None:
        #: `edge 1`.
        self.name = name
        #: To the core, which may be asked from the start.
        self.channel = channel
        #: Listening, in the order in which the core gave them. They are the core's, too: closed here, they stay open.
        self.sockets = sockets
        #: Of the program's type GREETING.
        self.greeting: Any = None
        #: The core wants this process to end in order.
        self.stopping = trio.Event()
        self._answer: Answer | None = None
        self._hear: Hear | None = None
        self._channel_ended = trio.Event()

    def ready(self, answer: Answer, hear: Hear) -> None:
        """From now on the core asks and tells, as `Channel.run` says. Nothing was told before: what has changed since
        the greeting comes first."""
        self._answer, self._hear = answer, hear
        self.channel.tell(Ready())

    async def _run_channel(self) -> None:
        try:
            await self.channel.run(self._answered, self._heard)
            # The core is gone, or wants nothing of this process any more. Nothing is tidied up: it could only do harm.
            os._exit(0)
        finally:
            self._channel_ended.set()

    async def _answered(self, question: Any) -> Any:
        assert self._answer is not None, "asked before it was ready"
        return await self._answer(question)

    def _heard(self, news: Any) -> None:
        if isinstance(news, Stop):
            self.stopping.set()
            return
        assert self._hear is not None, "told something before it was ready"
        self._hear(news)


def work(program: str, name: str, descriptor: int, listening: Sequence[int]) -> None:
    """Be that worker until it has stopped in order. `descriptor`: its end of the channel. Raises what `main` raises."""
    sockets = [socket.socket(fileno=number) for number in (descriptor, *listening)]
    for one in sockets:
        one.set_inheritable(False)  # it was, across exec; what this process begins gets none of them
    module = importlib.import_module(program)
    trio.run(_work, module, name, sockets[0], sockets[1:])


async def _work(module: Any, name: str, to_core: socket.socket, listening: Sequence[socket.socket]) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(to_core))
    here = Here(name, Channel(stream, questions=module.QUESTIONS | Stop), listening)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here._run_channel)
        try:
            welcome = await here.channel.call(Hello(), Welcome)
            if welcome.rules is not None:
                landlock.enforce(welcome.rules)
                if not local_sockets.forbid():
                    logger.warning("local_sockets.not_forbidden")
            here.greeting = msgspec.msgpack.decode(welcome.greeting, type=module.GREETING)
            await module.main(here)
            await here.channel.settled()
        except BaseException:
            if here.channel.has_ended:
                # What `main` stumbled over is the end itself, which its calls are told of first; or a defect of what
                # answers, which is raised there.
                with trio.CancelScope(shield=True):
                    await here._channel_ended.wait()
            raise
        nursery.cancel_scope.cancel()
