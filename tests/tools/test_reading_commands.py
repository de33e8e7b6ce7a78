"""Commands that read write nothing: on a directory that nobody serves, and on a copy (SPEC 7)."""

import shutil
from pathlib import Path
from typing import Any

from relay.operator.client import administer
from tests.operator.test_bounces_by_hand import dsn
from tests.operator.test_bounces_by_hand import order as bounced_later
from tests.world.directories import contents
from tests.world.orders import COMMANDS
from tests.world.relay import DID, open_world, run

#: Of a site, as `queue list` shows it.
ONLY_RUNNING = ("receivers", "connections", "connectionsAtMost", "downUntil", "downBecause")
READING_COMMANDS = [name for name, command in COMMANDS.items() if command.reads]


def test_nothing_changes_and_the_answers_are_those_of_the_running_relay(tmp_path: Path) -> None:
    directory, copy = tmp_path / "data", tmp_path / "copy"
    answers: dict[str, Any] = {}
    arguments: dict[str, dict[str, Any]] = {}

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
            for command in READING_COMMANDS:
                answers[command] = await world.command(command, **arguments.get(command, {}))
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
    for place in (directory, copy):
        before = contents(place)
        for command in READING_COMMANDS:
            answer: Any = administer(place, command, arguments.get(command, {}))
            if command == "queue_list":
                assert [answer["sites"][0].pop(name) for name in ONLY_RUNNING] == [None] * 5
            assert answer == answers[command]
        assert contents(place) == before
    assert answers["member_list"][0]["did"] == DID
    assert answers["queue_list"]["sites"][0]["held"] == 1
    assert answers["queue_show"]["status"] == "sent"
    assert answers["bounce_paste"]["counts"]
