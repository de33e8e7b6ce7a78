"""`boot`: whether the views on the disk may be opened at all.

LMDB is written without fsync: a killed process loses nothing (the page cache stays), a crashed *machine* may lose any
page and keep any other, and LMDB would read what is left without a doubt. So while the environment is open for writing
a file `boot` beside it names the boot of the machine.

The invariant: **where LMDB may have written what is not durable, `boot` is durable.** Its absence means that the views
were closed in order. So it is on the disk, name and all, before LMDB's first write; it goes only after LMDB's last
write is durable; and it outlives the data wherever views are thrown away.

    there is no `data.mdb`                  there are no views
    `boot` is missing                       closed in order: open them
    `boot` names this boot                  a process was killed: open them
    `boot` names another                    the machine went down: they must not be opened
    `boot` says `damaged`                   LMDB has met a page that cannot be right: they must not be opened
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from spool.disk import Disk, RealDisk
from spool.files import opened, unlink_if_there, write_durably
from spool.views.snapshot import DATA_NAME

BOOT_NAME: Final = "boot"
_BOOT_BYTES_MAX: Final = 200
#: Stands in `boot` once LMDB has met a page that cannot be right.
_DAMAGED: Final = "damaged"
THERE_WERE_NONE: Final = "there were none"
_WENT_DOWN: Final = "the machine went down while they were in use"


def boot_id() -> str:
    """Changes with every boot of the machine. Where the system cannot tell, every start counts as another boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return f"unknown, process {os.getpid()}"


def reason_not_to_open(directory: Path, disk: Disk | None = None) -> str | None:
    """Why the views there must not even be opened; None if nothing speaks against it."""
    disk = disk or RealDisk()
    if not are_there(directory, disk):
        return THERE_WERE_NONE
    try:
        with opened(disk, directory / BOOT_NAME) as handle:
            marked = disk.read(handle, _BOOT_BYTES_MAX, 0).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    if marked == _DAMAGED:
        return "they were found to be damaged"
    if marked != boot_id():
        return _WENT_DOWN
    return None


def was_interrupted(directory: Path) -> bool:
    """Whether what speaks against them is no damage: the machine went down while they were in use."""
    return are_there(directory) and reason_not_to_open(directory) == _WENT_DOWN


def was_left_open(directory: Path, disk: Disk | None = None) -> bool:
    """Whether somebody has the views there open for writing, or was killed with them open."""
    return BOOT_NAME in (disk or RealDisk()).list_names(directory)


def are_there(directory: Path, disk: Disk | None = None) -> bool:
    return DATA_NAME in (disk or RealDisk()).list_names(directory)


def mark_in_use(directory: Path, disk: Disk | None = None) -> None:
    """Call it before LMDB writes anything. The directory is made where it is missing."""
    disk = disk or RealDisk()
    disk.make_directory(directory)
    disk.sync_directory(directory.parent)
    _mark(directory, disk, boot_id())


def mark_damaged(directory: Path, disk: Disk | None = None) -> None:
    _mark(directory, disk or RealDisk(), _DAMAGED)


def mark_closed(directory: Path, disk: Disk | None = None) -> None:
    """Call it when all that LMDB has written is durable, and nothing more comes."""
    disk = disk or RealDisk()
    # The names of LMDB's files have to be, too.
    disk.sync_directory(directory)
    unlink_if_there(disk, directory / BOOT_NAME)
    disk.sync_directory(directory)


def discard(directory: Path, disk: Disk | None = None) -> None:
    """Throw the views away. The data go first: whatever ends this half way, they are not taken for views that were
    closed in order."""
    disk = disk or RealDisk()
    names = disk.list_names(directory)
    if DATA_NAME in names:
        disk.unlink(directory / DATA_NAME)
        disk.sync_directory(directory)
    for name in names:
        unlink_if_there(disk, directory / name)


def _mark(directory: Path, disk: Disk, text: str) -> None:
    write_durably(disk, directory / BOOT_NAME, [text.encode()])
