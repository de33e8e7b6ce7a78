"""Which files a cut left otherwise than they had been: first as the kernel showed them, then as the disk had them.

A file that is not as it had been breaks no promise by itself: nothing was promised of it before it was synced. But
where its *absence means something* (no `boot`: the views were closed in order; no `restore.unfinished`: it is all
there), the summary must show that it went.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

#: Of larger files, and of the log and LMDB, only the name is compared: they are judged by what they hold.
_CONTENT_BYTES_MAX: Final = 64 << 10
_JUDGED_OTHERWISE: Final = (".mdb", ".seg", ".bytes", ".next")

Seen = dict[str, str]


def look(root: Path) -> Seen:
    """What stands below `root`: each file, and what tells its content from another.

    Nothing is written by it, not even when something was read last: it is for a disk that answers no write any more.
    """
    found: Seen = {}
    _look(root, "", found)
    return found


def _look(folder: Path, prefix: str, found: Seen) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME | os.O_CLOEXEC)
    try:
        names = os.listdir(handle)
    finally:
        os.close(handle)
    for name in names:
        path = folder / name
        with suppress(FileNotFoundError):  # it may go while we look
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                _look(path, f"{prefix}{name}/", found)
            else:
                found[prefix + name] = _content(path, status)


def _content(path: Path, status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "no file"
    if path.suffix in _JUDGED_OTHERWISE or status.st_size > _CONTENT_BYTES_MAX:
        return "there"
    handle = os.open(path, os.O_RDONLY | os.O_NOATIME | os.O_CLOEXEC)
    try:
        data = os.pread(handle, _CONTENT_BYTES_MAX, 0)
    finally:
        os.close(handle)
    return sha256(data).hexdigest() if data else "empty"


def changes(before: Seen, after: Seen) -> Counter[tuple[str, str]]:
    """(kind of file, what became of it) of each that a cut changed."""
    found: Counter[tuple[str, str]] = Counter()
    for name in before.keys() | after.keys():
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if now is None:
            became = "was there, and is gone"
        elif was is None:
            became = "was gone, and is there again"
        elif now == "empty":
            became = "was whole, and is empty"
        else:
            became = "is what it was before"
        found[_kind(name), became] += 1
    return found


def _kind(name: str) -> str:
    """Without what tells one of its kind from another."""
    name = re.sub(r"\.[0-9a-f]{8}\.tmp$", ".tmp", name)
    name = re.sub(r"keys/[^/]+/[^/]*?(\.tmp)?$", r"keys/*\1", name)
    return re.sub(r"[0-9]+", "N", name)
