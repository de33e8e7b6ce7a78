"""What does a long queue cost: the speed of the accept path, memory, and the time of a start?

    python -m benchmarks.queue_length

Relays with nothing, 100,000 and 1,000,000 messages queued take the same load in turn: the speed must not depend on
it. The queue is *realistic*, with 100 members, 1,000 recipient domains and both classes, which is 200,000 lanes; or the
worst, *a domain each*, which is as many lanes as messages. Each is written by appending to the log through the store,
ten recipients a send. The receiver never says a word. It takes some minutes.

Next attempts are some hours away, as in a queue that has seen its first attempts, and that is the favourable case:
only lanes due within a minute are in memory. *All due* is the other one, as after an outage of the relay: each message
is overdue, so that each lane is in memory, and the relay has all the connections open that a site may have.

Memory is counted without the views' mapped pages, which are the page cache's and go when the kernel needs them; they
have a row of their own. It is measured at the end of all loads, which leave some tens of thousands of messages more in
each queue; but with nothing queued it is measured before them, when that is true. The peak is what `top` would have
shown (RSS): of the same process, the views' pages, start and loads included. A start is timed from the command until
HTTP is served, after a SIGTERM and after a SIGKILL.
"""

from __future__ import annotations

import collections
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import trio

from benchmarks.accept import USUAL, send_request
from benchmarks.command import Effort, bench_directory, run
from benchmarks.load import run_load
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import (
    BenchedRelay,
    enrolled_relay,
    numbered_did,
    numbered_member,
    silent_receiver,
)
from relay.core import open_core
from relay.events import Content, Event, MessageQueued, Recipient, SendAccepted

QUESTION = "queue_length"
MEMBERS = 100
DOMAINS = 1000
RECIPIENTS = 10
TEXT = "Sent via Atmosphere Mail\n" * 60
HOUR_US = 3600 * 1_000_000
_SENDS_PER_BATCH = 90
_MIB = 1 << 20


class Queue(NamedTuple):
    """How many messages wait, whether each is for a domain of its own, and whether each is overdue."""

    messages: int
    worst: bool = False
    due: bool = False

    def __str__(self) -> str:
        if not self.messages:
            return "nothing queued"
        state = "all due" if self.due else "queued"
        return f"{self.messages:,} {state}" + (", a domain each" if self.worst else "")


def fill(directory: Path, queue: Queue) -> None:
    """Queue them in the log and the views of a directory that nobody serves."""
    trio.run(queue_messages, directory, queue)


