"""Work that goes on for long lets others work in between."""

from __future__ import annotations

import trio

#: Nobody works longer than this without a pause (SPEC 13).
WORK_SECONDS_MAX = 0.001


class Pace:
    """One for each answer that takes many steps; `await pace.step()` behind each of them."""

    def __init__(self) -> None:
        self._since = trio.current_time()

    async def step(self) -> None:
        if trio.current_time() - self._since >= WORK_SECONDS_MAX:
            await trio.lowlevel.checkpoint()
            self._since = trio.current_time()
