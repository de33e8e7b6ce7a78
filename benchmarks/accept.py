"""How many durable sends a second does the accept path take?

    python -m benchmarks.accept

One relay process, one member, a real disk; each 200 means written, fdatasynced and in the views. Delivery is held by a
receiver that never greets. The ceiling, round by round in turn, is bare hypercorn on trio answering the same request
from memory.

By the clock, a ratio is of what two processes reach, each with a core: the server, and the load generator, which is
Python as well. Where bare hypercorn has to wait for it (a row says how busy its core was), this ratio flatters the
relay. By processor time, of all threads, each server is measured alone, and a shared machine disturbs
it least: the demand is made of both.

Where each send has a connection of its own, the same is asked with 8 and 32 of them at a time.

At 32 connections also: how long the slowest hundredth of requests took; and, because the relay has put parts of its own
in the place of hypercorn's (`relay.api.server`), the same bare application under the relay's server. What the relay
lacks to that is not the server's, but the mail's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from typing import NamedTuple, Protocol

from benchmarks.command import Effort, run
from benchmarks.load import Load, post, run_load
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import DOMAIN, BenchedRelay, cpu_seconds, relay_process, silent_receiver

QUESTION = "accept"
BODY_BYTES = 1500
LARGE_BYTES = 100_000
CONNECTIONS = (1, 8, 32, 128)
#: At a time, each for one send.
NEW_CONNECTIONS = (8, 32)
#: The case that demands speak of.
USUAL = 32
#: Of bare hypercorn, in the same run.
RATIO_ASKED = 0.65
PER_CORE = "durable sends for each second of a core"


class Server(Protocol):
    """What takes load, and says what it costs."""

    address: str

    def cpu_seconds(self) -> float: ...


class Bare:
    """A server of `benchmarks.bare`."""

    def __init__(self, address: str, pid: int) -> None:
        self.address = address
        self._pid = pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self._pid)


@contextmanager
def bare_server(*options: str) -> Iterator[Bare]:
    command = [sys.executable, "-m", "benchmarks.bare", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Bare(process.stdout.readline().strip(), process.pid)
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


class Figure(NamedTuple):
    load: Load
    cpu_seconds: float

    @property
    def per_core(self) -> float:
        """Requests for each second of processor time."""
        return self.load.requests / self.cpu_seconds

    @property
    def busy_percent(self) -> float:
        return self.cpu_seconds / self.load.seconds * 100


def measure(effort: Effort) -> Iterator[Row]:
    with ExitStack() as stack:
        nobody = stack.enter_context(silent_receiver())
        relay = stack.enter_context(relay_process(route=nobody))
        bare = stack.enter_context(bare_server())
        own = stack.enter_context(bare_server("own-server"))
        warm = send_request(relay.credentials)
        for server in (relay, bare, own):
            run_load(server.address, warm, connections=USUAL, seconds=effort.seconds / 3)
        cases = [
            *product((BODY_BYTES,), (1, 50), CONNECTIONS),
            *product((LARGE_BYTES,), (1,), CONNECTIONS),
            (LARGE_BYTES, 50, USUAL),
        ]
        for body_bytes, recipients, connections in cases:
            yield from measure_case(relay, bare, own, effort, body_bytes, recipients, connections)
        for connections in NEW_CONNECTIONS:
            yield from measure_new_connections(relay, bare, effort, connections)


def measure_case(
    relay: BenchedRelay,
    bare: Bare,
    own: Bare,
    effort: Effort,
    body_bytes: int,
    recipients: int,
    connections: int,
) -> Iterator[Row]:
    """`own` is the bare application under the relay's server: asked in the simplest of the usual cases alone."""
    is_usual = connections == USUAL and body_bytes == BODY_BYTES
    is_simple = is_usual and recipients == 1
    request = send_request(relay.credentials, body_bytes=body_bytes, recipients=recipients)
    ours: list[Figure] = []
    ceiling: list[Figure] = []
    under_own: list[Figure] = []
    turns: list[tuple[Server, list[Figure]]] = [(bare, ceiling), (relay, ours)]
    if is_simple:
        turns.append((own, under_own))
    for _ in range(effort.many_rounds if is_simple else effort.rounds):
        for server, figures in turns:
            figures.append(_figure(server, request, connections, effort.seconds))
        turns.reverse()  # none always follows the same other one
    many = f"{recipients} recipient{'s' if recipients > 1 else ''}"
    case = f"{connections} connections, {body_bytes / 1000:g} KB, {many}".replace(
        "1 connections", "1 connection"
    )
    row = partial(Row, question=QUESTION, case=case)
    yield row(
        what="durable sends/s by the clock",
        values=[figure.load.per_second for figure in ours],
        against=Comparison(
            "requests/s, bare hypercorn and its load generator",
            [figure.load.per_second for figure in ceiling],
        ),
        asked=Demand("ratio", at_least=RATIO_ASKED) if is_simple else None,
        is_headline=is_simple,
    )
    if recipients > 1:
        yield row(
            what="durable recipients/s",
            values=[figure.load.per_second * recipients for figure in ours],
            asked=Demand("median", at_least=12_000) if is_usual else None,
            is_headline=is_usual,
        )
    if connections != USUAL:
        return
    per_core = partial(row, what=PER_CORE, values=[figure.per_core for figure in ours])
    yield per_core(
        against=Comparison("requests, bare hypercorn", [figure.per_core for figure in ceiling]),
        asked=Demand("ratio", at_least=RATIO_ASKED) if is_simple else None,
        is_headline=is_simple,
    )
    if is_simple:
        yield per_core(
            against=Comparison(
                "requests, bare application under the relay's server",
                [figure.per_core for figure in under_own],
            ),
        )
        yield row(
            what="% of a core that bare hypercorn was busy",
            values=[figure.busy_percent for figure in ceiling],
        )
    yield row(
        what="p99, ms",
        values=[figure.load.p99 * 1000 for figure in ours],
        against=Comparison("ms, bare hypercorn", [figure.load.p99 * 1000 for figure in ceiling]),
        lower_is_better=True,
        asked=Demand("median", at_most=50) if is_simple else None,
        is_headline=is_simple,
    )


def measure_new_connections(
    relay: BenchedRelay, bare: Bare, effort: Effort, connections: int
) -> Iterator[Row]:
    request = send_request(relay.credentials)
    ours: list[Figure] = []
    ceiling: list[Figure] = []
    turns: list[tuple[Server, list[Figure]]] = [(bare, ceiling), (relay, ours)]
    for _ in range(effort.many_rounds):
        for server, figures in turns:
            figures.append(_figure(server, request, connections, effort.seconds, keeps=False))
        turns.reverse()
    case = f"a new connection each, {connections} at a time, 1.5 KB, 1 recipient"
    yield Row(
        question=QUESTION,
        case=case,
        what="durable sends/s by the clock",
        values=[figure.load.per_second for figure in ours],
        against=Comparison(
            "requests/s, bare hypercorn and its load generator",
            [figure.load.per_second for figure in ceiling],
        ),
    )
    yield Row(
        question=QUESTION,
        case=case,
        what=PER_CORE,
        values=[figure.per_core for figure in ours],
        against=Comparison("requests, bare hypercorn", [figure.per_core for figure in ceiling]),
    )


def _figure(
    server: Server, request: bytes, connections: int, seconds: float, *, keeps: bool = True
) -> Figure:
    used = server.cpu_seconds()
    load = run_load(server.address, request, connections=connections, seconds=seconds, keeps=keeps)
    return Figure(load, server.cpu_seconds() - used)


if __name__ == "__main__":
    run({QUESTION: measure})
