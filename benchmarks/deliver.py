"""How many messages a second go through the whole relay, from the first POST to the last one at a receiver?

    python -m benchmarks.deliver

One relay process, one member, 1.5 KB bodies, signed with RSA-2048 and Ed25519 for member and operator, a real disk,
SMTP to a local receiver that keeps up (`benchmarks.receiver`).
The clock runs from the first POST until the receiver
has counted the last message, so the accept path is in it. In turn with it, in the same run, the two ceilings: what the
receiver takes from a bare client, and what the accept path does while delivery rests.

CPU time of the relay process is what a shared machine disturbs least; it is the figure to compare between commits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.accept import BODY_BYTES, USUAL, send_request
from benchmarks.command import Effort, run
from benchmarks.load import run_load
from benchmarks.receiver import Receiver, bare_client_rate, receiver
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import BenchedRelay, relay_process, silent_receiver

QUESTION = "deliver"
MESSAGES = 2000
SECONDS_MAX = 120.0
#: As many as the relay opens to one site by default.
SMTP_CONNECTIONS = 20


class Round(NamedTuple):
    per_second: float
    #: Milliseconds of the relay's CPU for each message.
    cpu_ms: float


def end_to_end(relay: BenchedRelay, to: Receiver, messages: int, recipients: int) -> Round:
    target = to.count + messages
    cpu, start = relay.cpu_seconds(), time.perf_counter()
    post_messages(relay, messages, recipients)
    seconds = to.wait_for(target, seconds=SECONDS_MAX) - start
    return Round(messages / seconds, (relay.cpu_seconds() - cpu) / messages * 1000)


def accept_only(relay: BenchedRelay, messages: int, recipients: int) -> Round:
    cpu, start = relay.cpu_seconds(), time.perf_counter()
    post_messages(relay, messages, recipients)
    seconds = time.perf_counter() - start
    return Round(messages / seconds, (relay.cpu_seconds() - cpu) / messages * 1000)


def post_messages(relay: BenchedRelay, messages: int, recipients: int = 1) -> None:
    """On 32 connections; returns when the last one is answered."""
    request = send_request(relay.credentials, recipients=recipients)
    posts = messages // recipients
    load = run_load(relay.address, request, connections=USUAL, seconds=SECONDS_MAX, requests=posts)
    if load.requests < posts:
        raise RuntimeError(f"{load.requests} of {posts} requests were answered")


def measure(effort: Effort) -> Iterator[Row]:
    with (
        receiver() as to,
        silent_receiver() as nobody,
        relay_process(route=to.address) as relay,
        relay_process(route=nobody) as resting,
    ):
        for recipients in (1, 50):
            yield from _measure_case(relay, resting, to, effort, recipients)


def _measure_case(
    relay: BenchedRelay, resting: BenchedRelay, to: Receiver, effort: Effort, recipients: int
) -> Iterator[Row]:
    messages = -(-effort.scaled(MESSAGES) // recipients) * recipients
    end_to_end(relay, to, messages, recipients)  # warm
    ours, accepting, bare = [], [], []
    for _ in range(effort.rounds):
        bare.append(bare_client_rate(to, messages=messages, connections=SMTP_CONNECTIONS, size=BODY_BYTES))
        accepting.append(accept_only(resting, messages, recipients))
        ours.append(end_to_end(relay, to, messages, recipients))
    case = f"1.5 KB, {recipients} recipient{'s' if recipients > 1 else ''} a send, four signatures"
    client = "smtp-source" if to.is_postfix else "bare SMTP client"
    yield Row(
        question=QUESTION,
        case=case,
        what="messages/s, from POST to receiver",
        values=[each.per_second for each in ours],
        against=Comparison("messages/s, accepting alone", [each.per_second for each in accepting]),
        asked=Demand("median", at_least=400) if recipients == 1 else None,
        is_headline=recipients == 1,
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="messages/s, the same",
        values=[each.per_second for each in ours],
        against=Comparison(f"messages/s, {client} straight to the receiver", bare),
    )
    yield Row(
        question=QUESTION,
        case=case,
        what="CPU, ms a message",
        values=[each.cpu_ms for each in ours],
        against=Comparison("ms, accepting alone", [each.cpu_ms for each in accepting]),
        lower_is_better=True,
    )


if __name__ == "__main__":
    run({QUESTION: measure})
