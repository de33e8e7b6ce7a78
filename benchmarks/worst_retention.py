"""The worst log to strip: sends of many recipients, of long texts, in an order that is slow. See
`benchmarks.worst_inputs`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import trio

from benchmarks.search import Frame
from benchmarks.worst_kinds import Kind
from relay.core import Core, open_core
from relay.events import Content, Event, MessageBounced, MessageQueued, Recipient, SendAccepted
from relay.operator.retention import strip
from relay.surroundings import Surroundings
from tests.world.lateness import Lateness, lateness
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN, make_directory, order

#: A letter is a send: to how many recipients, and how long its text is.
SENDS = {"a": (1, 100), "b": (50, 100), "c": (1, 20_000), "d": (50, 20_000), "e": (1, 300_000)}
SENDS_MAX = 30


def of_retention() -> Iterator[Kind]:
    frames = (Frame("", tuple(SENDS), ""),)
    yield Kind("retention, 30 sends", frames, SENDS_MAX, _cost, late=_late, candidates=0.15)


def _cost(text: str) -> float:
    return trio.run(_late, text).processor / 1000


async def _late(text: str) -> Lateness:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        async with open_core(make_directory(Path(name) / "data"), Surroundings()) as core:
            await order(core, "member_add", did=DID, domains=[DOMAIN], offline=True)
            for letter in text:
                await _send(core, *SENDS[letter])
            return await lateness(lambda: strip(core, 0))


async def _send(core: Core, recipients: int, octets: int) -> None:
    now = core.store.now_us()
    accepted = SendAccepted(
        did=DID,
        domain=DOMAIN,
        category="bulk",
        recipients=recipients,
        key_id="k",
        selector_stem="s",
        operator_domain=OPERATOR_DOMAIN,
        operator_stem="s",
        message_id_entropy="e",
        personal=Content(from_address=f"you@{DOMAIN}", subject="s", text="x" * octets),
    )
    queued: list[Event] = [
        MessageQueued(
            did=DID,
            domain=DOMAIN,
            category="bulk",
            index=index,
            next_attempt_at=now,
            give_up_at=now,
            personal=Recipient(given=f"r{index}@example.com", address=f"r{index}@example.com"),
        )
        for index in range(1, recipients + 1)
    ]
    recorded = await core.store.append([accepted, *queued])
    await core.store.append(
        [MessageBounced(did=DID, message_id=item.seq, attempt=0, reason="expired") for item in recorded[1:]]
    )
