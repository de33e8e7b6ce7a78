"""How long do the operator's questions take, with a million messages in the log?

    python -m benchmarks.finding

The log has the mail of 100 members to 2,000 recipient domains at 50 MX hosts, of 14 days; of twenty messages
eighteen are sent at once, one is put off and sent later, one bounces. It is written by appending to the log through the
store, with a clock of its own. Each question is then asked of a core that has the directory open, by the very decisions
that commands and pages ask. A question is answered in steps, between which the relay does its other work: the longest
one is what everybody else waits for. Of a step it is processor time that is told: on a busy machine any of them may be
interrupted. Then the same is asked by the pages of the console (`benchmarks.console`).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import trio

from benchmarks.command import Effort, bench_directory, run
from benchmarks.console import measure_pages
from benchmarks.report import Demand, Row
from benchmarks.steps import COMMAND
from benchmarks.world import BenchedRelay, enrolled_relay, numbered_did, numbered_member
from relay.core import Core, open_core
from relay.events import (
    AttemptStarted,
    Content,
    Event,
    MessageBounced,
    MessageDeferred,
    MessageQueued,
    MessageSent,
    Recipient,
    RemoteSide,
    SendAccepted,
)
from relay.operator.commands import carry_out, make_all_known
from relay.principals import Operator
from relay.registry import DECISIONS
from relay.surroundings import Surroundings
from relay.times import DAY_US
from tests.world.process import configure

QUESTION = "finding"
MEMBERS, SITES, HOSTS, RECIPIENTS = 100, 2_000, 50, 10
DAYS = 14
_SENDS_PER_BATCH = 25
_BY = Operator("root")


class _Clock:
    """Goes through the days as messages are written, ahead of the real one: what is asked then is asked at the log's
    end."""

    def __init__(self) -> None:
        self.now_us = time.time_ns() // 1000

    def __call__(self) -> int:
        return self.now_us


def fill(directory: Path, messages: int) -> None:
    """Into the log and the views of a directory that nobody serves."""
    trio.run(_write, directory, messages)


async def _write(directory: Path, messages: int) -> None:
    clock, dice = _Clock(), random.Random(1)
    sends = range(max(1, messages // RECIPIENTS))
    step_us = DAYS * DAY_US // len(sends)
    async with open_core(directory, Surroundings(clock=clock)) as core:
        await core.store.append([event for number in range(MEMBERS) for event in numbered_member(number)])
        numbers = iter(sends)
        while some := list(islice(numbers, _SENDS_PER_BATCH)):
            clock.now_us += step_us * len(some)
            batch: list[Event] = []
            for number in some:
                first_id = core.store.last_seq + len(batch) + 2
                batch += _send(number, clock.now_us, dice)
                batch += _outcomes(number, first_id, dice)
            await core.store.append(batch)


def _send(number: int, now_us: int, dice: random.Random) -> Iterator[Event]:
    member = number % MEMBERS
    did, domain = numbered_did(member), f"member{member}.example"
    yield SendAccepted(
        did=did,
        domain=domain,
        category="bulk",
        recipients=RECIPIENTS,
        key_id="k",
        selector_stem="atmos20251124",
        operator_domain="relay.example",
        operator_stem="atmos20251124",
        message_id_entropy="0123456789abcdef",
        personal=Content(from_address=f"you@{domain}", subject="Hello", text="Sent\n" * 20),
    )
    for index in range(1, RECIPIENTS + 1):
        address = f"friend{dice.randrange(200_000)}@receiver{_site(number, index)}.example"
        yield MessageQueued(
            did=did,
            domain=domain,
            category="bulk",
            index=index,
            next_attempt_at=now_us,
            give_up_at=now_us + 3 * DAY_US,
            personal=Recipient(given=address, address=address),
        )


def _site(number: int, index: int) -> int:
    return (number * 7 + index * 131) % SITES


def _outcomes(number: int, first_id: int, dice: random.Random) -> Iterator[Event]:
    did = numbered_did(number % MEMBERS)
    for index in range(1, RECIPIENTS + 1):
        host = _site(number, index) % HOSTS
        facts: dict[str, Any] = {
            "did": did,
            "message_id": first_id + index - 1,
            "provider": ("google", "microsoft", "yahoo", "other")[host % 4],
            "tls_version": "TLSv1.3",
            "personal": RemoteSide(mx=f"mx{host}.example", address="192.0.2.1", text="as it is"),
        }
        begun = {"did": did, "message_id": facts["message_id"]}
        yield AttemptStarted(**begun, attempt=1, next_attempt_at=0)
        match dice.randrange(20):
            case 0:
                yield MessageBounced(
                    **facts, attempt=1, code=550, reason="rejected", bounce_class="invalid_recipient"
                )
            case 1:
                yield MessageDeferred(
                    **facts, attempt=1, code=451, next_attempt_at=0, bounce_class="transient_failure"
                )
                yield AttemptStarted(**begun, attempt=2, next_attempt_at=0)
                yield MessageSent(**facts, attempt=2, code=250)
            case _:
                yield MessageSent(**facts, attempt=1, code=250)


class _Asked:
    """A core whose `pause` tells how long each step was."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.longest = 0.0
        self._since = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    async def pause(self) -> None:
        self.longest = max(self.longest, time.thread_time() - self._since)
        await self._core.pause()
        self._since = time.thread_time()

    async def ask(self, name: str, **arguments: Any) -> tuple[float, Any]:
        command = DECISIONS[name]
        self._since, begun = time.thread_time(), time.perf_counter()
        answer = await carry_out(self, command, msgspec.convert(arguments, command.arguments), _BY)
        self.longest = max(self.longest, time.thread_time() - self._since)
        return time.perf_counter() - begun, answer


