"""Files of this node that another one may read: its log, and the secrets that go with it.

The invariant: **nothing is read but what is named here, and a part of a file is of the file that was begun with.** A
segment is rewritten, under its name, when payloads are erased from it. So each part says by a tag of which file it is,
and whoever reads on has to stop when that changes.

A node has every secret of the relay, so none is kept from it (`relay.nodes.certificates`). One part is read at a time,
beside the loop, and is bounded: whoever fills a node is in no hurry.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from relay.file_names import LOG_DIRECTORY
from relay.message.key_files import pepper_files

PART_BYTES_MAX: Final = 4 << 20
#: What tells a file from another with its name: a segment's header has a salt of its own.
_TAG_BYTES: Final = 64
_is_like_lent: Final = re.compile(
    rf"{LOG_DIRECTORY}/[0-9]{{20}}\.seg|pepper(\.[1-9][0-9]{{0,5}})?|keys/[a-z0-9.-]{{1,253}}/[a-z0-9-]{{1,63}}\.pem"
).fullmatch


class FilePart(NamedTuple):
    #: Of the file; another one is a file that has taken its place.
    tag: bytes
    #: Of the whole file, now.
    size: int
    octets: bytes


def is_lent(name: str) -> bool:
    """Whether a path is one that may be read, or written by whoever has read it."""
    return _is_like_lent(name) is not None and ".." not in name


class Lending:
    """Of one data directory. `offload` is `Surroundings.offload`."""

    def __init__(self, directory: Path, offload: Callable[..., Awaitable[Any]]) -> None:
        self._directory = directory
        self._offload = offload
        self._reading = trio.Lock()

    async def names(self) -> list[str]:
        """Paths below the data directory, with `/`. Raises OSError."""
        found: list[str] = await self._offload(_names, self._directory)
        return found

    async def part(self, name: str, offset: int, length: int) -> FilePart | None:
        """So much of a file from there, or less where it ends. None: there is none of that name, or it is not lent.
        Raises OSError."""
        if not is_lent(name):
            return None
        length = min(length, PART_BYTES_MAX)
        async with self._reading:
            part: FilePart | None = await self._offload(_part, self._directory / name, offset, length)
        return part


def _names(directory: Path) -> list[str]:
    log = directory / LOG_DIRECTORY
    paths = [*log.glob("*.seg"), *directory.glob("keys/*/*.pem"), *pepper_files(directory)]
    names = (path.relative_to(directory).as_posix() for path in paths)
    return sorted(filter(is_lent, names))


def _part(path: Path, offset: int, length: int) -> FilePart | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(handle)
        place = f"{status.st_dev} {status.st_ino} ".encode()
        tag = hashlib.sha256(place + os.pread(handle, _TAG_BYTES, 0)).digest()[:16]
        return FilePart(tag, status.st_size, os.pread(handle, length, offset))
    finally:
        os.close(handle)
