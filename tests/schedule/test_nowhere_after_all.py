"""What was given up while nobody knew what would become of it, and is nowhere after all: nothing is held for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from spool.durability import Batch, Durability, Verdict
from tests.world.relay import DOMAIN, World, open_world, run
from tests.world.scheduled import DAY, HOUR, cancel, in_seconds, move, schedule


class Unreachable:
    """In the place of a log's durability: while it is shut it does not answer, and what it is asked then is nowhere."""

    def __init__(self, world: World) -> None:
        log: Any = world.core.store._log
        self._inner: Durability = log._writer._durability
        log._writer._durability = self
        self._opened: trio.Event | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def shut(self) -> None:
        self._opened = trio.Event()

    def open(self) -> None:
        assert self._opened is not None
        self._opened.set()

    async def make_durable(self, batch: Batch) -> Verdict:
        if self._opened is not None:
            await self._opened.wait()
            self._opened = None
            return Verdict.ABSENT
        return await self._inner.make_durable(batch)


async def stalled(world: World, unreachable: Unreachable, ask: Callable[[], Any]) -> None:
    """The member is told 503, and after that it is nowhere."""
    before = world.core.store.last_seq
    unreachable.shut()
    assert (await ask())[0] == 503
    unreachable.open()
    await world.core.store._log.settle()
    assert world.core.store.last_seq == before


@pytest.mark.parametrize("name", ["cancel", "move"])
def test_a_message_that_an_order_was_about_is_tried(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            unreachable = Unreachable(world)
            message_id = await schedule(world, HOUR)
            await stalled(
                world,
                unreachable,
                (lambda: cancel(world, message_id))
                if name == "cancel"
                else (lambda: move(world, message_id, in_seconds(world, DAY))),
            )
            assert not world.core.in_hand
            assert world.core.reservations.scheduled(DOMAIN) == {}
            assert (await world.until_final(message_id))["status"] == "sent"
            assert len(world.mx.messages) == 1

    run(main)


def test_a_send_with_the_same_key_is_a_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            unreachable = Unreachable(world)

            async def send() -> tuple[int, Any, dict[str, str]]:
                headers = {**world.credentials, "Idempotency-Key": "K"}
                mail = {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}
                return await world.request("POST", "/v1/send", headers=headers, json=mail)

            await stalled(world, unreachable, send)
            assert world.core.reservations.recipients(DOMAIN) == 0
            with trio.fail_after(60):
                status, answer, headers = await send()
            assert status == 200
            assert "Idempotent-Replayed" not in headers
            (accepted,) = answer["accepted"]
            assert (await world.until_final(accepted["messageId"]))["status"] == "sent"
            assert len(world.mx.messages) == 1

    run(main)
