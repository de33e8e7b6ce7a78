"""Real workers with `odd_worker` as their program, and what a host of them sees."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from socket import socket
from typing import Any

import trio

from relay.processes.keeper import Keeper, Role, Times, Worker, keep
from tests.processes import odd_worker
from tests.processes.odd_worker import GREETING

ROLE = Role("odd", "tests.processes.odd_worker", odd_worker.ASKED)
#: Long enough for the busiest machine where nothing goes wrong.
PATIENT = Times(beat=0.2, silent=30.0, start=60.0, back_off=0.05, back_off_max=0.4)


class Host:
    """What is told, in order: ("begun" | "lost", name, pid) and the numbers of News."""

    def __init__(self) -> None:
        self.greeting = GREETING("hello ")
        self.events: list[Any] = []
        self.heard: list[int] = []
        self.unanswered = 0
        self.keeper: Keeper
        self._changed = trio.Event()

    def begun(self, worker: Worker) -> None:
        self.events.append(("begun", worker.name, worker.pid))
        self._note()

    def lost(self, worker: Worker) -> None:
        assert not os.path.exists(f"/proc/{worker.pid}")
        assert worker not in self.keeper.workers
        assert not worker.gone.is_set()
        self.events.append(("lost", worker.name, worker.pid))
        self._note()

    def hear(self, worker: Worker, news: odd_worker.News) -> None:
        if news.number >= 0:  # of a flood
            self.heard.append(news.number)
        self._note()

    async def answer(self, worker: Worker, question: odd_worker.Question) -> str:
        if question.text == "wait":
            self.unanswered += 1
            await trio.sleep_forever()
        if question.text == "defect":
            raise ZeroDivisionError
        return f"core: {question.text}"

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.keeper.workers]


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Of this process, those that have ended and were not reaped among them."""
    return {
        int(pid)
        for task in os.listdir("/proc/self/task")
        for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
    }


@asynccontextmanager
async def hosting(
    count: int = 1,
    *,
    times: Times = PATIENT,
    role: Role = ROLE,
    sockets: Sequence[socket] = (),
    greeting: GREETING | None = None,
    is_ready: bool = True,
) -> AsyncIterator[Host]:
    """Workers that are ready, of which no process and no descriptor is left behind."""
    before, children_before = descriptors(), children()
    host = Host()
    if greeting is not None:
        host.greeting = greeting
    async with keep(
        role,
        count,
        greeting=lambda: host.greeting,
        sockets=sockets,
        begun=host.begun,
        answer=host.answer,
        hear=host.hear,
        lost=host.lost,
        times=times,
    ) as host.keeper:
        if is_ready:
            await host.keeper.wait_ready()
        yield host
    assert children() == children_before
    assert descriptors() == before


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(120):
            await main()

    # A loop has descriptors of its own, which are there before anything is counted.
    trio.run(bounded)
