"""`GET /member/deliverability`: what a member may do now, as its clients poll it."""

from pathlib import Path
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tests.domains.test_verification import open_domain
from tests.world.relay import DID, DOMAIN, OTHER_DOMAIN, World, open_world, run

TIERS = "\n[warming]\ntiers = [ { until_day = 7, hour = 2, day = 10 }, { hour = 10, day = 50 } ]\n"
DAY = 24 * 3600


async def deliverability(world: World) -> Any:
    _, answer, _ = await world.request("GET", "/member/deliverability")
    return answer


def limits(answer: Any) -> list[tuple[str, str, str | None, int, int]]:
    return [
        (state["domain"], state["status"], state["stops"], state["hourly_limit"], state["daily_limit"])
        for state in answer["domains"]
    ]


def test_a_domain_ages_from_its_first_verified_day_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_domain(tmp_path / "data", settings=TIERS) as domain:
            world = domain.world
            domain.break_spf()
            await trio.sleep(30 * DAY)
            # Enrolled a month ago, and as young as can be.
            answer = await deliverability(world)
            assert (answer["hourly_limit"], answer["daily_limit"]) == (2, 10)
            assert (await domain.verify())["verified"] is False
            assert (await deliverability(world))["hourly_limit"] == 2
            assert answer["domains"][0]["verified"] is False
            await domain.publish()
            assert (await domain.verify())["verified"] is True
            await trio.sleep(7 * DAY - 60)
            assert (await deliverability(world))["hourly_limit"] == 2
            await trio.sleep(60)
            answer = await deliverability(world)
            assert (answer["hourly_limit"], answer["domains"][0]["verified"]) == (10, True)

    run(main)


def test_who_is_suspended_may_send_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            await world.command("member_suspend", did=DID)
            answer = await deliverability(world)
            assert (answer["status"], answer["hourly_limit"], answer["daily_limit"]) == ("suspended", 0, 0)
            assert limits(answer) == [(DOMAIN, "active", None, 0, 0)]

    run(main)


def test_each_domain_has_its_own_line(tmp_path: Path) -> None:
    async def main() -> None:
        settings = TIERS + "[reputation]\nmessages_min = 1\nbounces_min = 1\n"
        async with open_world(tmp_path / "data", enrol=False, settings=settings) as world:
            world.credentials = await world.enrol(DID, DOMAIN, OTHER_DOMAIN)
            await world.command("domain_pause", did=DID, domain=OTHER_DOMAIN)
            answer = await deliverability(world)
            assert (answer["status"], answer["hourly_limit"], answer["daily_limit"]) == ("active", 2, 10)
            expected = {(DOMAIN, "active", None, 2, 10), (OTHER_DOMAIN, "paused", "all", 0, 0)}
            assert set(limits(answer)) == expected
            await world.until_final(await world.send(to="permfail@example.com"))
            await wait_all_tasks_blocked()
            answer = await deliverability(world)
            assert (answer["hourly_limit"], answer["daily_limit"]) == (0, 0)
            assert (DOMAIN, "paused_bounce_rate", "bulk", 2, 10) in limits(answer)

    run(main)
