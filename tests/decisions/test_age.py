"""How old a domain is: since it was verified for the first time, and where nobody asks for that, since enrolment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from relay.config import CONFIG_FILE
from tests.world.relay import DID, DOMAIN, World, make_directory, open_world, run, virtual_clock

DAY_US = 86_400_000_000
TIERS = "\n[warming]\ntiers = [ { until_day = 7, hour = 2, day = 10 }, { hour = 10, day = 50 } ]\n"
YOUNG, GROWN = (2, 10), (10, 50)


class Calendar:
    """A clock that can be set forward."""

    def __init__(self) -> None:
        self.days = 0

    def __call__(self) -> int:
        return virtual_clock() + self.days * DAY_US


@asynccontextmanager
async def open_aging(tmp_path: Path, *, verified: bool) -> AsyncIterator[tuple[World, Calendar]]:
    """A relay with a new member; `verified`: of which it asks that its domain is."""
    directory = make_directory(tmp_path / "data", TIERS)
    if verified:
        config = directory / CONFIG_FILE
        config.write_text(
            config.read_text().replace("require_verified_domains = false", "require_verified_domains = true")
        )
    calendar = Calendar()
    async with open_world(directory, clock=calendar) as world:
        yield world, calendar


async def publish(world: World) -> None:
    answer = await world.command("dns", domain=DOMAIN)
    for record in answer["domains"][0]["records"]:
        world.dns.txt[record["name"]] = [(record["value"].encode(),)]


async def limits_of(world: World) -> tuple[int, int]:
    """As a member's client sees them."""
    _, answer, _ = await world.request("GET", "/member/deliverability")
    return answer["hourly_limit"], answer["daily_limit"]


def test_a_domain_that_failed_to_be_verified_does_not_age(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_aging(tmp_path, verified=True) as (world, calendar):
            for _ in range(3):
                assert await limits_of(world) == YOUNG
                answer = await world.command("domain_verify", did=DID, domain=DOMAIN)
                assert answer["verified"] is False
                calendar.days += 10
            assert await limits_of(world) == YOUNG
            # It is as old as its verification, and not as its enrolment.
            await publish(world)
            assert (await world.command("domain_verify", did=DID, domain=DOMAIN))["verified"]
            assert await limits_of(world) == YOUNG
            calendar.days += 6
            assert await limits_of(world) == YOUNG
            calendar.days += 1
            assert await limits_of(world) == GROWN

    run(main)


def test_a_domain_that_nobody_verifies_ages_since_enrolment(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_aging(tmp_path, verified=False) as (world, calendar):
            calendar.days = 6
            assert await limits_of(world) == YOUNG
            calendar.days = 7
            assert await limits_of(world) == GROWN

    run(main)
