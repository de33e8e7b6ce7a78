"""Do the checks of limits and rates slow the accept path, with many members and suppressions in the views?

    python -m benchmarks.policy

The promise: within 10 % of the speed without them. Three relay processes take the same load in turn, in one
run, on one disk:

- `large`: 10,000 members and domains and 1,000,000 suppressed addresses in its views, everything checked;
- `small`: one member, nothing suppressed, everything checked;
- `without`: as small, but `check_limits` is not asked, and nothing is folded for warming and reputation.

`large / without` is the promise; `large / small` is what the size of the views alone costs. The same by processor time
for each send, of all threads, which says what it is that the speeds differ by. The limits are one tier
that is never full, because a check that passes costs the same whatever the limit is. Who is enrolled besides the sender
never sends, so their keys are made up. Delivery is held by a receiver that never greets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

import trio

import relay.decisions.send
from benchmarks.accept import USUAL, send_request
from benchmarks.command import Effort, run
from benchmarks.load import run_load
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import DID, relay_process, silent_receiver
from relay.config import load_config
from relay.events import DomainAdded, Event, KeyIssued, MemberAdded, RecipientSuppressed, SuppressedRecipient
from relay.store import open_store
from relay.surroundings import Surroundings
from relay.views.reputation import ReputationProjector
from relay.views.warming import WarmingProjector
from spool.log import BATCH_RECORDS_MAX
from tools.cli import main as run_command

QUESTION = "policy"
MEMBERS = 10_000
SUPPRESSIONS = 1_000_000
CHECKED = ("-m", "relay")
UNCHECKED = ("-c", "from benchmarks.policy import run_unchecked; run_unchecked()")


def run_unchecked() -> None:
    """The relay without what is measured: the command line as ever, in a process of its own."""
    relay.decisions.send.check_limits = lambda *_arguments, **_options: None  # type: ignore[attr-defined]
    for projector in (WarmingProjector, ReputationProjector):
        projector.apply = lambda *_arguments: None  # type: ignore[method-assign]
    run_command()


# ------------------------------------------------------------------------------------------------ the history


def fill(directory: Path, *, others: int, suppressions: int) -> None:
    """Enrol so many others, and share the suppressions among all members."""
    trio.run(_fill, directory, others, suppressions)


async def _fill(directory: Path, others: int, suppressions: int) -> None:
    dids = [DID, *map(other_did, range(others))]
    events = history(dids, suppressions)
    async with open_store(directory, load_config(directory), Surroundings()) as store:
        while batch := list(islice(events, BATCH_RECORDS_MAX)):
            await store.append(batch)


def other_did(number: int) -> str:
    return f"did:plc:{number:024}".translate(str.maketrans("0123456789", "abcdefghij"))


def history(dids: list[str], suppressions: int) -> Iterator[Event]:
    for number, did in enumerate(dids[1:]):
        yield MemberAdded(did=did)
        yield DomainAdded(
            did=did,
            domain=f"member{number}.example",
            selector_stem="atmos20260101",
            rsa_public="A" * 392,
            ed25519_public="A" * 44,
        )
        yield KeyIssued(did=did, key_id=f"{number:012x}", key_hash=f"{number:064x}")
    for number in range(suppressions):
        yield RecipientSuppressed(
            did=dids[number % len(dids)],
            reason="unsubscribe",
            personal=SuppressedRecipient(address=f"reader{number}@example.org"),
        )


# ------------------------------------------------------------------------------------------------ the measurement


def measure(effort: Effort) -> Iterator[Row]:
    members, suppressions = effort.scaled(MEMBERS), effort.scaled(SUPPRESSIONS)
    large = partial(fill, others=members - 1, suppressions=suppressions)
    with ExitStack() as stack:
        nobody = stack.enter_context(silent_receiver())
        relays = {
            name: stack.enter_context(relay_process(route=nobody, fill=filled, command=command))
            for name, filled, command in (
                ("large", large, CHECKED),
                ("small", None, CHECKED),
                ("without", None, UNCHECKED),
            )
        }
        rates: dict[str, list[float]] = {name: [] for name in relays}
        cpu_us: dict[str, list[float]] = {name: [] for name in relays}
        order = list(relays)
        for number in range(effort.many_rounds + 1):
            for name in order:
                request = send_request(relays[name].credentials)
                used = relays[name].cpu_seconds()
                load = run_load(relays[name].address, request, connections=USUAL, seconds=effort.seconds)
                if number:  # the first round warms up
                    rates[name].append(load.per_second)
                    cpu_us[name].append((relays[name].cpu_seconds() - used) / load.requests * 1_000_000)
            # None always follows the same other one.
            order.reverse()
    case = f"{members:,} members, {suppressions:,} suppressions"
    others = (("without", "no limits checked, one member"), ("small", "one member"))
    for against, meaning in others:
        yield Row(
            question=QUESTION,
            case=case,
            what="durable sends/s",
            values=rates["large"],
            against=Comparison(f"sends/s, {meaning}", rates[against]),
            asked=Demand("ratio", at_least=0.9) if against == "without" else None,
            is_headline=against == "without",
        )
    for against, meaning in others:
        yield Row(
            question=QUESTION,
            case=case,
            what="µs of CPU a send",
            values=cpu_us["large"],
            against=Comparison(f"µs, {meaning}", cpu_us[against]),
            lower_is_better=True,
        )


if __name__ == "__main__":
    run({QUESTION: measure})
