"""The disk of a machine that may die at any moment: its log forgets, and its views bear the mark of another boot.

    disk = disk_with(directory)
    ...                                   # a relay lives there
    let_die(disk, directory)              # that very moment: nothing that it does from now on reaches the disk
    ...                                   # until it has ended
    disk = bury(disk, directory, "power", dice)

- `kill`: the process dies, the machine does not. What was written is there, synced or not; LMDB is as it was.
- `power`: the machine dies. Of what was not synced any sector, length or name may be lost (`tests.world.disk`), and the
  views bear the mark of another boot.
"""

from __future__ import annotations

import errno
import random
import shutil
from pathlib import Path
from typing import Any, Literal, cast

from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from tests.world.disk import FakeDisk, File

Death = Literal["kill", "power"]
ANOTHER_BOOT = "another boot"
#: LMDB's lock file is of the processes that have it open, not of the data.
VIEWS_FILES = ("data.mdb", "boot")
_KEPT = "views.kept"


class MortalDisk(FakeDisk):
    """A disk that refuses everything once the machine it is in is dead, and remembers whether it failed before."""

    def __init__(self) -> None:
        super().__init__()
        self.is_dead = False
        self._was_small = False

    def _operation(self, name: str, forget: File | None = None) -> Any:
        if self.is_dead:
            raise OSError(errno.EIO, "the machine is dead")
        return super()._operation(name, forget)

    @property
    def has_failed(self) -> bool:
        is_small = self.capacity_bytes is not None
        return is_small or self._was_small or 0 < self.fail_at <= self.operations

    def make_room(self) -> None:
        """While its relay runs; what failed before has failed for want of room."""
        self.capacity_bytes, self._was_small = None, True

    def restart(self) -> FakeDisk:
        self._was_small = False
        return super().restart()


def disk_with(directory: Path) -> MortalDisk:
    """One that has this directory, which is on a real disk as well."""
    disk = MortalDisk()
    for path in (*reversed(directory.parents), directory):
        if path != Path("/"):
            disk.make_directory(path)
    return cast(MortalDisk, disk.copy())


def let_die(disk: MortalDisk, directory: Path) -> None:
    """Now."""
    disk.is_dead = True
    # At this moment LMDB has no transaction open: everything runs in one thread.
    copy_views(directory / VIEWS_DIRECTORY, directory / _KEPT)


def bury(disk: MortalDisk, directory: Path, death: Death, dice: random.Random) -> MortalDisk:
    """The disk as the next life finds it. Of what was not synced, nothing, everything, or some is left."""
    copy_views(directory / _KEPT, directory / VIEWS_DIRECTORY)
    if death == "kill":
        disk.restart()
        disk.is_dead = False
        return disk
    if (directory / VIEWS_DIRECTORY).exists():
        (directory / VIEWS_DIRECTORY / "boot").write_text(ANOTHER_BOOT)
    share = dice.choice((0.0, 0.2, 0.5, 0.8, 1.0))
    pending = range(len(disk.pending))
    return cast(MortalDisk, disk.crash(frozenset(number for number in pending if dice.random() < share)))


def log_of(disk: FakeDisk, directory: Path) -> dict[str, bytes]:
    """The segments of a data directory's log, by name."""
    log = directory / LOG_DIRECTORY
    return {name: _content(disk, log / name) for name in disk.list_names(log) if name.endswith(".seg")}


def write_out(disk: FakeDisk, directory: Path) -> Path:
    """The log's segments as they are on the disk, as real files in the directory, for those who read those."""
    log = directory / LOG_DIRECTORY
    log.mkdir(exist_ok=True)
    for path in log.iterdir():
        path.unlink()
    for name, octets in log_of(disk, directory).items():
        (log / name).write_bytes(octets)
    return log


def copy_views(source: Path, target: Path) -> None:
    """As if `target` had always been `source`; without it where there is none."""
    shutil.rmtree(target, ignore_errors=True)
    if not source.exists():
        return
    target.mkdir(mode=0o700)
    for name in VIEWS_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def _content(disk: FakeDisk, path: Path) -> bytes:
    handle = disk.open_read(path)
    try:
        return disk.read(handle, disk.size(handle), 0)
    finally:
        disk.close(handle)
