"""Do the checks of limits and rates slow the accept path, with many members and suppressions in the views?

    python -m benchmarks.policy [--members 10000] [--suppressions 1000000] [--seconds 4] [--rounds 5]

The promise: within 10 % of the speed without them. Three relay processes take the same load in turn, in one
run, on one disk:

- `large`: 10,000 members and domains and 1,000,000 suppressed addresses in its views, everything checked;
- `small`: one member, nothing suppressed, everything checked;
- `without`: as small, but `check_limits` is not asked, and nothing is folded for warming and reputation.

`large / without` is the promise; `large / small` is what the size of the views alone costs. The limits are one tier
that is never full, because a check that passes costs the same whatever the limit is. Who is enrolled besides the sender
never sends, so their keys are made up. Delivery is held by a receiver that never greets.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import trio

import relay.decisions
from benchmarks.accept import send_request
from benchmarks.load import Load, run_load

# What `relay_process` is made of: these relays need their directories filled before they start.
from benchmarks.world import DID, DOMAIN, RelayProcess, silent_receiver, wait_for_address
from relay.administration import administer
from relay.config import CONFIG_FILE, load_config
from relay.events import DomainAdded, Event, KeyIssued, MemberAdded, RecipientSuppressed, SuppressedRecipient
from relay.initialise import initialise
from relay.store import open_store
from relay.surroundings import Surroundings
from relay.views.reputation import ReputationProjector
from relay.views.warming import WarmingProjector
from spool.log import BATCH_RECORDS_MAX
from tools.cli import main as run_command

SETTINGS = """
operator_domain = "relay.example"
public_url = "https://relay.example"
require_verified_domains = false
[http]
bind = "127.0.0.1:0"
[delivery]
routes = {{ "*" = "{route}" }}
[warming]
tiers = [ {{ hour = 1000000000, day = 1000000000 }} ]
[service]
# The receiver will never let go of a delivery.
grace_seconds = 0
"""
CHECKED = ("-m", "relay")
UNCHECKED = ("-c", "from benchmarks.policy import run_unchecked; run_unchecked()")


def run_unchecked() -> None:
    """The relay without what is measured: the command line as ever, in a process of its own."""
    relay.decisions.check_limits = lambda *_arguments, **_options: None  # type: ignore[attr-defined]
    for projector in (WarmingProjector, ReputationProjector):
        projector.apply = lambda *_arguments: None  # type: ignore[method-assign]
    run_command()


# ------------------------------------------------------------------------------------------------ the directories


def make_directory(directory: Path, route: str, *, members: int, suppressions: int) -> str:
    """A data directory with the sender and that many others, and suppressions shared among all of them.

    Returns the sender's API key.
    """
    initialise(directory, operator_domain="relay.example", public_url=None)
    (directory / CONFIG_FILE).write_text(SETTINGS.format(route=route))
    enrolment = {"did": DID, "domains": [DOMAIN], "offline": True}
    enrolled = trio.run(administer, directory, "member_add", enrolment)
    assert isinstance(enrolled, dict)
    trio.run(fill, directory, members - 1, suppressions)
    key: str = enrolled["apiKey"]
    return key


async def fill(directory: Path, others: int, suppressions: int) -> None:
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


@contextmanager
def relay_on(directory: Path, api_key: str, program: tuple[str, ...]) -> Iterator[RelayProcess]:
    with (directory / "stderr").open("wb") as errors:
        process = subprocess.Popen([sys.executable, *program, "serve", str(directory)], stderr=errors)
    try:
        address = wait_for_address(directory, process)
        yield RelayProcess(address, directory, api_key, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def measure(options: argparse.Namespace, root: Path) -> dict[str, list[Load]]:
    """The loads of each relay, by its name. The first round warms up, and is not among them."""
    with ExitStack() as stack:
        receiver = stack.enter_context(silent_receiver())
        relays: dict[str, RelayProcess] = {}
        for name, program, members, suppressions in (
            ("large", CHECKED, options.members, options.suppressions),
            ("small", CHECKED, 1, 0),
            ("without", UNCHECKED, 1, 0),
        ):
            began = time.monotonic()
            directory = root / name
            key = make_directory(directory, receiver, members=members, suppressions=suppressions)
            relays[name] = stack.enter_context(relay_on(directory, key, program))
            print(f"{name:<8} ready after {time.monotonic() - began:.0f} s", flush=True)
        loads: dict[str, list[Load]] = {name: [] for name in relays}
        order = list(relays)
        for number in range(options.rounds + 1):
            for name in order:
                request = send_request(relays[name].credentials)
                load = run_load(
                    relays[name].address, request, connections=options.connections, seconds=options.seconds
                )
                if number:
                    loads[name].append(load)
            # None always follows the same other one.
            order.reverse()
        return loads


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--suppressions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="policy-bench-", dir=os.environ.get("BENCH_DIR")) as name:
        loads = measure(options, Path(name))
    rates = {name: statistics.median(load.per_second for load in found) for name, found in loads.items()}
    print(
        f"{options.members:,} members, {options.suppressions:,} suppressions; {options.connections} connections"
    )
    for name, found in loads.items():
        every = " ".join(f"{load.per_second:.0f}" for load in found)
        p50, p99 = (
            statistics.median(getattr(load, which) for load in found) * 1000 for which in ("p50", "p99")
        )
        print(f"{name:<8} {rates[name]:6.0f} sends/s   p50, p99 {p50:.1f}, {p99:.1f} ms   rounds {every}")
    print(f"large / without  {rates['large'] / rates['without']:.3f}   the promise: at least 0.9")
    print(f"large / small    {rates['large'] / rates['small']:.3f}")
    failed = sum(load.failed for found in loads.values() for load in found)
    if failed:
        sys.exit(f"{failed} requests were not answered 200")


if __name__ == "__main__":
    main()
