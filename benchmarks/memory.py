"""How much memory does the relay take with a million messages queued?

    python -m benchmarks.memory [--messages 1000000] [--sends 2000]

Two queues. *Realistic*: 100 members, 1,000 recipient domains, both classes, which is 200,000 lanes. *Worst*: every
message to a domain of its own, which is as many lanes as messages. Each is written by appending to the log through the
store, a thousand records a batch and ten recipients a send; then a relay is started on it, measured when it listens,
and again when it has accepted some thousand sends more. Next attempts are some hours away, or with `--due` all due at
once, before the start, and the receiver never says a word.

Two figures, because resident memory is of two kinds: the process's own, and pages of mapped files (the views', and
libraries), which are the page cache's and go when the kernel needs them. It takes some minutes.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import trio

from benchmarks.accept import send_request
from benchmarks.load import run_load
from benchmarks.world import Memory, RelayProcess, relay_process, silent_receiver
from relay.core import open_core
from relay.events import Content, DomainAdded, Event, MemberAdded, MessageQueued, Recipient, SendAccepted

MEMBERS = 100
DOMAINS = 1000
RECIPIENTS = 10
TEXT = "Sent via Atmosphere Mail\n" * 60
HOUR_US = 3600 * 1_000_000
_SENDS_PER_BATCH = 90
_MIB = 1 << 20


def fill(directory: Path, *, messages: int, worst: bool, due: bool) -> None:
    """Queue that many messages in the log and the views of a directory that nobody serves."""
    trio.run(_fill, directory, messages, worst, due)


async def _fill(directory: Path, messages: int, worst: bool, due: bool) -> None:
    async with open_core(directory) as core:
        now, dice = core.store.now_us(), random.Random(1)
        await core.store.append([event for number in range(MEMBERS) for event in _member(number)])
        sends = (_send(number, worst, due, now, dice) for number in range(messages // RECIPIENTS))
        while batch := [event for send in islice(sends, _SENDS_PER_BATCH) for event in send]:
            await core.store.append(batch)


def _did(member: int) -> str:
    return f"did:plc:{member:a>24}"


def _member(number: int) -> Iterator[Event]:
    yield MemberAdded(did=_did(number))
    yield DomainAdded(
        did=_did(number),
        domain=f"member{number}.example",
        selector_stem="atmos20251124",
        rsa_public="",
        ed25519_public="",
    )


def _send(number: int, worst: bool, due: bool, now: int, dice: random.Random) -> Iterator[Event]:
    member = number % MEMBERS
    did, domain = _did(member), f"member{member}.example"
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
        to = number * RECIPIENTS + index if worst else dice.randrange(DOMAINS)
        address = f"friend{dice.randrange(1_000_000)}@receiver{to}.example"
        yield MessageQueued(
            did=did,
            domain=domain,
            category=category,
            index=index,
            next_attempt_at=now if due else now + dice.randrange(2 * HOUR_US, 12 * HOUR_US),
            give_up_at=now + 72 * HOUR_US,
            personal=Recipient(given=address, address=address),
        )


def measure(relay: RelayProcess, sends: int) -> tuple[Memory, Memory]:
    """When it listens, and when it has accepted that many more."""
    at_start = relay.memory()
    request = send_request(relay.credentials)
    load = run_load(relay.address, request, connections=32, seconds=120, requests=sends)
    if load.failed:
        raise RuntimeError(f"{load.failed} sends were not answered 200")
    return at_start, relay.memory()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--sends", type=int, default=2000)
    parser.add_argument("--due", action="store_true", help="all of them are due")
    options = parser.parse_args()

    print(f"{options.messages} messages queued; MiB: own + pages of the views' file = resident")
    for name, worst in (("realistic", False), ("worst", True)):
        start = time.perf_counter()
        queue = partial(fill, messages=options.messages, worst=worst, due=options.due)
        with silent_receiver() as nobody, relay_process(route=nobody, fill=queue) as relay:
            built = time.perf_counter() - start
            at_start, after = measure(relay, options.sends)
        print(f"{name:<10} (built and started in {built:.0f} s)")
        print(f"    listening                    {_mib(at_start)}")
        print(f"    after {options.sends:>6} sends more      {_mib(after)}", flush=True)


def _mib(memory: Memory) -> str:
    return f"{memory.anonymous / _MIB:6.0f} + {memory.file / _MIB:5.0f} = {memory.total / _MIB:5.0f}"


if __name__ == "__main__":
    main()
