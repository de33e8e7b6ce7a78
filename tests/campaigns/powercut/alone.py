"""A function in mount and process namespaces of its own, so that nothing of it outlives it.

The invariant: **when `run_alone` returns, every process that the function started has ended and every mount that it
made is gone**, whatever ended it: the kernel kills what is left in the process namespace when its first process ends,
and takes the mounts away with the last process that saw them. (Loop devices that clear themselves go with their
mounts.) Not even `kill -9` of the process that called `run_alone` leaves anything: the first process dies with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_CLONE_NEWNS, _CLONE_NEWPID = 0x0002_0000, 0x2000_0000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG: Final = 1
#: After a signal, for the summary; then it is killed.
GRACE_SECONDS: Final = 90.0

_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Why no disk of our own can be served here, in one sentence; None where it can."""
    if os.geteuid() != 0:
        return "only root can mount file systems"
    for device in ("/dev/fuse", "/dev/loop-control"):
        try:
            os.close(os.open(device, os.O_RDWR))
        except OSError as error:
            return f"{device} cannot be opened here ({error.strerror})"
    try:
        # In a child: the process that asks stays where it is.
        status = run_alone(lambda: 0, seconds_max=30)
    except OSError as error:
        return f"there are no namespaces of our own here ({error.strerror})"
    return None if status == 0 else "file systems cannot be mounted here"


def run_alone(function: Callable[[], int], *, seconds_max: float) -> int:
    """Its result, or 1 where it raises. It is killed after `seconds_max`: then the result is 124.

    SIGINT and SIGTERM are passed on, as one SIGTERM, and give it GRACE_SECONDS more at most. Raises OSError where there
    are no namespaces. Only for a process with one thread.
    """
    # Whoever waits for the child must not be in its namespaces himself.
    read_end, write_end = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(read_end)
        os._exit(_keep(function, seconds_max, write_end))
    os.close(write_end)
    passed_on = _pass_on(keeper)
    try:
        with os.fdopen(read_end, "rb") as said:
            failure = said.read()
        _, status = os.waitpid(keeper, 0)
    finally:
        for number, handler in passed_on.items():
            signal.signal(number, handler)
    if failure:
        number = int(failure)
        raise OSError(number, os.strerror(number))
    return os.waitstatus_to_exitcode(status)


def _keep(function: Callable[[], int], seconds_max: float, write_end: int) -> int:
    """In the child: makes the namespaces, and in them its own child, which runs the function."""
    _die_with_parent()
    os.setsid()  # Ctrl-C comes once, through `_pass_on`
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID):
        os.write(write_end, str(ctypes.get_errno()).encode())
        return 1
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os._exit(_begin(function))
    os.close(write_end)
    limit = [time.monotonic() + seconds_max]

    def end(_number: int, _frame: object) -> None:
        limit[0] = min(limit[0], time.monotonic() + GRACE_SECONDS)
        os.kill(child, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) & 0xFF
        if time.monotonic() > limit[0]:
            print("It did not end in its time, and was killed.", file=sys.stderr, flush=True)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124
        time.sleep(0.05)


def _begin(function: Callable[[], int]) -> int:
    """In the first process of the namespaces."""
    _die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _mount(b"none", Path("/"), None, _MS_REC | _MS_PRIVATE)
        _mount(b"proc", Path("/proc"), b"proc", 0)
        status = function()
    except BaseException:  # noqa: BLE001 - nobody above would tell
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _pass_on(child: int) -> dict[int, Any]:
    def pass_on(_number: int, _frame: object) -> None:
        os.kill(child, signal.SIGTERM)

    return {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}


def _die_with_parent() -> None:
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def bind(source: Path, target: Path) -> None:
    """Show `source` in the place of `target`, to this mount namespace."""
    _mount(os.fsencode(source), target, None, _MS_BIND)


def _mount(source: bytes, target: Path, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, os.fsencode(target), kind, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
