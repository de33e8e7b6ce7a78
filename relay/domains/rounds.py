"""Looking again, day by day, at what was proved once: a task of a running relay, for domains and for handles.

The contract of `Rounds.run`. Each thing is looked at when its time has come (`due_at`), a few at once, and the time is
reckoned anew from the views after each round and whenever there is news: so a restart begins no new day, and who
looked meanwhile by an order is not looked at twice. Cancelled, it is between or in a look, which records nothing
then. An unexpected exception ends it, and with it the process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import trio

from relay.alarm import Alarm
from relay.codec import Recorded
from relay.core import Core
from relay.events import Event

#: After a long standstill everything is due at once.
LOOKS_AT_ONCE_MAX = 4

State = TypeVar("State")


class Rounds(ABC, Generic[State]):
    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._alarm = Alarm(core.store.now_us)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        observers = self._store.observers
        observers.append(self._observe)
        try:
            task_status.started()
            while True:
                now = self._store.now_us()
                await self._look_at_all([state for state in self._held() if self._due_at(state) <= now])
                await self._alarm.wait(min(map(self._due_at, self._held()), default=None))
        finally:
            observers.remove(self._observe)

    @abstractmethod
    def _held(self) -> list[State]:
        """What is to be looked at, as the views have it now."""

    @abstractmethod
    def _due_at(self, state: State) -> int:
        """Microseconds since the epoch."""

    @abstractmethod
    async def _check(self, state: State) -> None:
        """Look, and record what follows."""

    @abstractmethod
    def _is_news(self, event: Event) -> bool:
        """Whether it may have changed what is due when."""

    def _observe(self, recorded: Sequence[Recorded]) -> None:
        if any(self._is_news(item.event) for item in recorded):
            self._alarm.ring()

    async def _look_at_all(self, states: list[State]) -> None:
        due = iter(states)

        async def work() -> None:
            for state in due:
                await self._check(state)

        async with trio.open_nursery() as nursery:
            for _ in range(LOOKS_AT_ONCE_MAX):
                nursery.start_soon(work)
