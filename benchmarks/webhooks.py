"""How fast are endpoints told of events, and do dead ones slow the others?

    python -m benchmarks.webhooks

The log is there before the relay is started, so that what is measured is telling alone: from when it serves to the last
request, by the endpoint's own count. Endpoints speak HTTP on loopback, where the configuration lets these webhooks go.

One endpoint, one event a request and a hundred: its ceiling, in turn, is a bare client that posts as much, on one
connection, and waits for each answer, as a webhook must.

A thousand endpoints, each of another member: half of them dead, which means that they take connections and never
answer, and that the log knows them as failing. In turn with it, the same without a dead one, and with as many of which
nobody knows yet that they are dead: all of them at one moment. What is compared is how many events a second those that
live were told.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from benchmarks.command import Effort, bench_directory, run
from benchmarks.hook_receiver import MARK, HookReceiver, hook_receiver
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import BenchedRelay, enrolled_relay, silent_receiver
from relay.config import CONFIG_FILE
from relay.core import open_core
from relay.events import (
    Event,
    MemberAdded,
    RecipientSuppressed,
    SuppressedRecipient,
    WebhookAdded,
    WebhookProgressed,
    WebhookUrl,
)

QUESTION = "webhooks"
EVENTS = 10_000
BATCHES = (1, 100)
ENDPOINTS = 1000
EVENTS_OF_EACH = 20
SECONDS_MAX = 300.0
#: Of one batch of the log, about.
_APPENDED = 500
#: An hour ago: nobody is given up for that.
FAILING_SINCE_US = (int(time.time()) - 3600) * 1_000_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


class Webhook(NamedTuple):
    did: str
    address: str
    batch: int
    #: Its endpoint has failed before, and the log says so.
    has_failed: bool = False


class Figure(NamedTuple):
    per_second: float
    #: Microseconds of the relay's processor time for each event.
    cpu_us: float


def did_of(number: int) -> str:
    digits = "".join(_LETTERS[number // 32**place % 32] for place in range(24))
    return f"did:plc:{digits}"


def events_of(webhooks: list[Webhook], events: int) -> list[Event]:
    """Members with a webhook each, and so many events of each, member by member in turn."""
    webhooks_by_did = {webhook.did: webhook for webhook in webhooks}
    found: list[Event] = [MemberAdded(did=webhook.did) for webhook in webhooks]
    found += [
        WebhookAdded(
            did=webhook.did,
            webhook_id=f"wh{_LETTERS[number % 32] * 20}{_LETTERS[number // 32 % 32]}{_LETTERS[number // 1024]}",
            batch=webhook.batch,
            cursor=len(webhooks) * 2,
            pepper=1,
            personal=WebhookUrl(url=f"http://{webhook.address}/{number}"),
        )
        for number, webhook in enumerate(webhooks)
    ]
    found += [
        WebhookProgressed(
            did=event.did,
            webhook_id=event.webhook_id,
            until_seq=0,
            failures=9,
            failing_since=FAILING_SINCE_US,
            failed_at=FAILING_SINCE_US,
            error="timeout",
        )
        for event in found
        if isinstance(event, WebhookAdded) and webhooks_by_did[event.did].has_failed
    ]
    found += [
        RecipientSuppressed(
            did=webhook.did,
            reason="manual",
            personal=SuppressedRecipient(address=f"somebody.{number}@example.com"),
        )
        for number in range(events)
        for webhook in webhooks
    ]
    return found


async def _append(directory: Path, events: list[Event]) -> None:
    async with open_core(directory) as core:
        # The cursors are behind what is there, whatever `enrolled_relay` has written.
        before = core.store.last_seq
        for begin in range(0, len(events), _APPENDED):
            some = [
                replaced(event, cursor=before + event.cursor) if isinstance(event, WebhookAdded) else event
                for event in events[begin : begin + _APPENDED]
            ]
            await core.store.append(some)


def replaced(event: WebhookAdded, *, cursor: int) -> WebhookAdded:
    return WebhookAdded(
        did=event.did,
        webhook_id=event.webhook_id,
        batch=event.batch,
        cursor=cursor,
        pepper=event.pepper,
        personal=event.personal,
    )


@contextmanager
def filled(nobody: str, webhooks: list[Webhook], events: int) -> Iterator[Path]:
    """A data directory whose log has all that is to be told. It is copied for each round."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=bench_directory()) as name:
        directory = Path(name) / "data"
        enrolled_relay(directory, route=nobody)
        path = directory / CONFIG_FILE
        allowed = ", ".join(f'"{webhook.did} {webhook.address}"' for webhook in webhooks)
        text = path.read_text()
        assert "\n[webhooks]\n" in text
        path.write_text(text.replace("\n[webhooks]\n", f"\n[webhooks]\nallow = [{allowed}]\n"))
        trio.run(_append, directory, events_of(webhooks, events))
        yield directory


