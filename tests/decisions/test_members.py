"""Enrolment and members' own limits: what the operator's order is refused for, and what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.refusals import Refusal
from tests.world.relay import (
    DID,
    OPERATOR_DOMAIN,
    OTHER_DID,
    World,
    open_world,
    run,
)


async def enrol_other(world: World, domain: str) -> Any:
    return await world.command("member_add", did=OTHER_DID, domains=[domain], offline=True)


@pytest.mark.parametrize("domain", [OPERATOR_DOMAIN, f"mail.{OPERATOR_DOMAIN}", f"a.b.{OPERATOR_DOMAIN}"])
def test_the_operators_domain_and_what_is_below_it_are_its_own(tmp_path: Path, domain: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with pytest.raises(Refusal, match="the relay's own"):
                await enrol_other(world, domain)
            with pytest.raises(Refusal, match="the relay's own"):
                await world.command("domain_add", did=DID, domain=domain)

    run(main)


@pytest.mark.parametrize("domain", [f"my{OPERATOR_DOMAIN}", f"{OPERATOR_DOMAIN}.net", "my-relay.example"])
def test_a_domain_that_only_looks_like_it_is_anybodys(tmp_path: Path, domain: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answer = await enrol_other(world, domain)
            assert [enrolled["domain"] for enrolled in answer["domains"]] == [domain]

    run(main)


@pytest.mark.parametrize("limits", [(3, 2), (1, 0), (-1, 5), (-2, -1)])
def test_limits_that_contradict_each_other_are_refused(tmp_path: Path, limits: tuple[int, int]) -> None:
    hour, day = limits

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.events()
            with pytest.raises(Refusal, match="expected 0 <= hour <= day") as refused:
                await world.command("member_limits", did=DID, hour=hour, day=day)
            assert refused.value.code == "INVALID_REQUEST"
            assert world.events() == before

    run(main)


@pytest.mark.parametrize("limits", [(2, 2), (0, 0), (0, 5)])
def test_limits_may_be_as_tight_as_one_likes(tmp_path: Path, limits: tuple[int, int]) -> None:
    hour, day = limits

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("member_limits", did=DID, hour=hour, day=day)
            _, answer, _ = await world.request("GET", "/member/deliverability")
            assert (answer["hourly_limit"], answer["daily_limit"]) == (hour, day)

    run(main)


@pytest.mark.parametrize("limits", [{"hour": 2}, {"day": 2}])
def test_one_limit_without_the_other_is_refused(tmp_path: Path, limits: dict[str, int]) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with pytest.raises(Refusal, match="give both, or neither"):
                await world.command("member_limits", did=DID, **limits)

    run(main)
