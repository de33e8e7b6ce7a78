"""A load generator for SMTP: connections that log in once and hand in one message after another.

A process of its own (`run_smtp_load` starts it), as `benchmarks.load`. MAIL, RCPT and DATA go in one group where their
answers are waited for together, as Postfix's client does it. Each message has a Message-ID of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from base64 import b64encode
from typing import NamedTuple
from uuid import uuid4

import trio

SENDER = "you@yourdomain.com"


class SmtpLoad(NamedTuple):
    messages: int
    seconds: float
    #: From MAIL to the answer to the dot.
    p50: float
    p99: float


def run_smtp_load(
    address: str, *, connections: int, messages: int, body_bytes: int, login: tuple[str, str] | None = None
) -> SmtpLoad:
    """Hand in so many messages; blocks until the last answer. `login` is a user and a password. Raises
    CalledProcessError where anything is answered but 2yz or 3yz."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.smtp_load"],
        input=json.dumps([address, connections, messages, body_bytes, login]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return SmtpLoad(*json.loads(done.stdout))


class SmtpClient:
    """One connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._read = b""

    async def log_in(self, login: tuple[str, str] | None) -> None:
        await self.hear()
        await self.ask(b"EHLO client.test\r\n")
        if login is not None:
            await self.ask(b"AUTH PLAIN " + b64encode("\0".join(["", *login]).encode()) + b"\r\n")

    async def hand_in(self, message: bytes, recipient: str = "friend@example.com") -> None:
        await self._stream.send_all(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        for _ in range(3):
            await self.hear()
        await self.ask(message + b".\r\n")

    async def ask(self, octets: bytes) -> None:
        await self._stream.send_all(octets)
        await self.hear()

    async def hear(self) -> None:
        """One reply. Raises ConnectionError where it is a no."""
        while True:
            while b"\r\n" not in self._read:
                more = await self._stream.receive_some(65536)
                if not more:
                    raise ConnectionError("the server hung up")
                self._read += more
            line, _, self._read = self._read.partition(b"\r\n")
            if line[:1] not in (b"2", b"3"):
                raise ConnectionError(line.decode("latin-1"))
            if line[3:4] != b"-":
                return


def message_of(body_bytes: int) -> bytes:
    """One of its kind."""
    return (
        f"From: You <{SENDER}>\r\nTo: friend@example.com\r\nSubject: Hello\r\n"
        f"Date: Mon, 1 Sep 2026 10:00:00 +0000\r\nMessage-ID: <{uuid4().hex}@yourdomain.com>\r\n\r\n"
    ).encode() + b"Sent via Atmosphere Mail, which is here\r\n" * (body_bytes // 41)


async def _drive(
    address: str, connections: int, messages: int, body_bytes: int, login: tuple[str, str] | None
) -> SmtpLoad:
    host, _, port = address.rpartition(":")
    times: list[float] = []
    left = messages
    start = 0.0

    async def connection(task_status: trio.TaskStatus[None]) -> None:
        nonlocal left
        client = SmtpClient(await trio.open_tcp_stream(host, int(port)))
        await client.log_in(login)
        task_status.started()
        await begin.wait()
        while left > 0:
            left -= 1
            message = message_of(body_bytes)
            sent_at = time.perf_counter()
            await client.hand_in(message)
            times.append(time.perf_counter() - sent_at)

    begin = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            await nursery.start(connection)
        start = time.perf_counter()
        begin.set()
    elapsed = time.perf_counter() - start
    times.sort()
    return SmtpLoad(len(times), elapsed, times[len(times) // 2], times[int(len(times) * 0.99)])


if __name__ == "__main__":
    print(json.dumps(trio.run(_drive, *json.load(sys.stdin))))
