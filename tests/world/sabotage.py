"""The real command with parts that break when they are told to.

    python -m tests.world.sabotage PART FILE [PART FILE ...] serve DIR

Until FILE exists this is `atmos-relay serve DIR`. From then on PART is broken:

    sync       every fsync and fdatasync fails, of directories as well, and what was to be synced is on the disk all the
               same
    pages      the same, and what was to be synced is lost
    directory  every sync of a directory fails, and no other
    decision   the decision on a send raises an exception that quotes the whole request, as a careless defect would
    clock      the wall clock is off by as many seconds as FILE says
    die        FILE holds a number n: in the n-th change of the disk from then on, the process is killed (SIGKILL);
               of a write, the first half has been written
    answer     the process is killed (SIGKILL) when a mail that came over SMTP is durable, before its client hears so
    begun      FILE is made when all modules are there and the command begins; nothing is broken
    no-fdatasync, no-fsync, no-directory-sync
               that call, of whoever makes it, says that it has done it, and has not; `no-fsync` is of files

Of the first sync that fails FILE.failed has the time by the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import relay.acceptance
from spool.disk import RealDisk
from tools.cli import main


class BrokenPartError(Exception):
    """What a defect of the relay raises."""


#: What makes things durable.
SYNCS = ("fdatasync", "fsync", "sync_directory")


def break_sync(file: Path, names: Sequence[str] = SYNCS) -> None:
    failed = file_of_failure(file)

    def breaking(sync: Callable[..., None]) -> Callable[..., None]:
        def sync_or_fail(disk: RealDisk, what: int | Path) -> None:
            if file.exists():
                with suppress(FileExistsError), failed.open("x") as note:
                    note.write(str(time.monotonic()))
                raise OSError(errno.EIO, "the disk was told to fail")
            sync(disk, what)

        return sync_or_fail

    for name in names:
        setattr(RealDisk, name, breaking(getattr(RealDisk, name)))


def file_of_failure(file: Path) -> Path:
    return file.with_name(file.name + ".failed")


def break_pages(file: Path) -> None:
    write = RealDisk.write

    def write_or_lose(disk: RealDisk, handle: int, data: bytes, offset: int) -> None:
        if not file.exists():
            write(disk, handle, data, offset)

    RealDisk.write = write_or_lose  # type: ignore[method-assign]
    break_sync(file)


def break_decision(file: Path) -> None:
    decide = relay.acceptance.accept_send

    def decide_or_fail(*arguments: Any, **more: Any) -> Any:
        if file.exists():
            raise BrokenPartError(f"{arguments} {more}")
        return decide(*arguments, **more)

    relay.acceptance.accept_send = decide_or_fail


def break_clock(file: Path) -> None:
    clock = time.time_ns

    def skewed_clock() -> int:
        return clock() + (round(float(file.read_text()) * 1e9) if file.exists() else 0)

    time.time_ns = skewed_clock  # type: ignore[assignment]


def break_off(file: Path) -> None:
    left: list[int] = []

    def is_last() -> bool:
        if not left:
            if not file.exists():
                return False
            left.append(int(file.read_text()))
        left[0] -= 1
        return left[0] == 0

    def breaking(change: Callable[..., Any]) -> Callable[..., Any]:
        def change_or_die(disk: RealDisk, *arguments: Any) -> Any:
            if is_last():
                os.kill(os.getpid(), signal.SIGKILL)
            return change(disk, *arguments)

        return change_or_die

    write = RealDisk.write

    def write_or_die(disk: RealDisk, handle: int, data: bytes, offset: int) -> None:
        if is_last():
            write(disk, handle, data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        write(disk, handle, data, offset)

    for name in (*SYNCS, "create", "truncate", "rename", "unlink"):
        setattr(RealDisk, name, breaking(getattr(RealDisk, name)))
    RealDisk.write = write_or_die  # type: ignore[method-assign]


def break_answer(file: Path) -> None:
    from relay.reception.inbound import Inbound
    from relay.reception.submission import Submission

    def breaking(data: Callable[..., Any]) -> Callable[..., Any]:
        async def data_and_die(*arguments: Any) -> Any:
            reply = await data(*arguments)
            if file.exists() and reply.accepts:
                os.kill(os.getpid(), signal.SIGKILL)
            return reply

        return data_and_die

    Submission.data = breaking(Submission.data)  # type: ignore[method-assign]
    Inbound.data = breaking(Inbound.data)  # type: ignore[method-assign]


def forget(file: Path, name: str, is_meant: Callable[[int], bool]) -> None:
    sync = getattr(os, name)

    def sync_or_say_so(handle: int) -> None:
        if not (file.exists() and is_meant(os.fstat(handle).st_mode)):
            sync(handle)

    setattr(os, name, sync_or_say_so)


PARTS: dict[str, Callable[[Path], None]] = {
    "sync": break_sync,
    "pages": break_pages,
    "directory": lambda file: break_sync(file, ["sync_directory"]),
    "decision": break_decision,
    "clock": break_clock,
    "die": break_off,
    "answer": break_answer,
    "begun": lambda file: file.touch(),
    "no-fdatasync": lambda file: forget(file, "fdatasync", stat.S_ISREG),
    "no-fsync": lambda file: forget(file, "fsync", stat.S_ISREG),
    "no-directory-sync": lambda file: forget(file, "fsync", stat.S_ISDIR),
}

if __name__ == "__main__":
    while sys.argv[1] in PARTS:
        part, name = sys.argv[1:3]
        del sys.argv[1:3]
        PARTS[part](Path(name))
    main()
