"""What the tests of queue orders share."""

from __future__ import annotations

import os
import pwd
from typing import Any

from tests.world.relay import World

HOUR_SECONDS = 3600


ME = pwd.getpwuid(os.getuid()).pw_name


#: The first retry comes after a minute, give or take a tenth.
BEFORE_THE_RETRY_SECONDS, PAST_THE_RETRY_SECONDS = 50, 70


async def order(world: World, name: str, **arguments: Any) -> Any:
    if name in ("hold", "cancel"):
        arguments.setdefault("reason", "a test")
    return await world.command(f"queue_{name}", by="root", **arguments)


async def deferred(world: World, to: str = "tempfail-1@example.com", **fields: Any) -> int:
    message_id = await world.send(to=to, **fields)
    await world.until(message_id, "deferred")
    return message_id


async def types(world: World, message_id: int) -> list[str]:
    return [entry["type"] for entry in (await world.message(message_id))["timeline"]]


def done(answer: Any) -> list[int]:
    ids: list[int] = answer["done"]["messages"]
    return ids


def passed(answer: Any) -> dict[str, list[int]]:
    return {entry["because"]: entry["messages"] for entry in answer["passed"]}
