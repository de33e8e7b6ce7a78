"""A load generator for SMTP: connections that log in, if they are told to, and hand in one message after another.

A process of its own (`run_smtp_load` starts it), as `benchmarks.load`. MAIL, RCPT and DATA go in one group where their
answers are waited for together, as Postfix's client does it, and where a connection has one message only, QUIT goes
with its dot. Each message has a Message-ID of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Generator
from typing import Any, NamedTuple
from uuid import uuid4

from benchmarks.dialogues import READY, Dialogue, Supply, percentiles, play

SENDER = "you@yourdomain.com"
_ENVELOPE = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<friend@example.com>\r\nDATA\r\n".encode()


class SmtpLoad(NamedTuple):
    messages: int
    #: From the first MAIL, or the first connection where each message has its own, to the last answer to a dot.
    seconds: float
    #: From MAIL, or before the connection was opened, to the answer to the dot.
    p50: float
    p99: float
    p999: float
    #: Processor time of the load generator itself.
    cpu_seconds: float


def run_smtp_load(
    address: str,
    *,
    connections: int,
    messages: int,
    body_bytes: int,
    login: tuple[str, str] | None = None,
    keeps: bool = True,
) -> SmtpLoad:
    """Hand in so many messages; blocks until the last answer. `login` is a user and a password. Without `keeps`, each
    message has a connection of its own. Raises CalledProcessError where anything is answered but 2yz or 3yz."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.smtp_load"],
        input=json.dumps([address, connections, messages, body_bytes, login, keeps]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return SmtpLoad(*json.loads(done.stdout))


def _ask(octets: bytes, replies: int = 1) -> Generator[bytes | None, bytes, None]:
    """Say that, and hear so many replies. Raises ConnectionError where one is a no."""
    heard = yield octets
    while True:
        lines = heard.split(b"\r\n")
        for line in lines[:-1]:
            if line[:1] not in (b"2", b"3"):
                raise ConnectionError(line.decode("latin-1"))
        if sum(line[3:4] != b"-" for line in lines[:-1]) >= replies:
            return
        heard += yield b""


def _hand_in(
    address: str, connections: int, messages: int, body_bytes: int, login: tuple[str, str] | None, keeps: bool
) -> list[Any]:
    supply = Supply(messages=messages)
    run = uuid4().hex
    head = f"From: You <{SENDER}>\r\nTo: friend@example.com\r\nSubject: Hello\r\n".encode()
    head += b"Date: Mon, 1 Sep 2026 10:00:00 +0000\r\nMessage-ID: <%b.%d@yourdomain.com>\r\n\r\n"
    body = b"Sent via Atmosphere Mail, which is here\r\n" * (body_bytes // 41)
    end = body + (b".\r\n" if keeps else b".\r\nQUIT\r\n")
    log_in = b"AUTH PLAIN " + b64encode("\0".join(["", *(login or ())]).encode()) + b"\r\n"

    def opening() -> Dialogue:
        yield from _ask(b"")
        yield from _ask(b"EHLO client.test\r\n")
        if login is not None:
            yield from _ask(log_in)

    def dialogue() -> Dialogue:
        start = time.perf_counter()
        if keeps:
            yield from opening()
            yield READY
        while supply.take():
            if keeps:
                start = time.perf_counter()
            else:
                yield from opening()
            # Made here and not before: some bytes, and nothing else is one message's own.
            message = head % (run.encode(), supply.taken) + end
            yield from _ask(_ENVELOPE, 3)
            yield from _ask(message)
            supply.times.append(time.perf_counter() - start)
            if not keeps:
                return

    elapsed, cpu = play(address, dialogue, supply, connections=connections, keeps=keeps)
    return [len(supply.times), elapsed, *percentiles(supply.times), cpu]


if __name__ == "__main__":
    print(json.dumps(_hand_in(*json.load(sys.stdin))))