def measure(effort: Effort) -> Iterator[Row]:
    make_all_known()
    count = effort.scaled(1_000_000)
    with tempfile.TemporaryDirectory(prefix="finding-bench-", dir=bench_directory()) as root:
        relay = enrolled_relay(Path(root) / "data", route="127.0.0.1:9", command=COMMAND)
        fill(relay.directory, count)
        yield from measure_filled(relay, count, effort)


def measure_filled(relay: BenchedRelay, count: int, effort: Effort) -> Iterator[Row]:
    yield from trio.run(_measure, relay.directory, count, effort.rounds)
    configure(relay.directory, console='operator_bind = "127.0.0.1:0"')
    with relay.running():
        yield from measure_pages(relay, f"{count:,} messages", effort)


async def _measure(directory: Path, count: int, rounds: int) -> list[Row]:
    async with open_core(directory) as core:
        asked = _Asked(core)
        _, newest = await asked.ask("find", limit=1)
        message = newest["messages"][0]
        asked.longest = 0.0  # what is done once in the life of a process is not meant
        questions: dict[str, tuple[float, str, dict[str, Any]]] = {
            "find --recipient": (0.5, "find", {"recipient": message["recipient"]}),
            "find --class": (0.5, "find", {"class": "invalid_recipient"}),
            "find --status bounced --since 7d": (0.5, "find", {"status": "bounced", "since": "7d"}),
            "find --mx": (0.5, "find", {"mx": "mx7.example"}),
            "find --provider yahoo --did": (0.5, "find", {"provider": "yahoo", "did": message["did"]}),
            "find --domain": (0.5, "find", {"domain": message["domain"]}),
            "find --from, which nobody was": (0.5, "find", {"from": f"nobody@{message['domain']}"}),
            "find --provider, which nobody has": (0.5, "find", {"provider": "apple"}),
            "top --by provider --since 7d": (2, "top", {"by": "provider"}),
            "top --by receiver --since 7d": (2, "top", {"by": "receiver"}),
            "top --by site --since 7d": (2, "top", {"by": "site"}),
            "top --by class --since 7d": (2, "top", {"by": "class"}),
            "top --by domain --since 7d": (2, "top", {"by": "domain"}),
            "top --by member --since 7d": (2, "top", {"by": "member"}),
            "top --by site --since 14d": (2, "top", {"by": "site", "since": "14d"}),
            "why": (0.5, "why", {"domain": message["domain"]}),
            "providers": (2, "providers", {}),
            "what a message's page reads": (0.05, "queue_show", {"message": message["messageId"]}),
        }
        rows = []
        for case, (at_most, name, arguments) in questions.items():
            values = [(await asked.ask(name, **arguments))[0] for _ in range(rounds)]
            demand = Demand("median", at_most=at_most)
            rows.append(
                Row(
                    question=QUESTION,
                    case=f"{case}, {count:,} messages",
                    what="seconds",
                    values=values,
                    lower_is_better=True,
                    asked=demand,
                )
            )
        rows.append(
            Row(
                question=QUESTION,
                case=f"the longest step, {count:,} messages",
                what="seconds of processor",
                values=[asked.longest],
                lower_is_better=True,
                asked=Demand("median", at_most=0.05),
            )
        )
        return rows


if __name__ == "__main__":
    run({QUESTION: measure})
