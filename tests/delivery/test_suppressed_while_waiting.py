"""A recipient is suppressed for whom very many messages wait: they are over, and nobody else waits for that."""

from __future__ import annotations

from pathlib import Path

import trio

from relay.delivery import deliverer
from relay.events import MessageBounced, MessageSent
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, open_world, run


def test_they_are_bounced_some_at_a_time_and_others_are_delivered_meanwhile(tmp_path: Path) -> None:
    waiting = 5 * deliverer.SUPPRESSED_AT_A_TIME

    async def main() -> None:
        async with open_world(tmp_path / "data", mute=True) as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            # The first ones are being tried by a receiver that says nothing, and the others wait for them.
            for _ in range(waiting):
                await world.send(to="friend@example.com")
            appended: list[int] = []
            world.core.store.observers.append(
                lambda recorded: appended.append(
                    sum(isinstance(item.event, MessageBounced) for item in recorded)
                )
            )
            status, _, _ = await world.request(
                "POST", "/v1/suppressions", json={"recipient": "friend@example.com"}
            )
            assert status == 201
            world.mx.configure(mute=False)
            mine = world.credentials
            world.credentials = other
            await world.send(
                **{"from": f"you@{OTHER_DOMAIN}"}, to="friend@example.com", category="transactional"
            )
            world.credentials = mine
            await world.until_so_many_are_final(waiting + 1)
            events = world.events()
            assert sum(isinstance(event, MessageBounced) for event in events) == waiting
            assert max(appended) <= deliverer.SUPPRESSED_AT_A_TIME
            assert sum(count > 0 for count in appended) <= waiting // deliverer.SUPPRESSED_AT_A_TIME + 5
            # The other member's mail was not the last.
            (sent,) = (at for at, event in enumerate(events) if isinstance(event, MessageSent))
            last = max(at for at, event in enumerate(events) if isinstance(event, MessageBounced))
            assert sent < last
            await trio.sleep(1)

    run(main)
