"""How many durable sends a second does the accept path take?

    python -m benchmarks.accept

One relay process, one member, a real disk; each 200 means written, fdatasynced and in the views. Delivery is held by a
receiver that never greets. The ceiling, round by round in turn, is bare hypercorn on trio answering the same request
from memory.

At 32 connections also: how long the slowest hundredth of requests took, and how many sends the relay took for each
second of processor time (of all its threads), which is what a shared machine disturbs least.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product

from benchmarks.command import Effort, run
from benchmarks.load import Load, post, run_load
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import DOMAIN, BenchedRelay, relay_process, silent_receiver

QUESTION = "accept"
BODY_BYTES = 1500
LARGE_BYTES = 100_000
CONNECTIONS = (1, 8, 32, 128)
#: The case that demands speak of.
USUAL = 32
BARE = "requests/s, bare hypercorn"


@contextmanager
def bare_hypercorn(*options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.bare", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def send_request(credentials: dict[str, str], *, body_bytes: int = BODY_BYTES, recipients: int = 1) -> bytes:
    to = [f"friend{number}@example.com" for number in range(recipients)]
    mail = {
        "from": f"you@{DOMAIN}",
        "to": to if recipients > 1 else to[0],
        "subject": "Hello",
        "text": "Sent via Atmosphere Mail\n" * (body_bytes // 25),
    }
    return post("/v1/send", json.dumps(mail).encode(), credentials)


def measure(effort: Effort) -> Iterator[Row]:
    with silent_receiver() as nobody, relay_process(route=nobody) as relay, bare_hypercorn() as bare:
        warm = send_request(relay.credentials)
        for address in (relay.address, bare):
            run_load(address, warm, connections=USUAL, seconds=effort.seconds / 3)
        for body_bytes, recipients, connections in product((BODY_BYTES, LARGE_BYTES), (1, 50), CONNECTIONS):
            yield from measure_case(relay, bare, effort, body_bytes, recipients, connections)


def measure_case(
    relay: BenchedRelay, bare: str, effort: Effort, body_bytes: int, recipients: int, connections: int
) -> Iterator[Row]:
    request = send_request(relay.credentials, body_bytes=body_bytes, recipients=recipients)
    ours: list[Load] = []
    ceiling: list[Load] = []
    per_core: list[float] = []
    for _ in range(effort.rounds):
        ceiling.append(run_load(bare, request, connections=connections, seconds=effort.seconds))
        used = relay.cpu_seconds()
        ours.append(run_load(relay.address, request, connections=connections, seconds=effort.seconds))
        per_core.append(ours[-1].requests / (relay.cpu_seconds() - used))
    many = f"{recipients} recipient{'s' if recipients > 1 else ''}"
    case = f"{connections} connections, {body_bytes / 1000:g} KB, {many}".replace(
        "1 connections", "1 connection"
    )
    row = partial(Row, question=QUESTION, case=case)
    is_usual = connections == USUAL and body_bytes == BODY_BYTES
    is_simple = is_usual and recipients == 1
    yield row(
        what="durable sends/s",
        values=[load.per_second for load in ours],
        against=Comparison(BARE, [load.per_second for load in ceiling]),
        asked=Demand("ratio", at_least=0.65) if is_simple else None,
        is_headline=is_simple,
    )
    if recipients > 1:
        yield row(
            what="durable recipients/s",
            values=[load.per_second * recipients for load in ours],
            asked=Demand("median", at_least=12_000) if is_usual else None,
            is_headline=is_usual,
        )
    if connections == USUAL:
        yield row(
            what="p99, ms",
            values=[load.p99 * 1000 for load in ours],
            against=Comparison("ms, bare hypercorn", [load.p99 * 1000 for load in ceiling]),
            lower_is_better=True,
            asked=Demand("median", at_most=50) if is_simple else None,
            is_headline=is_simple,
        )
        yield row(what="durable sends for each second of a core", values=per_core, is_headline=is_simple)


if __name__ == "__main__":
    run({QUESTION: measure})
