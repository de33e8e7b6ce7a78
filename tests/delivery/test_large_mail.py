"""A large mail is composed and signed beside the loop, is the same mail, and takes no memory without end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay import core as relay_core
from relay.events import AttemptStarted
from relay.message.outgoing import Gathered
from relay.views import messages
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, World, call_here, open_world, run

LARGE = "Käse, Brot und Wein.\n" * 20_000


class Watched:
    """An offload that says what of ours was handed to it, and how many at a time are at it."""

    def __init__(self) -> None:
        self.composed = self.at_it = self.most_at_it = 0

    async def offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if getattr(function, "__func__", None) is not Gathered.compose:
            return await call_here(function, *arguments)
        self.composed += 1
        self.at_it += 1
        self.most_at_it = max(self.most_at_it, self.at_it)
        await trio.sleep(0.1)
        self.at_it -= 1
        return function(*arguments)


def composed_here(world: World, message_id: int) -> bytes:
    with world.core.store.read() as view:
        state = messages.message(view, message_id)
    assert state is not None
    message: bytes = world.core.composer.outgoing_of(state, world.core.store.get).message
    return message


def test_it_is_made_beside_the_loop_and_is_what_an_audit_makes(tmp_path: Path) -> None:
    async def main() -> None:
        watched = Watched()
        async with open_world(tmp_path / "data", offload=watched.offload) as world:
            status, answer = await world.post_send(to=["a@example.com", "b@example.org"], text=LARGE)
            assert status == 200
            ids = [each["messageId"] for each in answer["accepted"]]
            for message_id in ids:
                await world.until_final(message_id)
            assert (watched.composed, watched.most_at_it) == (2, 1)
            received = sorted(message.data for message in world.mx.messages)
            assert received == sorted(composed_here(world, message_id) for message_id in ids)
            await world.until_final(await world.send())
            assert watched.composed == 2

    run(main)


def test_so_is_the_notification_of_its_bounce(tmp_path: Path) -> None:
    async def main() -> None:
        watched = Watched()
        async with open_world(tmp_path / "data", offload=watched.offload) as world:
            await world.command("domain_set_forward", domain="yourdomain.com", to="dsn@elsewhere.example")
            message_id = await world.send(to="permfail@example.com", text=LARGE)
            await world.until_final(message_id)
            await world.until_so_many_are_final(2)
            assert watched.composed == 2
            (dsn,) = world.mx.messages
            assert b"multipart/report" in dsn.data

    run(main)


def test_where_there_is_no_room_its_member_waits_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three are held by receivers that do not answer. The fourth comes when one of them ends, and was never begun."""
    # Of it a member has a quarter: three of these mails, each of half a megabyte, and what is sent of it.
    monkeypatch.setattr(relay_core, "SENDING_OCTETS_MAX", 4 * 4_000_000)

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            for number in range(3):
                await world.send(to=f"hang@hang{number}.example", text=LARGE)
            await trio.sleep(5)
            waiting = await world.send(to="friend@good.example", text=LARGE)
            await trio.sleep(20)
            assert (await world.message(waiting))["status"] == "queued"
            assert sum(isinstance(event, AttemptStarted) for event in world.events()) == 3
            # Of the same member, a small one; and a large one of another. (A window of five leaves its last connection
            # to them; the others hang, or wait for room.)
            urgent = {"to": "friend@good.example", "category": "transactional"}
            before = trio.current_time()
            await world.until_final(await world.send(**urgent))
            mine = world.credentials
            world.credentials = other
            theirs = await world.send(**urgent, **{"from": f"you@{OTHER_DOMAIN}"}, text=LARGE)
            await world.until_final(theirs)
            world.credentials = mine
            assert trio.current_time() - before < 2
            await world.until_final(waiting)
            message = await world.message(waiting)
            assert [entry["type"] for entry in message["timeline"]].count("attempt.started") == 1

    run(main)
