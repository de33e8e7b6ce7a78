"""What was held goes on when what held it may send again: in steps, and whatever is killed when."""

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.core import open_core
from relay.delivery import releases
from relay.events import (
    DomainPaused,
    DomainResumed,
    Event,
    HeldReleased,
    MemberResumed,
    MemberSuspended,
    MessageHeld,
    MessageQueued,
    Recipient,
    SendAccepted,
)
from relay.surroundings import Surroundings
from relay.views import due
from tests.world.relay import DID, DOMAIN, World, call_here, make_directory, open_world, run, virtual_clock

FAR_US = 1 << 52


async def hold_many(world: World, count: int, *, because: str = "domain", category: str = "bulk") -> None:
    """Sends with many recipients, as no request may have, whose messages are held. None is due."""
    for start in range(0, count, 1000):
        await _hold(world, min(1000, count - start), because, category)


async def _hold(world: World, count: int, because: str, category: str) -> None:
    store = world.core.store
    send = SendAccepted(
        did=DID,
        domain=DOMAIN,
        category=category,
        recipients=count,
        key_id="k",
        selector_stem="s",
        operator_domain="o",
        operator_stem="s",
        message_id_entropy="e",
    )
    queued: list[Event] = [
        MessageQueued(
            did=DID,
            domain=DOMAIN,
            category=category,
            index=index,
            next_attempt_at=FAR_US,
            give_up_at=FAR_US + 1,
            personal=Recipient(given="a@example.com", address="a@example.com"),
        )
        for index in range(1, count + 1)
    ]
    first = (await store.append([send, *queued]))[0].seq
    await store.append(
        [MessageHeld(did=DID, message_id=first + index, because=because) for index in range(1, count + 1)]
    )


def held(world: World) -> int:
    with world.core.store.read() as view:
        return due.held_count(view)


async def all_released(world: World) -> None:
    while held(world):
        await trio.lowlevel.checkpoint()


def released(world: World) -> list[int]:
    """How many each step let go of."""
    return [len(event.message_ids) for event in world.events() if isinstance(event, HeldReleased)]


@pytest.mark.parametrize(
    ("because", "stop", "go", "which"),
    [
        ("domain", "domain_pause", "domain_resume", {"domain": DOMAIN}),
        ("member", "member_suspend", "member_resume", {}),
    ],
)
def test_they_are_released_in_steps(
    tmp_path: Path, because: str, stop: str, go: str, which: dict[str, Any]
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command(stop, did=DID, **which)
            await hold_many(world, 1100, because=because)
            assert held(world) == 1100
            await world.command(go, did=DID, **which)
            assert held(world) > 0  # the order is answered before they are released
            await all_released(world)
            assert released(world) == [releases.STEP_MESSAGES_MAX] * 4 + [100]
            with world.core.store.read() as view:
                assert sum(1 for _ in due.due_from(view, 0, 0)) == 1100

    run(main)


def test_others_are_answered_while_very_many_are_released(tmp_path: Path) -> None:
    """20,000 in one fold were 350 ms in which nobody else had a turn."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            await hold_many(world, 20_000)
            turns = 0
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            processor = time.thread_time()
            while held(world):
                turns += 1
                await trio.lowlevel.checkpoint()
            # Of processor time, for the machine may be busy with something else.
            assert turns >= 20_000 // releases.STEP_MESSAGES_MAX
            assert (time.thread_time() - processor) / len(released(world)) < 0.1

    run(main)


def test_a_stop_in_the_middle_is_made_good_by_the_next_start(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            await hold_many(world, 1000)
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            while not released(world):
                await trio.lowlevel.checkpoint()
            assert 0 < held(world) < 1000
        async with open_world(directory, enrol=False) as world:
            await all_released(world)
            assert sum(released(world)) == 1000

    run(main)


def test_a_resume_where_no_relay_runs_is_carried_out_by_the_next_start(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            await hold_many(world, 10)
        async with open_core(directory, Surroundings(clock=virtual_clock, offload=call_here)) as core:
            await core.store.append([DomainResumed(did=DID, domain=DOMAIN, in_steps=True)])
        async with open_world(directory, enrol=False) as world:
            await all_released(world)
            assert released(world) == [10]

    run(main)


def test_what_is_paused_again_meanwhile_stays_held_as_far_as_the_pause_goes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            await hold_many(world, 600)
            await hold_many(world, 600, category="login-link")
            # Resumed and paused for its bounces in one moment: the bulk class goes on waiting.
            await world.core.store.append(
                [
                    DomainResumed(did=DID, domain=DOMAIN, in_steps=True),
                    DomainPaused(did=DID, domain=DOMAIN, status="paused_bounce_rate", stops="bulk"),
                ]
            )
            while held(world) > 600:
                await trio.lowlevel.checkpoint()
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            await all_released(world)

    run(main)


@pytest.mark.parametrize("because", ["domain", "member"])
def test_a_resume_of_version_1_released_all_by_itself(tmp_path: Path, because: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            stopped: Event = MemberSuspended(did=DID)
            resumed: Event = MemberResumed(did=DID)
            if because == "domain":
                stopped = DomainPaused(did=DID, domain=DOMAIN, status="paused")
                resumed = DomainResumed(did=DID, domain=DOMAIN)
            await world.core.store.append([stopped])
            await hold_many(world, 600, because=because)
            await world.core.store.append([resumed])
            assert held(world) == 0

    run(main)


def test_every_paused_domain_is_resumed_by_one_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            other = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
            await world.enrol(DID, DOMAIN)
            await world.enrol(other, "other.example")
            for did, domain in ((DID, DOMAIN), (other, "other.example")):
                await world.command("domain_pause", did=did, domain=domain)
            assert await world.command("domain_resume_all", did=other) == {
                "domains": [{"did": other, "domain": "other.example", "status": "active"}]
            }
            answer = await world.command("domain_resume_all")
            assert [state["domain"] for state in answer["domains"]] == [DOMAIN]
            assert await world.command("domain_resume_all") == {"domains": []}

    run(main)
