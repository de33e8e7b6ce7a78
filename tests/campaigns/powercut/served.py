"""The disk's process: it serves `disk` to the kernel over FUSE, and does what the campaign tells it.

    python -m tests.campaigns.powercut.served DIRECTORY BYTES CONTROL NEWS [--lies]

mounts itself on DIRECTORY. CONTROL and NEWS are sockets that it was given: on the one it reads orders, a line of JSON
each, and answers each with a line; into the other it writes one octet when the power goes, by order or by itself, at
the flush or write that it was told.

From that moment on **no write and no flush is answered**: nobody can be told any more that something is durable. Reads
still are, until `die`; then whatever waits, and whatever comes, for this file fails (EIO). Meanwhile the campaign kills
whoever was running, as a power cut would have done. `survive` decides what is left; it is the next file's content.

One thread, one request after the other. It ends when CONTROL is closed, or the kernel lets go of it.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import random
import select
import signal
import socket
from pathlib import Path
from typing import Any

from tests.campaigns.powercut import fuse
from tests.campaigns.powercut.disk import Disk
from tests.campaigns.powercut.fuse import Message, Op

_MS_NOSUID, _MS_NODEV = 2, 4


class Served:
    """`answer` is for the kernel, `order` for the campaign."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        #: Which file is the disk; those before it are dead.
        self.generation = 1
        self.is_cut = False
        self._is_dead = False
        self._waiting: list[Message] = []
        #: The flush or write before which the power goes, by kind; what is left to count.
        self._at: tuple[int, int] | None = None
        #: At that flush it goes after the flush is done, and nobody is told.
        self._afterwards = False

    def answers(self, message: Message) -> list[bytes]:
        """What can be answered now; that may be nothing."""
        if message.op in fuse.UNANSWERED:
            return []
        if message.op not in (Op.READ, Op.WRITE, Op.FSYNC):
            return [fuse.formality(message, self.disk.size)]
        if message.generation != self.generation or self._is_dead:
            return [fuse.refusal(message, errno.EIO)]
        if message.op == Op.READ:
            offset, length = fuse.read_range(message)
            return [fuse.answer(message, self.disk.read(length, offset))]
        self._count(message)
        if self.is_cut:
            self._waiting.append(message)
            return []
        if message.op == Op.FSYNC:
            self.disk.flush()
            return [fuse.answer(message)]
        self._write(message)
        return [fuse.written(message)]

    def _write(self, message: Message) -> None:
        offset, data = fuse.write_data(message)
        self.disk.write(data, offset)

    def _count(self, message: Message) -> None:
        if self.is_cut or self._at is None or self._at[0] != message.op:
            return
        op, left = self._at
        self._at = op, left - 1
        if left > 1:
            return
        if op == Op.WRITE:
            self._write(message)  # it may be torn, as any other
        elif self._afterwards:
            self.disk.flush()
        self.is_cut = True

    def order(self, what: str, arguments: dict[str, Any]) -> tuple[Any, list[bytes]]:
        """The answer to the campaign, and answers to the kernel that have become due."""
        match what:
            case "arm":
                self._at = (Op[arguments["op"]], arguments["count"])
                self._afterwards = arguments["afterwards"]
            case "cut":
                self.is_cut = True
            case "die":
                self.is_cut = self._is_dead = True
                self._at = None
                refused = [fuse.refusal(message, errno.EIO) for message in self._waiting]
                self._waiting = []
                return True, refused
            case "survive":
                assert self._is_dead
                loss = self.disk.lose_power(
                    arguments["fate"], random.Random(arguments["seed"]), arguments["atom_bytes"]
                )
                self.generation += 1
                self.is_cut = self._is_dead = False
                return loss._asdict(), []
            case "counts":
                return vars(self.disk.counts), []
            case _:
                raise AssertionError(f"no such order: {what}")
        return True, []


def serve(device: int, served: Served, control: socket.socket, news: socket.socket) -> None:
    lines = b""
    was_cut = False
    while True:
        ready, _, _ = select.select([device, control.fileno()], [], [])
        if device in ready:
            try:
                data = os.read(device, fuse.MESSAGE_BYTES_MAX)
            except OSError as error:
                if error.errno == errno.ENODEV:  # it was unmounted
                    return
                if error.errno not in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    raise
            else:
                _answer(device, served.answers(fuse.decode(data)))
        if control.fileno() in ready:
            received = control.recv(65536)
            if not received:
                return
            lines += received
            *whole, lines = lines.split(b"\n")
            for line in whole:
                said = json.loads(line)
                answer, due = served.order(said.pop("order"), said)
                _answer(device, due)
                control.sendall(json.dumps(answer).encode() + b"\n")
        if served.is_cut and not was_cut:
            news.sendall(b"!")
        was_cut = served.is_cut


def _answer(device: int, answers: list[bytes]) -> None:
    for answer in answers:
        try:
            os.write(device, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:  # nobody waits for it any more
                raise


def mount(directory: Path) -> int:
    """Mount an empty FUSE file system there; returns the descriptor by which it is served. Raises OSError."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,max_read={fuse.TRANSFER_BYTES_MAX}"
    if libc.mount(b"powercut", os.fsencode(directory), b"fuse", _MS_NOSUID | _MS_NODEV, options.encode()):
        number = ctypes.get_errno()
        os.close(device)
        raise OSError(number, os.strerror(number), "/dev/fuse")
    return device


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("bytes", type=int)
    parser.add_argument("control", type=int)
    parser.add_argument("news", type=int)
    parser.add_argument("--lies", action="store_true")
    options = parser.parse_args()
    # It ends with whoever gives it orders, and not before: whoever is stopped by a signal still asks for the counts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    control, news = (socket.socket(fileno=number) for number in (options.control, options.news))
    device = mount(options.directory)
    control.sendall(b"true\n")
    serve(device, Served(Disk(options.bytes, lies=options.lies)), control, news)


if __name__ == "__main__":
    main()
