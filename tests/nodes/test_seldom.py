"""Lines that others can cause are few, and say how many they were."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from relay.nodes.seldom import KINDS_MAX, SECONDS, Seldom
from relay.principals import Principal
from tests.nodes.beside_a_leader import with_follower
from tests.world.nodes import LEADER, Follower
from tests.world.relay import World, run

logger = logging.getLogger("tests.seldom")


def said(caplog: pytest.LogCaptureFixture, event: str) -> list[object]:
    """How many were left out before each line."""
    lines = [record for record in caplog.records if record.message == event]
    return [getattr(line, "left_out", 0) for line in lines]


def test_one_in_a_minute_and_then_how_many(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        lines = Seldom(logger)
        for _ in range(100):
            lines.say(logging.WARNING, "it", because="so")
        lines.say(logging.WARNING, "it", kind=" of another kind")
        lines.say(logging.WARNING, "else")
        await trio.sleep(SECONDS)
        lines.say(logging.WARNING, "it", because="so")
        await trio.sleep(SECONDS)
        lines.say(logging.WARNING, "it", because="so")

    run(story)
    assert said(caplog, "it") == [0, 0, 99, 0]
    assert said(caplog, "else") == [0]


def test_it_remembers_the_last_kinds_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        lines = Seldom(logger)
        for number in range(KINDS_MAX + 1):
            lines.say(logging.WARNING, "it", kind=str(number))
        lines.say(logging.WARNING, "it", kind=str(KINDS_MAX))
        assert len(said(caplog, "it")) == KINDS_MAX + 1
        lines.say(logging.WARNING, "it", kind="0")

    run(story)
    assert len(said(caplog, "it")) == KINDS_MAX + 2


def test_strangers_and_clients_fill_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def test(world: World, follower: Follower, member: Principal) -> None:
        for _ in range(20):
            stranger = await follower.network.open_stream(LEADER.host, LEADER.port)
            await stranger.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert await stranger.receive_some() == b""  # sent away
            await stranger.aclose()
        assert said(caplog, "node.refused") == [0]
        # Who was removed is told of all the same.
        follower.nodes.discard("b")
        for _ in range(20):
            await follower.core.why_not_accepting()
        assert said(caplog, "node.refused") == [0, 0]
        follower.leader = None
        for _ in range(20):
            await follower.core.why_not_accepting()
        assert said(caplog, "node.not_asked") == [0]

    with_follower(tmp_path, test)
