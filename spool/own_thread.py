"""A thread for one task that has blocking work again and again, as the log's writer has.

The contract: `await thread(f, *args)` is f(*args), run in that thread; it raises what f raises. One call at a time, and
none is cancelled: what a disk is doing cannot be taken back. (`interruptible` is for what can be told to end.) Nothing
waits for the thread: leaving the block lets it end when its work does, and a disk that never answers does not keep the
process.

`trio.to_thread.run_sync` would do, for any number of tasks. But for that it makes a limiter's entry, a copy of the
context, a name and several closures for each call, on both sides of the switch, and a relay calls it for each sync.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import outcome
import trio

_Job = tuple[Callable[..., Any], tuple[Any, ...]]


class OwnThread:
    """Made by `open_own_thread`."""

    def __init__(self, name: str) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        #: None: there are no more.
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting: trio.lowlevel.Task | None = None
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        assert self._waiting is None
        self._waiting = trio.lowlevel.current_task()
        self._jobs.put((function, arguments))
        return await trio.lowlevel.wait_task_rescheduled(_cannot_be_cancelled)

    async def interruptible(
        self, interrupt: Callable[[], None], function: Callable[..., Any], *arguments: Any
    ) -> Any:
        """As a call. Where it is cancelled, `interrupt` is called, which makes the function end soon; it is waited for,
        and what it gives is given. Whether there was a cancel, the caller asks trio."""
        assert self._waiting is None
        self._waiting = trio.lowlevel.current_task()
        self._jobs.put((function, arguments))

        def cut_short(_: Any) -> trio.lowlevel.Abort:
            interrupt()
            return trio.lowlevel.Abort.FAILED

        return await trio.lowlevel.wait_task_rescheduled(cut_short)

    def end(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, arguments = job
            done = outcome.capture(function, *arguments)
            try:
                self._trio.run_sync_soon(self._answer, done)
            except trio.RunFinishedError:
                return  # the loop has ended, and whoever waited with it

    def _answer(self, done: outcome.Outcome[Any]) -> None:
        task, self._waiting = self._waiting, None
        assert task is not None
        trio.lowlevel.reschedule(task, done)


def _cannot_be_cancelled(_: Any) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


@contextmanager
def open_own_thread(name: str) -> Iterator[OwnThread]:
    thread = OwnThread(name)
    try:
        yield thread
    finally:
        thread.end()
