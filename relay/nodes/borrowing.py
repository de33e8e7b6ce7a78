"""Another node's files, as a disk from which they are read (`relay.nodes.lending` is the other side).

    disk = RemoteDisk(asking_from_thread(links, node))
    back_up(OTHER_NODE, backup, log=LOG_DIRECTORY, others=..., disk=disk)
    LogReader(OTHER_NODE / LOG_DIRECTORY, disk=disk)

So whatever reads a log reads another node's, too, with all that it checks, and a backup of it goes on where it was
broken off. What is below OTHER_NODE is read from there; everything else is this machine's disk. A file that is open
stays the one that was opened: where another has taken its place (payloads were erased from a segment), reading on
raises OSError(ESTALE), and whoever reads begins again.

It is used in a thread of its own, and waits there for answers. Nothing of another node's is made durable from here:
what its log shows is durable where all nodes agree, whatever its own disk has.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from relay.nodes import words
from relay.nodes.lending import PART_BYTES_MAX, FilePart, is_lent
from relay.nodes.links import Links, LostError, NotAskedError
from spool.disk import RealDisk

#: Where another node's data directory stands, for who reads it by a `RemoteDisk`.
OTHER_NODE: Final = Path("/another-node")
ANSWER_SECONDS_MAX: Final = 30.0
#: A node that is begun again is back by then.
TRIES: Final = 6
PAUSE_SECONDS: Final = 2.0

_names_in = msgspec.msgpack.Decoder(list[str]).decode
_part_in = msgspec.msgpack.Decoder(FilePart | None).decode
_answered_in = msgspec.msgpack.Decoder(words.Answered).decode
_question_of = msgspec.msgpack.Encoder().encode


async def ask_files(links: Links, node: words.Node, question: words.ListFiles | words.ReadFile) -> bytes:
    """The answer's value. Reading changes nothing, so it is asked again where it was lost. Raises OSError."""
    because = ""
    for tried in range(TRIES):
        if tried:
            await trio.sleep(PAUSE_SECONDS)
        try:
            answer = await links.ask(
                node, _question_of(question), None, seconds_max=ANSWER_SECONDS_MAX, writes=False
            )
            answered = _answered_in(answer)
        except (NotAskedError, LostError) as error:
            because = str(error)
            continue
        except msgspec.MsgspecError as error:
            because = f"node {node.name}: an answer that cannot be read: {error}"
            break
        if answered.raised is not None:
            because = f"node {node.name} cannot read it: its log file says why"
            break
        return bytes(answered.value)
    raise OSError(errno.EIO, because)


class RemoteDisk(RealDisk):
    """`ask` is called in this thread, and returns an answer's value: see `asking_from_thread`."""

    def __init__(self, ask: Callable[[words.ListFiles | words.ReadFile], bytes]) -> None:
        self._ask = ask
        #: Of open files: name, and which file it is. Their handles are below zero.
        self._open: dict[int, tuple[str, bytes]] = {}
        self._next = -1

    def names(self) -> list[str]:
        """All that the other node lends, at this moment."""
        try:
            names: list[str] = _names_in(self._ask(words.ListFiles()))
        except msgspec.MsgspecError as error:
            raise OSError(errno.EIO, f"a list of files that cannot be read: {error}") from error
        # Files of these names are written here.
        for name in names:
            if not is_lent(name):
                raise OSError(errno.EIO, f"a list of files with a name that none has: {name[:100]!r}")
        return names

    def list_names(self, directory: Path) -> Sequence[str]:
        folder = _name_below(directory)
        if folder is None:
            return super().list_names(directory)
        inside = [name.rpartition("/") for name in self.names()]
        return sorted(name for parent, _, name in inside if parent == folder)

    def open_read(self, path: Path) -> int:
        name = _name_below(path)
        if name is None:
            return super().open_read(path)
        part = self._part(name, 0, 0)
        if part is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        handle, self._next = self._next, self._next - 1
        self._open[handle] = name, part.tag
        return handle

    def close(self, handle: int) -> None:
        if handle >= 0:
            super().close(handle)
        else:
            del self._open[handle]

    def size(self, handle: int) -> int:
        return super().size(handle) if handle >= 0 else self._read(handle, 0, 0).size

    def read(self, handle: int, length: int, offset: int) -> bytes:
        if handle >= 0:
            return super().read(handle, length, offset)
        pieces: list[bytes] = []
        while length > 0:
            wanted = min(length, PART_BYTES_MAX)
            octets = self._read(handle, wanted, offset).octets
            pieces.append(octets)
            if len(octets) < wanted:
                break
            length, offset = length - wanted, offset + wanted
        return b"".join(pieces)

    def fdatasync(self, handle: int) -> None:
        if handle >= 0:
            super().fdatasync(handle)

    def _read(self, handle: int, length: int, offset: int) -> FilePart:
        name, tag = self._open[handle]
        part = self._part(name, offset, length)
        if part is None or part.tag != tag:
            raise OSError(errno.ESTALE, "was rewritten meanwhile at the other node", name)
        return part

    def _part(self, name: str, offset: int, length: int) -> FilePart | None:
        try:
            part: FilePart | None = _part_in(self._ask(words.ReadFile(name, offset, length)))
        except msgspec.MsgspecError as error:
            raise OSError(errno.EIO, f"a part of a file that cannot be read: {error}") from error
        if part is not None and len(part.octets) > length:
            raise OSError(errno.EIO, "more of a file than was asked for", name)
        return part


def asking_from_thread(links: Links, node: words.Node) -> Callable[[words.ListFiles | words.ReadFile], bytes]:
    """For a `RemoteDisk` in a thread that trio has begun."""

    def ask(question: words.ListFiles | words.ReadFile) -> bytes:
        return trio.from_thread.run(ask_files, links, node, question)

    return ask


def _name_below(path: Path) -> str | None:
    """None: it is this machine's."""
    return path.relative_to(OTHER_NODE).as_posix() if path.is_relative_to(OTHER_NODE) else None
