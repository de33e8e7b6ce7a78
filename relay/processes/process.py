"""One process that this one has begun: by exec, watched without a thread, killed, reaped.

    process = begin("relay.processes.in_child", arguments, passed=[descriptor], errors=descriptor)
    await process.wait()
    code = await process.end()

The invariants: **a process that was begun is killed and reaped by `end`, and never meant by its number alone** (another
may have that by then), and **it inherits the descriptors that are passed and no others**.

*Begun by exec, never by fork alone, and from the loop's own thread*: the kernel kills the child when the *thread* that
made it ends (`own_rights`), so a thread of a pool, as `trio.open_process` takes, would take the child along after ten
seconds of rest. It is in a session of its own: what a terminal sends to a relay is not for it. Its environment says
where modules are, and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import trio

#: From SIGKILL until it is gone, which only a kernel in trouble keeps it from.
REAP_SECONDS_MAX: Final = 5.0


class Process:
    """See the module docstring. Made by `begin`."""

    def __init__(self, popen: subprocess.Popen[bytes], descriptor: int) -> None:
        self._popen = popen
        #: Of pidfd_open: readable when the process has ended.
        self._descriptor = descriptor

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def kill(self) -> None:
        """SIGKILL, which a stopped process obeys, too."""
        # Popen looks whether it was reaped: no other process of that number is meant.
        self._popen.kill()

    async def wait(self) -> None:
        """Until it has ended. For one task at a time."""
        await trio.lowlevel.wait_readable(self._descriptor)

    async def end(self) -> int | None:
        """Kill it where it has not ended, and reap it; its exit code, or the number of a signal, negative.

        Call it once. None: it could not be killed within REAP_SECONDS_MAX. Cancelled: it is done all the same.
        """
        self._popen.kill()
        with trio.move_on_after(REAP_SECONDS_MAX, shield=True):
            await self.wait()
        code = self._popen.poll()
        trio.lowlevel.notify_closing(self._descriptor)
        os.close(self._descriptor)
        return code


def begin(
    module: str, arguments: Sequence[object], *, passed: Sequence[int], errors: int | None = None
) -> Process:
    """`python -m MODULE ARGUMENTS` as a new process. Raises OSError, and leaves nothing behind then.

    `passed`: descriptors that it gets, by the same numbers. `errors`: its standard error; None: this process's own.
    """
    popen = subprocess.Popen(
        # The modules are those that this process imports (PYTHONPATH), and no others: neither the directory that it
        # was begun in, nor its user's own.
        [sys.executable, "-P", "-s", "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=tuple(passed),
        env={"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        cwd="/",
        start_new_session=True,
    )
    try:
        descriptor = os.pidfd_open(popen.pid)
    except OSError:
        popen.kill()
        popen.wait()
        raise
    return Process(popen, descriptor)