async def queue_messages(directory: Path, queue: Queue) -> None:
    async with open_core(directory) as core:
        now, dice = core.store.now_us(), random.Random(1)
        await core.store.append([event for number in range(MEMBERS) for event in numbered_member(number)])
        sends = (_send(number, queue, now, dice) for number in range(queue.messages // RECIPIENTS))
        while batch := [event for send in islice(sends, _SENDS_PER_BATCH) for event in send]:
            await core.store.append(batch)


def _send(number: int, queue: Queue, now: int, dice: random.Random) -> Iterator[Event]:
    member = number % MEMBERS
    did, domain = numbered_did(member), f"member{member}.example"
    # Overdue, or after a first attempt that has put it off.
    least, most = (-HOUR_US, 0) if queue.due else (2 * HOUR_US, 12 * HOUR_US)
    category = dice.choice(["transactional", "bulk"])
    yield SendAccepted(
        did=did,
        domain=domain,
        category=category,
        recipients=RECIPIENTS,
        key_id="k",
        selector_stem="atmos20251124",
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="0123456789abcdef",
        personal=Content(from_address=f"you@{domain}", subject="Hello", text=TEXT),
    )
    for index in range(1, RECIPIENTS + 1):
        to = number * RECIPIENTS + index if queue.worst else dice.randrange(DOMAINS)
        address = f"friend{dice.randrange(1_000_000)}@receiver{to}.example"
        yield MessageQueued(
            did=did,
            domain=domain,
            category=category,
            index=index,
            next_attempt_at=now + dice.randrange(least, most),
            give_up_at=now + 72 * HOUR_US,
            personal=Recipient(given=address, address=address),
        )


def measure(effort: Effort) -> Iterator[Row]:
    hundred_thousand, million = effort.scaled(100_000), effort.scaled(1_000_000)
    yield from measure_queues(
        effort,
        [
            Queue(hundred_thousand),
            Queue(million),
            Queue(million, worst=True),
            Queue(hundred_thousand, worst=True, due=True),
        ],
    )


def measure_queues(effort: Effort, queues: list[Queue]) -> Iterator[Row]:
    """Each against one with nothing queued."""
    none = Queue(0)
    with ExitStack() as stack:
        nobody = stack.enter_context(silent_receiver())
        root = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="queue-bench-", dir=bench_directory()))
        )
        relays = {
            queue: enrolled_relay(root / str(number) / "data", route=nobody)
            for number, queue in enumerate([none, *queues])
        }
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            filled = pool.map(fill, [relay.directory for relay in relays.values()], relays)
            collections.deque(filled, maxlen=0)  # raises what one of them raised
        for relay in relays.values():
            stack.enter_context(relay.running())
        for how, die in (("after SIGTERM", BenchedRelay.stop), ("after SIGKILL", BenchedRelay.kill)):
            yield from _compare(relays, f"start {how}, s", partial(_seconds_to_start, die=die), effort.rounds)
        yield from _memory(none, relays[none])
        for relay in relays.values():
            _rate(relay, effort.seconds / 3)  # warm
        yield from _compare(
            relays,
            "durable sends/s",
            partial(_rate, seconds=effort.seconds),
            effort.many_rounds,
            asked=Demand("ratio", at_least=0.9),
        )
        for queue in queues:
            yield from _memory(queue, relays[queue])


def _memory(queue: Queue, relay: BenchedRelay) -> Iterator[Row]:
    memory = relay.memory()
    yield _row(queue, "memory, MiB", [memory.without_views / _MIB], asked=Demand("median", at_most=300))
    yield _row(queue, "of it its own, MiB", [memory.anonymous / _MIB])
    yield _row(queue, "the views' mapped pages besides, MiB", [memory.views / _MIB])
    yield _row(queue, "peak of resident memory, MiB", [relay.memory_peak_bytes() / _MIB])


def _compare(
    relays: dict[Queue, BenchedRelay],
    what: str,
    figure: Callable[[BenchedRelay], float],
    rounds: int,
    *,
    asked: Demand | None = None,
) -> Iterator[Row]:
    """A figure of each relay in turn; the one with nothing queued is what the others are held against."""
    values: dict[Queue, list[float]] = {queue: [] for queue in relays}
    order = list(relays)
    for _ in range(rounds):
        for queue in order:
            values[queue].append(figure(relays[queue]))
        order.reverse()  # none always follows the same other one
    none, *others = relays
    for queue in others:
        yield _row(
            queue,
            what,
            values[queue],
            against=Comparison(f"with {none} before", values[none]),
            lower_is_better=asked is None,
            asked=asked,
        )


def _row(
    queue: Queue,
    what: str,
    values: list[float],
    *,
    against: Comparison | None = None,
    lower_is_better: bool = True,
    asked: Demand | None = None,
) -> Row:
    return Row(
        question=QUESTION,
        case=str(queue),
        what=what,
        values=values,
        against=against,
        lower_is_better=lower_is_better,
        asked=asked,
        is_headline=asked is not None and queue.messages > 0,
    )


def _seconds_to_start(relay: BenchedRelay, die: Callable[[BenchedRelay], object]) -> float:
    die(relay)
    start = time.perf_counter()
    relay.start()
    return time.perf_counter() - start


def _rate(relay: BenchedRelay, seconds: float) -> float:
    request = send_request(relay.credentials)
    return run_load(relay.address, request, connections=USUAL, seconds=seconds).per_second


if __name__ == "__main__":
    run({QUESTION: measure})
