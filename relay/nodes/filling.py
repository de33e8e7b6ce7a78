"""Filling a node's log from another node, where the database has no longer what comes next.

The invariant: **at every moment the directory has its old log or its new one, whole, or says that it is being filled.**
While a directory `filling` stands in it, nobody serves it (`relay.data_directory.check_may_write`), and what is done to
it goes on where it was broken off.

    filling/backup   what comes from the other node, where it comes over the network (`spool.backup.backup`)
    filling/data     a data directory that is restored from the backup, every file checked (`spool.backup.restore`)
    filling/ready    all of that is there: the log is exchanged from here on, and there is no way back
    filling/old      the log that was there before

1. The other node's log is copied, with its secrets, and restored beside the old one.
2. The database is asked whether it has all that comes behind the new log. Nothing was changed until here.
3. Secrets that this node has not (keys that were made while it was away) are put in their place; one that is there and
   is another one ends it.
4. `ready` is written. The old log goes aside, the new one takes its place, the views go, and then `filling`.

The new log has no mark and no progress of stripping: the next start takes all of it for synced, which it is, and looks
through all of it for what was erased (`relay.own_stripping`).
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from relay.file_names import FILLING_DIRECTORY, FILLING_READY, LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.message.key_files import (
    KeyFileError,
    KeyFiles,
    fsync_directory,
    pepper_files,
    read_private,
    remove_unfinished,
    write_new,
)
from relay.nodes.joining import check_tail
from relay.refusals import Refusal
from spool.backup.backup import back_up
from spool.backup.format import Manifest
from spool.backup.restore import restore
from spool.disk import Disk, RealDisk
from spool.interface import Progress
from spool.replicated.table import Table, connected

BACKUP: Final = "backup"
DATA: Final = "data"
READY: Final = FILLING_READY
OLD: Final = "old"
LOCK_NAME: Final = "lock"
#: What `filling` is called when it is over, until it is removed.
OVER: Final = "filling.over"
#: So often a copy is begun again because files were rewritten at the other node.
REWRITTEN_TRIES: Final = 5


def fill(
    directory: Path,
    *,
    copy: Callable[[Path], Path],
    check: Callable[[Manifest], None],
    progress: Progress | None = None,
) -> int:
    """Exchange the log in `directory`, which no relay may be serving, and say which is its last sequence number.

    `copy(into)` says where the backup is; it may make it, at `into`. `check` raises where the log of a backup will not
    do. Raises what these raise, Refusal(CONFLICT) for a backup without secrets, `LockedError`, `BackupError`,
    `CorruptionError`, `KeyFileError`, `OSError`. Broken off, or where it raises, call it again: it goes on. Until
    `ready` is there, who removes `filling` has given it up.
    """
    filling = directory / FILLING_DIRECTORY
    shutil.rmtree(directory / OVER, onerror=_unless_gone)
    with _locked(directory):
        ready, data = filling / READY, filling / DATA
        if not ready.exists():
            shutil.rmtree(data, onerror=_unless_gone)
            manifest = restore(copy(filling / BACKUP), data, log=LOG_DIRECTORY, progress=progress)
            if not pepper_files(data):
                # Keys that were made while this node was away would be nowhere.
                raise Refusal("CONFLICT", "that backup was made without secrets: make one with them")
            check(manifest)
            _bring_secrets(data, directory)
            write_new(ready, f"{manifest.last_seq}\n".encode())
        last_seq = int(ready.read_text())
        for _ in exchange(directory):
            pass
    return last_seq


def borrow(
    root: Path, disk: Disk, names: Callable[[], Sequence[str]], into: Path, progress: Progress | None
) -> None:
    """Bring the backup `into` up to date with another node's files, below `root` on that disk.

    What is rewritten there meanwhile is begun again. Raises as `spool.backup.backup.back_up`.
    """

    def secrets() -> list[str]:
        return [name for name in names() if not name.startswith(f"{LOG_DIRECTORY}/")]

    for tries_left in reversed(range(REWRITTEN_TRIES)):
        try:
            back_up(root, into, log=LOG_DIRECTORY, others=secrets, disk=disk, progress=progress)
            return
        except OSError as error:
            if error.errno != errno.ESTALE or not tries_left:
                raise


async def check_with_table(table: Table, manifest: Manifest) -> None:
    """That this is the log that all nodes agree on, and that the database has all that comes behind it.

    Raises Refusal(CONFLICT), TableError.
    """
    async with connected(table) as connection:
        await check_tail(connection, manifest.last_seq)
        head = await connection.head()
        chain = head.chain
        if manifest.last_seq < head.last_seq:
            (row, *_) = await connection.rows(manifest.last_seq, head.last_seq, 1)
            chain = row.previous_chain
    if chain.hex() != manifest.chain:
        raise Refusal(
            "CONFLICT",
            f"sequence {manifest.last_seq} has another chain value there than in the log that all nodes agree on: it "
            "is of another relay, or has parted from the others. Nothing was changed",
        )


def exchange(directory: Path) -> Iterator[None]:
    """Put the new log in the place of the old one, a step at a time. Killed behind any of them, it goes on when it is
    done again."""
    filling, log = directory / FILLING_DIRECTORY, directory / LOG_DIRECTORY
    new, old = filling / DATA / LOG_DIRECTORY, filling / OLD
    if new.exists():
        if log.exists():
            os.rename(log, old)
            fsync_directory(filling)
            fsync_directory(directory)
            yield
        os.rename(new, log)
        fsync_directory(directory)
        fsync_directory(new.parent)
        yield
    shutil.rmtree(directory / VIEWS_DIRECTORY, onerror=_unless_gone)
    yield
    for name in (OLD, DATA, BACKUP):
        shutil.rmtree(filling / name, onerror=_unless_gone)
        yield
    # It may be served from here on; what is left of it tells nothing.
    os.rename(filling, directory / OVER)
    fsync_directory(directory)
    yield
    shutil.rmtree(directory / OVER)


def _unless_gone(_function: object, _path: str, raised: tuple[object, BaseException, object]) -> None:
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def _bring_secrets(source: Path, directory: Path) -> None:
    """Those that are not there. Raises KeyFileError for one that is there and is another one."""
    remove_unfinished(directory)
    files = KeyFiles(directory)
    for path in pepper_files(source):
        _have(directory / path.name, read_private(path))
    for path in sorted((source / "keys").glob("*/*.pem")):
        files.make_room(path.parent.name)
        _have(files.path(path.parent.name, path.stem), read_private(path))


def _have(path: Path, octets: bytes) -> None:
    if not path.exists():
        write_new(path, octets)
    elif read_private(path) != octets:
        raise KeyFileError(f"{path}: is another one than the other node's: are both of one relay?")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Nobody serves it, and nobody else fills it. Whoever comes later sees `filling`."""
    disk = RealDisk()
    log, filling = directory / LOG_DIRECTORY, directory / FILLING_DIRECTORY
    with ExitStack() as locks:
        if not filling.exists():
            disk.make_directory(log)
        if log.exists():
            locks.callback(disk.close, disk.lock(log / LOCK_NAME))
        disk.make_directory(filling)
        disk.sync_directory(directory)
        locks.callback(disk.close, disk.lock(filling / LOCK_NAME))
        yield
