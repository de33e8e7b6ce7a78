"""A follower beside a leader, and how a test of either asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from relay.core import Core
from relay.operator.commands import make_all_known, order
from relay.principals import Operator, Principal
from relay.refusals import Refusal
from relay.registry import DECISIONS
from tests.edges.test_acceptance_seam import member_of
from tests.world.machines import open_machines
from tests.world.nodes import Follower, open_follower
from tests.world.relay import World, open_world, run

make_all_known()

Test = Callable[[World, Follower, Principal], Awaitable[None]]


def with_follower(tmp_path: Path, test: Test, **options: Any) -> None:
    async def main() -> None:
        async with (
            open_world(tmp_path / "a", **options) as world,
            open_follower(world, tmp_path / "b") as follower,
        ):
            await test(world, follower, member_of(world)._replace(scope="full"))

    run(main)


async def command(core: Core, name: str, **arguments: Any) -> Any:
    """As the admin socket of that core gives it."""
    found = DECISIONS[name]
    return await order(core, found, found.arguments(**arguments), Operator("root"))


async def refused(asked: Awaitable[Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await asked
    return caught.value


def numbers_of_node(directory: Path) -> str:
    """What the page of numbers of one of several nodes has."""
    pages: list[str] = []

    async def keep_page() -> None:
        async with open_machines(directory, "anna") as machines:
            leader = await machines.until_led()
            pages.append((await leader.world.core.metrics_page.text()).decode())

    run(keep_page)
    return pages[0]
