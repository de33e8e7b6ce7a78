"""The kernel's own moods: it may write any page that is not yet on the disk, at any time and in any order.

By itself it does that after 5 to 30 s, which no round of a campaign waits for. `blow` has it do so now and then, to a
file that dice choose: the pages go to the disk's cache. No flush comes with it, and no metadata: nothing is durable by
this, and what relies on not being written yet is found out.
"""

from __future__ import annotations

import ctypes
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

_SYNC_FILE_RANGE_WRITE: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


async def blow(directory: Path, seed: int, *, mean_seconds: float = 0.05) -> None:
    """For ever. Ends only by being cancelled; a call that hangs in the disk then is left behind."""
    dice = random.Random(seed)
    while True:
        await trio.sleep(dice.expovariate(1 / mean_seconds))
        await trio.to_thread.run_sync(_write_some_back, directory, dice.random(), abandon_on_cancel=True)


def _write_some_back(directory: Path, which: float) -> None:
    """Whatever file is there may go meanwhile, and the disk may die."""
    with suppress(OSError):
        files = [path for path in sorted(directory.glob("**/*")) if path.suffix in (".mdb", ".seg")]
        if not files:
            return
        handle = os.open(files[int(which * len(files))], os.O_RDONLY | os.O_CLOEXEC)
        try:
            # All of it; whether it comes to pass is the kernel's affair.
            _libc.sync_file_range(handle, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
        finally:
            os.close(handle)
