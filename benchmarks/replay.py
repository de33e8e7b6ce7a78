"""How fast is the log read again: to rebuild the views, to say what was true then, and to verify it?

    python -m benchmarks.replay

The log holds delivered messages of one recipient, four events each. Each figure is of the operator's own command, from
its start to its end. The ceiling, in the same round, is a reader that does nothing with the records but check their
checksums and the chain.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import trio

from benchmarks.command import Effort, bench_directory, run
from benchmarks.report import Comparison, Row
from benchmarks.world import DID, DOMAIN, enrolled_relay
from relay.core import open_core
from relay.events import (
    AttemptStarted,
    Content,
    Event,
    MessageQueued,
    MessageSent,
    Recipient,
    RemoteSide,
    SendAccepted,
)
from relay.file_names import LOG_DIRECTORY
from spool.reader import LogReader

QUESTION = "replay"
MESSAGES = 50_000
EVENTS_PER_MESSAGE = 4
HOUR_US = 3600 * 1_000_000
TEXT = "Sent via Atmosphere Mail\n" * 60
_MESSAGES_PER_BATCH = 200


async def fill(directory: Path, messages: int) -> None:
    """Let so many messages have been sent."""
    async with open_core(directory) as core:
        left = iter(range(messages))
        while some := len(list(islice(left, _MESSAGES_PER_BATCH))):
            now, next_seq = core.store.now_us(), core.store.last_seq + 1
            batch = [
                event
                for number in range(some)
                for event in _message(next_seq + number * EVENTS_PER_MESSAGE + 1, now)
            ]
            await core.store.append(batch)


def _message(message_id: int, now: int) -> Iterator[Event]:
    address = f"friend{message_id}@receiver{message_id % 1000}.example"
    yield SendAccepted(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        recipients=1,
        key_id="k",
        selector_stem="atmos20251124",
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="0123456789abcdef",
        personal=Content(from_address=f"you@{DOMAIN}", subject="Hello", text=TEXT),
    )
    yield MessageQueued(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        index=1,
        next_attempt_at=now,
        give_up_at=now + 72 * HOUR_US,
        personal=Recipient(given=address, address=address),
    )
    yield AttemptStarted(did=DID, message_id=message_id, attempt=1, next_attempt_at=now + HOUR_US)
    yield MessageSent(
        did=DID,
        message_id=message_id,
        attempt=1,
        command="end of data",
        code=250,
        personal=RemoteSide(mx="mx.receiver.example", address="192.0.2.1", text="2.0.0 taken"),
    )


def measure(effort: Effort) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="replay-bench-", dir=bench_directory()) as name:
        directory = Path(name) / "data"
        enrolled_relay(directory, route="127.0.0.1:25")
        messages = effort.scaled(MESSAGES)
        trio.run(fill, directory, messages)
        commands = {
            "log rebuild": [],
            "log replay --view counters": [
                "--until",
                str(messages * EVENTS_PER_MESSAGE),
                "--view",
                "counters",
                "--json",
            ],
            "log verify": ["--json"],
        }
        reading: list[float] = []
        rates: dict[str, list[float]] = {command: [] for command in commands}
        for _ in range(effort.rounds):
            start = time.perf_counter()
            records = _read(directory)
            reading.append(records / (time.perf_counter() - start))
            for command, options in commands.items():
                start = time.perf_counter()
                group, verb = command.split()[:2]
                _run(group, verb, str(directory), *options)
                rates[command].append(records / (time.perf_counter() - start))
    for command, values in rates.items():
        yield Row(
            question=QUESTION,
            case=f"{command}, {records:,} records",
            what="records/s",
            values=values,
            against=Comparison("records/s, reading alone", reading),
            is_headline=command == "log rebuild",
        )


def _read(directory: Path) -> int:
    with LogReader(directory / LOG_DIRECTORY) as reader:
        return sum(1 for _ in reader.read(1))


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "relay", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:2])} failed: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    run({QUESTION: measure})
