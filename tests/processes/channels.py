"""Two sides of a channel in one process, or one beside a socket that a test writes to; and words to ask."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
import trio.testing

from relay.processes import channel as channel_module
from relay.processes.channel import Channel
from tests.world.process import PATIENCE_SECONDS


class Echo(msgspec.Struct, frozen=True, tag=True):
    text: str = ""
    octets: bytes = b""


class Wait(msgspec.Struct, frozen=True, tag=True):
    name: str


class News(msgspec.Struct, frozen=True, tag=True):
    number: int


class Echoed(msgspec.Struct, frozen=True):
    text: str
    octets: bytes = b""


QUESTIONS = Echo | Wait | News
Answer = Callable[[Any], Awaitable[Any]]


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        trio.run(functools.partial(test, *arguments, **named))

    return run


async def echo(question: Any) -> Any:
    return Echoed(question.text, question.octets)


def deaf(_: Any) -> None:
    raise AssertionError("nothing is told")


def streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(other)


@asynccontextmanager
async def pair(
    answer: Answer = echo,
    hear: Callable[[Any], None] = deaf,
    *,
    answer_here: Answer = echo,
) -> AsyncIterator[tuple[Channel, Channel, trio.CancelScope]]:
    """This side, the other one, and the scope that the other one runs in: to cancel it is to end that process."""
    stream, other_stream = streams()
    here, there = Channel(stream, questions=QUESTIONS), Channel(other_stream, questions=QUESTIONS)
    scope = trio.CancelScope()

    async def run_there(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with scope:
            await there.run(answer, hear, task_status=task_status)

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_there)
            await nursery.start(lambda task_status: here.run(answer_here, hear, task_status=task_status))
            yield here, there, scope
            nursery.cancel_scope.cancel()


def frame(kind: int, number: int, body: bytes = b"", size: int | None = None) -> bytes:
    return channel_module._HEAD.pack(len(body) if size is None else size, kind, number) + body


@asynccontextmanager
async def beside_a_socket(
    answer: Answer = echo, hear: Callable[[Any], None] = deaf, *, unsent_bytes_max: int | None = None
) -> AsyncIterator[tuple[Channel, trio.SocketStream, Callable[[], Awaitable[None]]]]:
    """A channel whose other side writes what it wants. The last: wait until the channel's `run` has returned."""
    stream, raw = streams()
    here = Channel(stream, questions=QUESTIONS, unsent_bytes_max=unsent_bytes_max)
    ended = trio.Event()

    async def run() -> None:
        await here.run(answer, hear)
        ended.set()

    with raw.socket, trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield here, raw, ended.wait
            nursery.cancel_scope.cancel()


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
