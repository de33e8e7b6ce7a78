"""The real command with one part that breaks when it is told to.

    python -m tests.world.sabotage PART FILE serve DIR

Until FILE exists this is `atmos-relay serve DIR`. From then on PART is broken:

    sync       every fsync and fdatasync fails, and what was to be synced is on the disk all the same
    pages      every fsync and fdatasync fails, and what was to be synced is lost
    decision   the decision on a send raises an exception that quotes the whole request, as a careless defect would
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import relay.api.send
from spool.disk import RealDisk
from tools.cli import main


class BrokenPartError(Exception):
    """What a defect of the relay raises."""


def break_sync(is_broken: Callable[[], bool]) -> None:
    def breaking(sync: Callable[[RealDisk, int], None]) -> Callable[[RealDisk, int], None]:
        def sync_or_fail(disk: RealDisk, handle: int) -> None:
            if is_broken():
                raise OSError(errno.EIO, "the disk was told to fail")
            sync(disk, handle)

        return sync_or_fail

    RealDisk.fdatasync = breaking(RealDisk.fdatasync)  # type: ignore[method-assign]
    RealDisk.fsync = breaking(RealDisk.fsync)  # type: ignore[method-assign]


def break_pages(is_broken: Callable[[], bool]) -> None:
    write = RealDisk.write

    def write_or_lose(disk: RealDisk, handle: int, data: bytes, offset: int) -> None:
        if not is_broken():
            write(disk, handle, data, offset)

    RealDisk.write = write_or_lose  # type: ignore[method-assign]
    break_sync(is_broken)


def break_decision(is_broken: Callable[[], bool]) -> None:
    decide = relay.api.send.accept_send

    def decide_or_fail(*arguments: Any, **more: Any) -> Any:
        if is_broken():
            raise BrokenPartError(f"{arguments} {more}")
        return decide(*arguments, **more)

    relay.api.send.accept_send = decide_or_fail


PARTS = {"sync": break_sync, "pages": break_pages, "decision": break_decision}

if __name__ == "__main__":
    part, file = sys.argv[1:3]
    del sys.argv[1:3]
    PARTS[part](Path(file).exists)
    main()
