"""How many messages a second does the relay take over SMTP, beside Postfix, and what do large ones and idle ones cost?

    python -m benchmarks.submission

*Made durable*: 1.5 KB on 32 connections, in the clear, by one load generator (`benchmarks.smtp_load`) for both, in
turn. Delivery rests: Postfix puts everything into its hold queue, the relay's receiver never greets. Postfix is as in
`benchmarks.postfix`, warmed and left to grow. By the clock both share the machine with the generator; by processor
time, of all processes and threads, each server is measured alone. Clients of the relay have logged in, on
each connection once; Postfix asks nobody who he is.

*A message of 10 MB*: how much more memory of its own the relay holds at most while it is received and accepted, and how
late `/healthz` is answered meanwhile, which is how late the loop is for everybody.

*Idle connections*: the same load beside 1,000 connections that have said EHLO and say nothing more, in turn with none,
and what one of them takes of memory.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from benchmarks.accept import BODY_BYTES, USUAL
from benchmarks.command import Effort, run
from benchmarks.postfix import postfix
from benchmarks.receiver import PATH
from benchmarks.report import Comparison, Demand, Row
from benchmarks.smtp_load import run_smtp_load
from benchmarks.world import DOMAIN, BenchedRelay, relay_process, silent_receiver
from relay.file_names import SUBMISSION_ADDRESS_FILE
from tests.world.process import configure

QUESTION = "submission"
MESSAGES = 6000
IDLE = 1000
LARGE_BYTES = 10_000_000
PER_SECOND_ASKED = 1000
MEMORY_BYTES_ASKED = 40_000_000
LATE_SECONDS_ASKED = 0.05
_MIB = 1 << 20


def listen(directory: Path) -> None:
    configure(
        directory,
        submission='bind = ["127.0.0.1:0"]\nconnections_max = 5000',
        members="bytes_per_day = 1000000000000",
    )


def address_of(relay: BenchedRelay) -> str:
    return (relay.directory / SUBMISSION_ADDRESS_FILE).read_text().split()[0]


def login_of(relay: BenchedRelay) -> tuple[str, str]:
    return DOMAIN, relay.credentials["Authorization"].removeprefix("Bearer ")


class Figure(NamedTuple):
    per_second: float
    #: Messages for each second of processor time.
    per_core: float
    p99: float


def _figure(
    address: str, messages: int, cpu: Callable[[], float], login: tuple[str, str] | None = None
) -> Figure:
    used = cpu()
    load = run_smtp_load(address, connections=USUAL, messages=messages, body_bytes=BODY_BYTES, login=login)
    return Figure(load.messages / load.seconds, load.messages / (cpu() - used), load.p99)


def measure(effort: Effort) -> Iterator[Row]:
    messages = effort.scaled(MESSAGES)
    with ExitStack() as stack:
        nobody = stack.enter_context(silent_receiver())
        relay = stack.enter_context(relay_process(route=nobody, fill=listen))

        def ours() -> Figure:
            return _figure(address_of(relay), messages, relay.cpu_seconds, login_of(relay))

        ours()  # warm
        if shutil.which("postfix", path=PATH) is None or os.geteuid():
            print("         Postfix is not installed, or this is not root: it is left out", file=sys.stderr)
            our, their = [ours() for _ in range(effort.many_rounds)], None
        else:
            holding = stack.enter_context(postfix(nobody))

            def theirs() -> Figure:
                return _figure(holding.holding, messages, holding.cpu_seconds)

            theirs()  # warm
            our, their = [], []
            for number in range(effort.many_rounds):
                for measured, figures in ((ours, our), (theirs, their))[:: -1 if number % 2 else 1]:
                    figures.append(measured())
        yield from _rows(our, their)
        yield from measure_large(relay, effort)
        yield from measure_idle(relay, ours, effort)


def _rows(our: list[Figure], their: list[Figure] | None) -> Iterator[Row]:
    case = f"made durable, 1.5 KB, {USUAL} connections"
    asked = {
        "messages/s": Demand("median", at_least=PER_SECOND_ASKED),
        "messages for each second of a core": Demand("ratio", at_least=1.0),
        "ms, the slowest hundredth": None,
    }
    for index, (what, demand) in enumerate(asked.items()):
        scale = 1000 if what.startswith("ms") else 1
        yield Row(
            question=QUESTION,
            case=case,
            what=what,
            values=[figure[index] * scale for figure in our],
            against=Comparison("Postfix", [figure[index] * scale for figure in their]) if their else None,
            lower_is_better=scale > 1,
            asked=demand if their or demand is None or demand.of == "median" else None,
            is_headline=scale == 1,
        )


# ------------------------------------------------------------------------------------------------ one of 10 MB


def measure_large(relay: BenchedRelay, effort: Effort) -> Iterator[Row]:
    memory: list[float] = []
    late: list[float] = []
    for _ in range(effort.rounds):
        before = relay.memory().anonymous
        with watched(relay) as seen:
            hand_in_large(relay)
        memory.append((max(seen.anonymous, default=before) - before) / _MIB)
        late.append(max(seen.late) * 1000)
    case = f"one message of {LARGE_BYTES // 1_000_000} MB"
    yield Row(
        question=QUESTION,
        case=case,
        what="MiB of memory at most while it is received",
        values=memory,
        lower_is_better=True,
        asked=Demand("median", at_most=MEMORY_BYTES_ASKED / _MIB),
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="ms that others wait at most meanwhile",
        values=late,
        lower_is_better=True,
        asked=Demand("median", at_most=LATE_SECONDS_ASKED * 1000),
    )


def hand_in_large(relay: BenchedRelay) -> None:
    run_smtp_load(address_of(relay), connections=1, messages=1, body_bytes=LARGE_BYTES, login=login_of(relay))


class Seen:
    def __init__(self) -> None:
        self.anonymous: list[int] = []
        self.late: list[float] = []


@contextmanager
def watched(relay: BenchedRelay) -> Iterator[Seen]:
    """How much memory the relay holds, and how long somebody else waits for it, again and again."""
    seen, over = Seen(), threading.Event()

    def ask() -> None:
        http = HTTPConnection(relay.address, timeout=30)
        while not over.is_set():
            asked_at = time.perf_counter()
            http.request("GET", "/healthz")
            http.getresponse().read()
            seen.late.append(time.perf_counter() - asked_at)
            time.sleep(0.002)

    def weigh() -> None:
        # Not /proc/PID/smaps, which takes as long as what is to be seen.
        status = Path(f"/proc/{relay.pid}/status")
        while not over.is_set():
            (line,) = (line for line in status.read_text().splitlines() if line.startswith("RssAnon:"))
            seen.anonymous.append(int(line.split()[1]) * 1024)
            time.sleep(0.002)

    threads = [threading.Thread(target=ask), threading.Thread(target=weigh)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


# ------------------------------------------------------------------------------------------------ idle ones


@contextmanager
def idle_connections(relay: BenchedRelay, count: int) -> Iterator[None]:
    host, _, port = address_of(relay).rpartition(":")
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            held.append(socket.create_connection((host, int(port)), 30))
        for one in held:
            one.recv(1000)
            one.sendall(b"EHLO client.test\r\n")
        for one in held:
            one.recv(1000)
        yield
        for one in held:  # or somebody was sent away, and it was another load
            one.sendall(b"NOOP\r\n")
            assert one.recv(1000).startswith(b"250"), "an idle connection was ended"
    finally:
        for one in held:
            one.close()


def measure_idle(relay: BenchedRelay, ours: Callable[[], Figure], effort: Effort) -> Iterator[Row]:
    count = effort.scaled(IDLE)
    without: list[Figure] = []
    beside: list[Figure] = []
    each: list[float] = []
    for _ in range(effort.rounds):
        without.append(ours())
        before = relay.memory().anonymous
        with idle_connections(relay, count):
            each.append((relay.memory().anonymous - before) / count / 1024)
            beside.append(ours())
    yield Row(
        question=QUESTION,
        case=f"beside {count} idle connections",
        what="messages for each second of a core",
        values=[figure.per_core for figure in beside],
        against=Comparison("without them", [figure.per_core for figure in without]),
        asked=Demand("ratio", at_least=0.9),
    )
    yield Row(
        question=QUESTION,
        case=f"{count} idle connections",
        what="KiB of memory for each",
        values=each,
        lower_is_better=True,
    )


if __name__ == "__main__":
    run({QUESTION: measure})
