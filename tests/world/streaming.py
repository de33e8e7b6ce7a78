"""What the tests of stream share."""

from __future__ import annotations

from typing import Any

import trio

from tests.world.relay import DID, World


async def events(world: World, credentials: dict[str, str] | None = None, query: str = "") -> Any:
    status, answer, _ = await world.request("GET", f"/v1/events{query}", headers=credentials)
    assert status == 200, answer
    return answer


def expected(world: World, did: str = DID) -> list[int]:
    """Which events the member must see, found the long way."""
    store = world.core.store
    found = [store.get(seq) for seq in range(1, store.last_seq + 1)]
    return [recorded.seq for recorded in found if recorded.event.STREAMED and recorded.event.did == did]


async def nothing_comes(stream: Any) -> None:
    with trio.move_on_after(1) as patience:
        raise AssertionError(await stream.next())
    assert patience.cancelled_caught
