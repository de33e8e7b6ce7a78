"""What the tests of retention share."""

from __future__ import annotations

from typing import Any

from relay.events import Event
from tests.world.relay import (
    World,
)

DAY = 24 * 3600


FRIEND = "friend@example.com"


def of_type(world: World, event_type: type[Event]) -> list[Any]:
    return [event for event in world.events() if isinstance(event, event_type)]


async def listed(world: World, query: str = "") -> list[int]:
    status, answer, _ = await world.request("GET", f"/v1/messages{query}")
    assert status == 200
    return [entry["messageId"] for entry in answer["messages"]]
