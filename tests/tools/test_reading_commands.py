"""Commands that read write nothing: on a directory that nobody serves, and on a copy (SPEC 7)."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay import data_directory
from relay.operator.client import administer
from relay.principals import Operator
from tests.operator.test_bounces_by_hand import dsn
from tests.operator.test_bounces_by_hand import order as bounced_later
from tests.world.directories import contents
from tests.world.orders import COMMANDS
from tests.world.relay import DID, open_world, run

#: Of a site, as `queue list` shows it.
ONLY_RUNNING = ("receivers", "connections", "connectionsAtMost", "downUntil", "downBecause")
READING_COMMANDS = [name for name, command in COMMANDS.items() if command.reads]


def test_nothing_changes_and_the_answers_are_those_of_the_running_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, copy = tmp_path / "data", tmp_path / "copy"
    answers: dict[str, Any] = {}
    arguments: dict[str, dict[str, Any]] = {
        "member_show": {"did": DID},
        "suppression_list": {"did": DID},
        "top": {"by": "class"},
        "why": {"did": DID},
    }

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send()
            await world.until_final(message_id)
            arguments["queue_show"] = {"message": message_id}
            token = world.core.message_tokens.token(message_id)
            arguments["bounce_paste"] = bounced_later(dsn(token))
            waiting = await world.send(to="tempfail-9@example.com")
            await world.until(waiting, "deferred")
            # In nobody's hand and not due: the same at any time.
            await world.command("queue_hold", by="root", message=[waiting], reason="test")
            # It is told of nothing that happens here.
            added = await world.command("webhook_add", url="https://hook.example/", types=["member.removed"])
            arguments["webhook_show"] = {"webhook_id": added["webhookId"]}
            for command in READING_COMMANDS:
                found = COMMANDS[command]
                asked = msgspec.convert(arguments.get(command, {}), found.arguments)
                answers[command] = await found.run(world.core, asked, Operator("operator"))
            # Where no relay runs, it is as late as it was there.
            now_us = world.core.store.now_us()
            monkeypatch.setattr(data_directory, "wall_clock_us", lambda: now_us)
            # As a backup tool finds it: in use, with views that are not to be trusted elsewhere.
            shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("admin.sock"))

    run(main)
    # Only a running relay knows where a domain's mail goes, and how it goes there.
    assert {name: answers["queue_list"]["sites"][0].pop(name) for name in ONLY_RUNNING} == {
        "receivers": "route 127.0.0.1:25",
        # The one that has tried it rests.
        "connections": 1,
        "connectionsAtMost": 5,
        "downUntil": None,
        "downBecause": None,
    }
    # Nor does anything else know the disk that it writes to.
    assert answers["status"].pop("machine")["accepting"]
    for place in (directory, copy):
        before = _data(place)
        for command in READING_COMMANDS:
            answer: Any = administer(place, command, arguments.get(command, {}))
            if command == "status":
                assert answer.pop("machine") is None
            if command == "queue_list":
                assert [answer["sites"][0].pop(name) for name in ONLY_RUNNING] == [None] * 5
            assert answer == answers[command]
        assert _data(place) == before
    assert answers["member_list"][0]["did"] == DID
    assert answers["queue_list"]["sites"][0]["held"] == 1
    assert answers["queue_show"]["status"] == "sent"
    assert answers["webhook_list"][0]["url"] == "https://hook.example/"
    assert answers["bounce_paste"]["counts"]


def _data(directory: Path) -> dict[str, tuple[int, bytes]]:
    """All but LMDB's table of readers, where every reader stands while it reads."""
    return {name: found for name, found in contents(directory).items() if name != "views/lock.mdb"}
