"""A defect in one attempt ends the process: at once, whatever receivers do, and nothing is begun any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.events import AttemptInterrupted, AttemptStarted
from relay.message.outgoing import Composer, Gathered
from relay.views.messages import MessageState
from tests.world.relay import open_world, run


class DefectError(Exception):
    """What no code here expects."""


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A defect that shows when this message is composed."""

    def plant(message_id: int) -> None:
        gather = Composer.gather

        def careless(self: Composer, state: MessageState, get: Any) -> Gathered:
            if state.message_id == message_id:
                raise DefectError
            return gather(self, state, get)

        monkeypatch.setattr(Composer, "gather", careless)

    return plant


def test_it_does_not_wait_for_who_hangs_after_the_dot(
    tmp_path: Path, plant: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            hanging = await world.send(to="hang-after-dot@example.com")
            await trio.sleep(30)
            assert (await world.message(hanging))["status"] == "queued"
            plant(hanging + 3)
            times.append(trio.current_time())
            await world.send(to="friend@example.com")
            await trio.sleep(3600)

    async def until_the_end() -> None:
        try:
            await main()
        finally:
            times.append(trio.current_time())

    with pytest.raises(DefectError):
        run(until_the_end)
    assert times[-1] - times[0] < 1

    monkeypatch.undo()

    async def again() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            first = [
                event for event in world.events() if isinstance(event, AttemptStarted | AttemptInterrupted)
            ]
            assert [type(event) for event in first[:2]] == [AttemptStarted, AttemptInterrupted]

    run(again)


def test_it_says_no_goodbyes_while_others_go_on(tmp_path: Path, plant: Callable[[int], None]) -> None:
    """The connection of the defective attempt has a receiver that takes its time to answer QUIT."""
    times: list[float] = []

    async def main() -> None:
        async with open_world(tmp_path / "data", drip_seconds=1.0) as world:
            message_id = await world.send(to="friend@example.com")
            await world.until_final(message_id)
            plant(message_id + 4)
            times.append(trio.current_time())
            await world.send(to="friend@example.com")
            await trio.sleep(3600)

    async def until_the_end() -> None:
        try:
            await main()
        finally:
            times.append(trio.current_time())

    with pytest.raises(DefectError):
        run(until_the_end)
    assert times[-1] - times[0] < 1
