"""`log strip` and `log erase` as operators type them, at a relay in a process of its own, killed meanwhile or not."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from relay.events import LogStripped, PayloadErased
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from tests.world.directories import names_in
from tests.world.erasing import FRIEND, events, relay_with_mail
from tests.world.operator import ME
from tests.world.process import RelayProcess, wait_until

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "RETENTION.md"
#: For a campaign: ERASE_ROUNDS=50.
ROUNDS = int(os.environ.get("ERASE_ROUNDS", "1"))


def test_what_the_commands_say(tmp_path: Path) -> None:
    def then(relay: RelayProcess, ids: list[int]) -> None:
        directory = relay.directory
        assert json.loads(relay.command("log", "strip", "--dry-run", "--json"))["messages"] == 0
        said = relay.command("log", "erase", "--recipient", FRIEND, "--reason", "ticket 4711").splitlines()
        assert said[0] == "Removed the personal data of 1 message."
        assert said[-1] == "No event of the log names the address any more."
        told = relay.command("log", "cat", "--type", "log.stripped")
        assert "  removed: 3 payloads from 1 segment, " in told
        assert names_in(directory, FRIEND) == []
        story = relay.command("log", "cat", "--message", str(ids[0])).splitlines()
        assert "(personal data removed)" in story[1]
        assert f"personal data of message {ids[0]} are erased (operator) by {ME}: ticket 4711" in story[-1]
        segments = json.loads(relay.command("log", "inspect", "--json"))["segments"]
        assert [segment["stripped"] for segment in segments] == [True, False]
        verdict = json.loads(relay.command("log", "verify", "--json"))
        assert verdict["ok"]
        assert verdict["stripped"] >= 3
        for words, sentence in (
            (("--message", "1"), "there is no message 1"),
            (("--recipient", "no address"), "recipient: "),
        ):
            refused = relay.run_command("log", "erase", str(directory), *words, "--reason", "x")
            assert refused.returncode == 1
            assert sentence in refused.stderr
        assert relay.run_command("log", "erase", str(directory), "--reason", "x").returncode == 2

        # It does not run any more: the command does it itself.
        assert relay.stop() == 0
        order = ("log", "erase", "--message", str(ids[1]), "--reason", "ticket 2")
        said = relay.command(*order).splitlines()
        assert said[0] == "Removed the personal data of 1 message."
        assert said[-1] == "No event of the log names the address any more."
        assert "cannot be said" in relay.command(*order).splitlines()[-1]
        assert names_in(directory, "friend1@example.com") == []
        assert names_in(directory, "friend2@example.com") != []
        relay.command("log", "verify")
        # What LMDB has not overwritten yet is gone with its file.
        relay.command("log", "rebuild")
        digests = [hashlib.sha256(f"friend{n}@example.com".encode()).digest()[:16] for n in (1, 2)]
        views = (directory / VIEWS_DIRECTORY / "data.mdb").read_bytes()
        assert [digest in views for digest in digests] == [False, True]

    relay_with_mail(tmp_path, then)


@pytest.mark.timeout(180 * ROUNDS)
@pytest.mark.parametrize("moment", ["asked", "recorded", "renamed"])
def test_a_relay_that_is_killed_meanwhile_finishes_when_it_starts_again(tmp_path: Path, moment: str) -> None:
    """For a campaign: `ERASE_ROUNDS=50 python -m pytest tests/tools/test_retention_commands.py`."""

    def then(relay: RelayProcess, ids: list[int]) -> None:
        first = relay.directory / LOG_DIRECTORY / "00000000000000000001.seg"
        inode = first.stat().st_ino
        has_come: dict[str, Callable[[], bool]] = {
            "asked": lambda: True,
            "recorded": lambda: any(isinstance(event, PayloadErased) for event in events(relay)),
            "renamed": lambda: first.stat().st_ino != inode,
        }

        async def kill_in_the_middle() -> None:
            async with trio.open_nursery() as nursery:
                words = ("log", "erase", str(relay.directory), "--recipient", FRIEND, "--reason", "ticket")
                nursery.start_soon(trio.to_thread.run_sync, relay.run_command, *words)
                await trio.to_thread.run_sync(wait_until, has_come[moment], lambda: moment)
                relay.kill()

        for _ in range(ROUNDS):
            trio.run(kill_in_the_middle)
            # The command may have found no relay, and then does it itself.
            relay.start()
            erased = [event for event in events(relay) if isinstance(event, PayloadErased)]
            if erased:
                relay.wait_until(
                    lambda: any(isinstance(event, LogStripped) for event in events(relay)), "finishes"
                )
                assert names_in(relay.directory, FRIEND) == []
            else:
                assert moment == "asked"
            relay.command("log", "verify")
        assert relay.stop() == 0
        relay.command("log", "verify")

    relay_with_mail(tmp_path, then)


def test_the_documents_commands_work_as_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    commands = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    assert len(commands) == 9

    def then(relay: RelayProcess, ids: list[int]) -> None:
        for command in commands:
            words = re.findall(r'"[^"]*"|\S+', command)
            assert words[0] == "atmos-relay"
            typed = [
                str(relay.directory)
                if word == "/var/lib/atmos-relay"
                else str(ids[1])
                if word == "5"
                else word.strip('"')
                for word in words[1:]
            ]
            if "rebuild" in typed:
                assert relay.stop() == 0
            done = relay.run_command(*typed)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout

    relay_with_mail(tmp_path, then)
