"""A test that hangs fails after its time, and says where it hung; the others go on.

pytest-timeout knows each test's limit (`timeout` in pyproject.toml, or the marker, with a reason beside it). What
happens when it is over is done here, because that plugin's own ways do not suit programs of trio's: an exception out
of a signal handler breaks trio's loop in the middle of a step, and the stacks that it shows are the loop's.

1. The stacks of all tasks and threads are taken down. Then the test gets a Ctrl-C, which trio delivers to its main
   task: nurseries are cancelled, processes killed and files closed, as by any other exception, and the test fails.
2. A test that takes no notice (a task of its shields itself, it swallows the exception, it waits for a thread) ends
   its process GRACE_SECONDS later, with the stacks of its threads. pytest-xdist names the test and goes on with the
   processes that are left (`--max-worker-restart 0`: a new one would begin with the same test again). So does a
   fixture that hangs at its end, where pytest could not go on after a Ctrl-C.

The hooks are for `tests/conftest.py`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from io import StringIO
from types import FrameType
from typing import Any

import pytest
import trio

#: From the end of a test's time to the end of its process.
GRACE_SECONDS = 30.0
#: Where hypothesis has found something it looks for the smallest example, for up to five minutes: that is no hanging.
HYPOTHESIS_SECONDS = 600
#: Of each thread, the innermost.
FRAMES_MAX = 40


class TimeIsOverError(Exception):
    """With the stacks of what the test was waiting for."""


class _Watch:
    """On the test that runs now."""

    def __init__(self) -> None:
        self.seconds = 0.0
        #: Whether the test, or a fixture that is being made, would get the Ctrl-C, and not pytest.
        self.in_test = False
        self.stacks: str | None = None
        #: The terminal, whatever pytest captures meanwhile.
        self.terminal = 2

    def begin(self, seconds: float) -> None:
        self.seconds, self.stacks = seconds, None
        signal.signal(signal.SIGALRM, self._over)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=self.terminal)

    def end(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.cancel_dump_traceback_later()

    def _over(self, number: int, frame: FrameType | None) -> None:
        if self.in_test:
            self.stacks = stacks()
            signal.raise_signal(signal.SIGINT)

    def guarded(self) -> Generator[None, Any, Any]:
        """Around a test's own code. Whatever it does with its Ctrl-C, it has failed."""
        self.in_test = True
        try:
            result = yield
        except BaseException as error:
            if self.stacks is None:
                raise
            raise self._error() from error
        finally:
            self.in_test = False
        if self.stacks is not None:
            raise self._error()
        return result

    def _error(self) -> TimeIsOverError:
        error = TimeIsOverError(f"the test did not end within {self.seconds:g} s\n\n{self.stacks}")
        self.stacks = None
        return error


_watch = _Watch()


def stacks() -> str:
    """Where all tasks of the trio that runs here, and all threads, stand now."""
    out = StringIO()
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:
        root = None
    for task in _tasks(root):
        print(f"-- task {task.name}", file=out)
        out.writelines(traceback.StackSummary.extract(task.iter_await_frames()).format())
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        print(f"-- thread {names.get(ident, ident)}", file=out)
        # Above them stand pytest's.
        out.writelines(traceback.format_list(traceback.extract_stack(frame)[-FRAMES_MAX:]))
    return out.getvalue()


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    if root is None:
        return
    yield root
    for nursery in root.child_nurseries:
        for task in nursery.child_tasks:
            yield from _tasks(task)


# ------------------------------------------------------------------------------------------------ hooks


def pytest_configure(config: pytest.Config) -> None:
    assert sys.__stderr__ is not None
    _watch.terminal = os.dup(sys.__stderr__.fileno())


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Instead of the plugin's own; the first to answer True is the last to be asked."""
    _watch.begin(settings.timeout)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    _watch.end()
    return True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("hypothesis") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(HYPOTHESIS_SECONDS))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _watch.guarded())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _watch.guarded())
