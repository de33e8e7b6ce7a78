"""Whoever reads the views or the log of a running relay, and whatever ends it when, leaves the relay as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.world.http import open_http
from tests.world.mx import open_mx
from tests.world.process import RelayProcess, make_process_directory

#: The relay's own command, but that it looks for dead readers every second.
EVERY_SECOND = "import relay.dead_readers as d; d.CHECK_SECONDS = 1.0; from tools.cli import main; main()"


def files(directory: Path) -> dict[str, bytes]:
    """All but what LMDB writes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("lock.mdb", "data.mdb")
    }


# It begins some hundred processes, one after the other.
@pytest.mark.timeout(1200)
def test_commands_that_read_are_killed_at_each_of_their_steps(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx:
            directory = make_process_directory(tmp_path / "data", route=mx.address)
            relay = RelayProcess(directory, command=["-c", EVERY_SECOND])
            credentials = relay.enrol()
            with relay.running():
                async with open_http(relay.address) as http:
                    answer = await http.post_send(credentials)
                    message_id = answer.json()["accepted"][0]["messageId"]
                    await mx.wait_messages(1)
                    # The outcome is durable a moment after the receiver has it.
                    while "message.sent" not in relay.command("log", "cat", "--json"):
                        await trio.lowlevel.checkpoint()
                    before, left = files(directory), tmp_path / "tmp"
                    left.mkdir()
                    done = await trio.run_process(
                        [sys.executable, "-m", "tests.world.killed_tools", str(directory), str(message_id)],
                        capture_stdout=True,
                        env={**os.environ, "TMPDIR": str(left)},
                    )
                    steps = json.loads(done.stdout)
                    assert min(steps.values()) >= 3
                    assert steps["log verify"] > 20
                    assert files(directory) == before
                    # Some hundred were killed while they read, more than LMDB has places for.
                    await trio.to_thread.run_sync(relay.wait_logged, "views.dead_readers_cleared")
                    async with open_http(relay.address) as again:  # the first was at rest for too long
                        assert (await again.post_send(credentials)).status == 200
                    await mx.wait_messages(2)
                    size = sum(path.stat().st_size for path in left.rglob("*") if path.is_file())
                    assert size < 100 * 2**20
                done = subprocess.run(
                    [sys.executable, "-m", "relay", "log", "verify", str(directory)], capture_output=True
                )
                assert done.returncode == 0, done.stdout
                assert relay.stop() == 0
            assert mx.violations == []

    trio.run(main)
