"""What the tests of time travel share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from relay.codec import encode
from relay.events import (
    Event,
)
from relay.past.rows import VIEWS
from spool import Entry, open_log
from tests.world.relay import open_world, run
from tests.world.spool import clock, inline
from tools.cli import cli


def log(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["log", *map(str, arguments)])


def answer(*arguments: object) -> Any:
    result = log(*arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.output)


def all_views() -> list[str]:
    return [word for name in VIEWS for word in ("--view", name)]


def write_log(directory: Path, events: Sequence[Event], more: Sequence[Entry] = ()) -> Path:
    """A data directory with nothing but a log, in which each event has a time of its own."""

    async def main() -> None:
        async with open_log(
            directory / "log", clock=clock(), offload=inline, segment_bytes_max=3000, batch_bytes_max=2000
        ) as written:
            for entry in (*map(encode, events), *more):
                await written.append([entry])

    directory.mkdir(exist_ok=True)
    trio.run(main)
    return directory


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 to 3 an enrolment, 4 and 5 a send that is deferred (7), held (8), released and sent; 12 a suppression."""
    directory = tmp_path_factory.mktemp("story") / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            message_id = await world.send(to="tempfail-1@example.com")
            await world.until(message_id, "deferred")
            await world.command("queue_hold", by="root", message=[message_id], reason="test")
            await world.command("queue_release", by="root", message=[message_id], reason="test")
            await world.until_final(message_id)
            await world.request("POST", "/v1/suppressions", json={"recipient": "x@example.com"})

    run(main)
    return directory
