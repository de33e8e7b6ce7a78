"""An endpoint of webhooks that keeps up, in a process of its own: it answers 200 to whatever is posted, and counts.

    python -m benchmarks.hook_receiver

It prints its address, and from then on a line whenever it is asked for one on standard input: how many requests and how
many events it has taken, and the time of the last by the machine's monotonic clock. Connections are kept as long as the
client keeps them. An event is known by the mark that its frame begins with, and bodies are not looked at otherwise.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

#: Once in each frame.
MARK = b'{"seq":'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LENGTH = b"content-length:"


class Taken(NamedTuple):
    requests: int
    events: int
    #: Of the last request, by `time.monotonic`.
    at: float


class HookReceiver:
    """A running one, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asking, self._said = process.stdin, process.stdout
        self.address = self._said.readline().strip()

    def taken(self) -> Taken:
        self._asking.write("\n")
        self._asking.flush()
        requests, events, at = self._said.readline().split()
        return Taken(int(requests), int(events), float(at))

    def wait_for(self, events: int, *, seconds: float) -> Taken:
        """Until it has taken so many. Raises RuntimeError."""
        end = time.monotonic() + seconds
        while (taken := self.taken()).events < events:
            if time.monotonic() > end:
                raise RuntimeError(f"the endpoint has {taken.events} of {events} events after {seconds:g} s")
            time.sleep(0.01)
        return taken


@contextmanager
def hook_receiver() -> Iterator[HookReceiver]:
    command = [sys.executable, "-m", "benchmarks.hook_receiver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield HookReceiver(process)
        finally:
            process.kill()


def serve() -> None:
    requests = events = 0
    at = 0.0
    with (
        selectors.DefaultSelector() as selector,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as server,
    ):
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print(f"127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            for key, _ in selector.select():
                if key.fileobj is server:
                    connection, _ = server.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(connection, selectors.EVENT_READ, bytearray())
                elif key.fileobj is sys.stdin:
                    if not sys.stdin.readline():
                        return
                    print(requests, events, at, flush=True)
                else:
                    body = _read(key.fileobj, key.data)  # type: ignore[arg-type]
                    if body is None:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
                    elif body:
                        requests += 1
                        events += body.count(MARK)
                        at = time.monotonic()


def _read(connection: socket.socket, buffer: bytearray) -> bytes | None:
    """A body that is there whole, after it was answered; empty: it is not yet. None: the client is gone."""
    try:
        part = connection.recv(262_144)
        if not part:
            return None
        buffer += part
        head, _, _ = buffer.partition(b"\r\n\r\n")
        begin = len(head) + 4
        if begin > len(buffer):
            return b""
        size = int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0])
        if len(buffer) < begin + size:
            return b""
        body = bytes(buffer[begin : begin + size])
        del buffer[: begin + size]
        connection.sendall(_ANSWER)
    except OSError:
        return None
    return body


if __name__ == "__main__":
    serve()
