"""What a child does to itself first: it binds its life to its parent's, and gives up what it never needs.

The invariant: **none of this can be taken back**, neither by the child nor by what it begins. A child has no event loop
for it, and needs none of the relay's modules.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import Final

# <linux/prctl.h>
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def end_with(parent: int) -> None:
    """Be killed when the thread that made this process ends, and ignore the signals that end a relay in order: who
    sends them to a whole group wants what is under way ended in order, and the parent sees to that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before the kernel was asked
        sys.exit(0)


def gain_nothing() -> None:
    """No rights by exec, and no core file with somebody's mail in it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    limit("RLIMIT_CORE", 0)


def limit(name: str, value: int) -> None:
    """For good: the hard limit goes, too. One that is lower already stays."""
    number = getattr(resource, name)
    hard = resource.getrlimit(number)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(number, (value, value))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
