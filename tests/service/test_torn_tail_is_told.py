"""A torn tail is cut once and told once, in the log itself: by the start that cut it, or by `log repair`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.codec import encode
from relay.events import Event, MemberResumed, TornTailCut
from relay.file_names import LOG_DIRECTORY
from spool import open_log
from tests.world.relay import DID, open_world, run
from tools.cli import cli

#: Of the batch that was being written, so much never reached the disk.
MISSING_BYTES = 30


async def tear(directory: Path) -> TornTailCut:
    """Leave a batch half written behind what the views have seen. Returns the event that is to tell of it."""
    async with open_log(directory / LOG_DIRECTORY) as log:
        offset = log.durable_end.end_offset
        await log.append([encode(MemberResumed(did=DID))])
    path = max((directory / LOG_DIRECTORY).glob("*.seg"))
    with path.open("r+b") as file:
        size = file.truncate(path.stat().st_size - MISSING_BYTES)
    return TornTailCut(segment=path.name, offset=offset, bytes_cut=size - offset, loss_ruled_out=True)


@pytest.mark.parametrize("by_hand", [False, True])
def test_it_is_told(tmp_path: Path, by_hand: bool) -> None:
    directory = tmp_path / "data"
    expected: list[Event] = []

    async def live_and_break_down() -> None:
        async with open_world(directory) as world:
            expected.extend(world.events())
        expected.append(await tear(directory))

    async def live_on() -> None:
        async with open_world(directory, enrol=False) as world:
            assert world.events() == expected

    run(live_and_break_down)
    if by_hand:
        repair(directory)
        repair(directory)  # there is nothing to cut and nothing to tell any more
    run(live_on)
    run(live_on)


def repair(directory: Path) -> None:
    result = CliRunner().invoke(cli, ["log", "repair", str(directory)])
    assert result.exit_code == 0, result.output
