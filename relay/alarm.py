"""Waiting for a time of day, or for news, whichever comes first.

The contract. An `Alarm` belongs to one task, which waits on it; anybody may ring it.

- `wait(at_us)` returns when the wall clock has come to that time, or when the alarm was rung. **No ring is lost**: one
  that comes while the task is at work ends its next wait at once. So whoever has waited looks at everything that it
  waits for, and reckons anew until when to wait, without an `await` between that and the next `wait`.
- Trio sleeps by a clock that knows nothing of the time of day: it stands still while the machine is suspended, and does
  not notice that the wall clock was set. So while it waits for a time, an alarm looks at the wall clock once a minute.
  **What became due meanwhile is late by ASLEEP_SECONDS_MAX at most.** A clock that was set back makes it wait longer.
- Cancelled, it has waited for nothing and keeps the ring, if there was one. It always is a checkpoint.
- It costs nothing while it waits for news alone. All alarms look at the clock at the same moments, so that a process at
  rest is woken once a minute, however many it has; with a mock clock that jumps, each minute is one jump.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from relay.times import SECOND_US

ASLEEP_SECONDS_MAX: Final = 60.0


class Alarm:
    """`now_us`: the wall clock, microseconds since the epoch."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._rung = trio.Event()
        #: In trio's seconds, as it is reckoned now. While the task is at work, nobody has to wake it.
        self._asleep_until = -math.inf

    def ring(self) -> None:
        """There is news. Never blocks."""
        self._rung.set()

    def ring_by(self, at_us: int | None = None, *, deadline: float | None = None) -> None:
        """Something new is to be done at that time (as in `wait`): ring if the task would sleep longer.

        The task must find it by itself when it reckons until when to wait: while it is at work, nothing is rung.
        """
        if min(self._seconds_of(at_us), _or_never(deadline)) < self._asleep_until:
            self.ring()

    async def wait(self, at_us: int | None = None, *, deadline: float | None = None) -> None:
        """Until it is rung, or the wall clock has come to `at_us`, or trio's clock to `deadline`; None: there is no
        such time."""
        doze = 0.0
        try:
            while True:
                now = trio.current_time()
                until = max(self._seconds_of(at_us), now + doze)
                self._asleep_until = min(until, _or_never(deadline))
                look_at = math.inf if at_us is None else now + _until_all_look(now)
                with trio.CancelScope(deadline=min(self._asleep_until, look_at)):
                    await self._rung.wait()
                if (
                    self._rung.is_set()
                    or trio.current_time() >= _or_never(deadline)
                    or (at_us is not None and self._now_us() >= at_us)
                ):
                    break
                if trio.current_time() >= until:
                    # The clock was set back, and may stand still for hours: the relay's time never goes back.
                    doze = max(0.001, 2 * doze)
        finally:
            self._asleep_until = -math.inf
        self._rung = trio.Event()

    def _seconds_of(self, at_us: int | None) -> float:
        """That time of the wall clock in trio's seconds, if nobody sets it."""
        if at_us is None:
            return math.inf
        return trio.current_time() + (at_us - self._now_us()) / SECOND_US


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline


def _until_all_look(now: float) -> float:
    return ASLEEP_SECONDS_MAX - now % ASLEEP_SECONDS_MAX