def told(template: Path, to: HookReceiver, events: int) -> Figure:
    """Start a relay on a copy, and let it tell so many events to endpoints that live. It begins while it is started;
    what is measured begins when it serves."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-", dir=bench_directory()) as name:
        directory = Path(name) / "data"
        shutil.copytree(template, directory)
        relay = BenchedRelay(directory)
        before, launched = to.taken(), time.monotonic()
        try:
            relay.start()
            used, at, begun = relay.cpu_seconds(), time.monotonic(), to.taken()
            last = to.wait_for(before.events + events, seconds=SECONDS_MAX)
            used = relay.cpu_seconds() - used
        finally:
            relay.kill()
    count = before.events + events - begun.events
    if count <= 0:  # a rehearsal: all were told while it was started
        return Figure(events / (last.at - launched), used / events * 1e6)
    return Figure(count / (last.at - at), used / count * 1e6)


def bare_rate(address: str, *, events: int, batch: int, event_bytes: int = 330) -> float:
    """Events a second of a client that does nothing but post."""
    frame = MARK + b"x" * (event_bytes - len(MARK))
    body = frame * batch
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.perf_counter()
        for _ in range(-(-events // batch)):
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
        return -(-events // batch) * batch / (time.perf_counter() - begun)


def measure(effort: Effort) -> Iterator[Row]:
    with hook_receiver() as to, silent_receiver() as nobody:
        for batch in BATCHES:
            yield from _measure_one(to, nobody, effort, batch)
        yield from _measure_many(to, nobody, effort)


def _measure_one(to: HookReceiver, nobody: str, effort: Effort, batch: int) -> Iterator[Row]:
    events = effort.scaled(EVENTS)
    ours: list[Figure] = []
    bare: list[float] = []
    with filled(nobody, [Webhook(did_of(0), to.address, batch)], events) as template:
        for _ in range(effort.rounds):
            bare.append(bare_rate(to.address, events=events, batch=batch))
            ours.append(told(template, to, events))
    row = partial(
        Row, question=QUESTION, case=f"one endpoint, {batch} event{'s' if batch > 1 else ''} a request"
    )
    yield row(
        what="events/s",
        values=[figure.per_second for figure in ours],
        against=Comparison("events/s, a bare client on one connection", bare),
        is_headline=batch == 1,
    )
    yield row(what="µs of CPU an event", values=[figure.cpu_us for figure in ours], lower_is_better=True)


def _measure_many(to: HookReceiver, nobody: str, effort: Effort) -> Iterator[Row]:
    count = effort.scaled(ENDPOINTS)
    living = [Webhook(did_of(number), to.address, 1) for number in range(count)]
    unknown = [webhook._replace(address=nobody) if n % 2 else webhook for n, webhook in enumerate(living)]
    known = [webhook._replace(has_failed=webhook.address == nobody) for webhook in unknown]
    alive = count - count // 2
    with (
        filled(nobody, known, EVENTS_OF_EACH) as with_known,
        filled(nobody, unknown, EVENTS_OF_EACH) as with_unknown,
        filled(nobody, living, EVENTS_OF_EACH) as with_none,
    ):
        turns = [(with_known, alive), (with_none, count), (with_unknown, alive)]
        figures: dict[Path, list[Figure]] = {template: [] for template, _ in turns}
        for _ in range(effort.rounds):
            for template, endpoints in turns:
                figures[template].append(told(template, to, endpoints * EVENTS_OF_EACH))
            turns.reverse()
    none_dead = Comparison("events/s, none of them dead", [each.per_second for each in figures[with_none]])
    case = f"{count:,} endpoints, half of them dead"
    yield Row(
        question=QUESTION,
        case=case,
        what="events/s, to those that live",
        values=[each.per_second for each in figures[with_known]],
        against=none_dead,
        asked=Demand("ratio", at_least=0.9),
        is_headline=True,
    )
    yield Row(
        question=QUESTION,
        case=f"{case}, and none has failed before",
        what="events/s, to those that live",
        values=[each.per_second for each in figures[with_unknown]],
        against=none_dead,
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="µs of CPU an event",
        values=[each.cpu_us for each in figures[with_known]],
        against=Comparison("µs, none of them dead", [each.cpu_us for each in figures[with_none]]),
        lower_is_better=True,
    )


if __name__ == "__main__":
    run({QUESTION: measure})
