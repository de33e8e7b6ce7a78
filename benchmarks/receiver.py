"""A receiver that keeps up, in a process of its own, and how fast a bare client can fill it.

Postfix's `smtp-sink` and `smtp-source` where they are installed (C, a fraction of our cost); otherwise `python -m
benchmarks.receiver`, a sink that answers by the line and does nothing else, and a client as plain.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import trio

from benchmarks.world import cpu_seconds

#: Where Debian keeps what only root runs.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
_COUNT = re.compile(rb"mesg[ =](\d+)")
_SETTLE_SECONDS = 60.0


class Receiver:
    """A running sink, and how many messages it has taken."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.is_postfix = _postfix("smtp-sink") is not None
        self._count = 0
        self._news = threading.Condition()
        self._process = process
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def count(self) -> int:
        return self._count

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        return cpu_seconds(self._process.pid)

    def wait_for(self, count: int, *, seconds: float) -> float:
        """Wait until that many have been taken, and return when that was (perf_counter)."""
        with self._news:
            if not self._news.wait_for(lambda: self._count >= count, seconds):
                raise RuntimeError(f"the receiver has {self._count} of {count} messages after {seconds:g} s")
            return time.perf_counter()

    def close(self) -> None:
        """The process has ended: read what it has said last."""
        assert self._process.stdout is not None
        self._reading.join()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while part := os.read(self._process.stdout.fileno(), 65536):
            rest = (rest + part)[-200:]  # running counters: only the last one matters
            if found := _COUNT.findall(rest[: rest.rfind(b"\r") + 1]):
                with self._news:
                    self._count = int(found[-1])
                    self._news.notify_all()


@contextmanager
def receiver() -> Iterator[Receiver]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    sink = _postfix("smtp-sink")
    command = [sys.executable, "-m", "benchmarks.receiver", address]
    if sink is not None:
        # As root it wants to be told as whom to go on.
        command = [sink, "-c", "-u", getpass.getuser(), address, "1024"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    running = Receiver(address, process)
    try:
        _wait_for_listener(address, process)
        yield running
    finally:
        process.kill()
        process.wait()
        running.close()


def bare_client_rate(receiver: Receiver, *, messages: int, connections: int, size: int) -> float:
    """Messages a second that the receiver takes from a client that does nothing else, many to a connection."""
    source = _postfix("smtp-source")
    target = receiver.count + messages
    start = time.perf_counter()
    if source is not None:
        options = ["-d", "-s", str(connections), "-m", str(messages), "-l", str(size)]
        subprocess.run([source, *options, f"inet:{receiver.address}"], check=True, capture_output=True)
    else:
        order = [receiver.address, str(messages), str(connections), str(size)]
        subprocess.run([sys.executable, "-m", "benchmarks.receiver", *order], check=True)
    return messages / (receiver.wait_for(target, seconds=_SETTLE_SECONDS) - start)


def _postfix(name: str) -> str | None:
    return shutil.which(name, path=PATH)


def _wait_for_listener(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.rpartition(":")
    while process.poll() is None:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("the receiver ended at once")


# ------------------------------------------------------------------------------------------------ without Postfix


async def serve_smtp(stream: trio.SocketStream, taken: Callable[[bytes], None]) -> None:
    """Take everything that comes on a connection; `taken` is told the RCPT line of each message, at its final dot."""
    buffer, in_body, recipient = b"", False, b""
    try:
        await stream.send_all(b"220 mx\r\n")
        while part := await stream.receive_some(65536):
            buffer += part
            replies = []
            while True:
                line, found, rest = buffer.partition(b"\r\n.\r\n" if in_body else b"\r\n")
                if not found:
                    break
                buffer = rest
                command = line[:4].upper()
                if in_body:
                    in_body = False
                    taken(recipient)
                    replies.append(b"250 2.0.0 taken\r\n")
                elif command == b"DATA":
                    in_body = True
                    replies.append(b"354 go on\r\n")
                elif command == b"EHLO":
                    replies.append(b"250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                elif command == b"QUIT":
                    await stream.send_all(b"221 2.0.0 bye\r\n")
                    return
                else:
                    recipient = line if command == b"RCPT" else recipient
                    replies.append(b"250 2.0.0 fine\r\n")
            await stream.send_all(b"".join(replies))
    except trio.BrokenResourceError:
        pass  # the client hung up: it has had its answers
    finally:
        await trio.aclose_forcefully(stream)


async def _sink(address: str) -> None:
    host, _, port = address.rpartition(":")
    count = 0

    def taken(recipient: bytes) -> None:
        nonlocal count
        count += 1
        print(f"mesg={count}", end="\r", flush=True)

    await trio.serve_tcp(partial(serve_smtp, taken=taken), int(port), host=host, backlog=1024)


async def _source(address: str, messages: int, connections: int, size: int) -> None:
    host, _, port = address.rpartition(":")
    body = b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * (size // 78) + b".\r\n"
    left = messages

    async def connection() -> None:
        nonlocal left
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.receive_some(4096)
            await stream.send_all(b"EHLO source\r\n")
            await stream.receive_some(4096)
            while left > 0:
                left -= 1
                await stream.send_all(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
                got = b""
                while b"354" not in got:
                    got += await stream.receive_some(4096)
                await stream.send_all(body)
                await stream.receive_some(4096)

    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(connection)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        trio.run(_sink, sys.argv[1])
    else:
        messages, connections, size = map(int, sys.argv[2:])
        trio.run(_source, sys.argv[1], messages, connections, size)
