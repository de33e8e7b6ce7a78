"""The views of a log that nobody writes are read where they have seen all of it, and else folded anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.data_directory import open_for_reading
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.views import messages, open_settled_relay_views
from tests.world.relay import open_world, run


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[Path, int]:
    """A directory that was served, and a message in it."""
    sent: list[int] = []

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sent.append(await world.send(to="bob@example.com"))
            await world.until_final(sent[0])

    run(main)
    return tmp_path / "data", sent[0]


def are_read(directory: Path) -> bool:
    with open_settled_relay_views(directory / VIEWS_DIRECTORY, directory / LOG_DIRECTORY) as view:
        return view is not None


def status(directory: Path, message_id: int) -> str:
    with open_for_reading(directory) as readable, readable.store.read() as view:
        state = messages.message(view, message_id)
        assert state is not None
        assert readable.store.get(message_id).seq == message_id
        return state.status


def test_views_that_were_closed_in_order_are_read(stopped: tuple[Path, int]) -> None:
    directory, message_id = stopped
    assert are_read(directory)
    assert status(directory, message_id) == "sent"


def test_views_that_may_not_have_seen_all_are_not(stopped: tuple[Path, int]) -> None:
    directory, message_id = stopped
    views = directory / VIEWS_DIRECTORY
    (views / "boot").write_text("another boot")
    assert not are_read(directory)
    assert status(directory, message_id) == "sent"
    (views / "boot").unlink()
    segment = max((directory / LOG_DIRECTORY).glob("*.seg"))
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"torn")
    assert not are_read(directory)
    segment.write_bytes(whole)
    data = (views / "data.mdb").read_bytes()
    (views / "data.mdb").write_bytes(data[: len(data) // 2])
    assert not are_read(directory)
    (views / "data.mdb").unlink()
    assert not are_read(directory)
    assert status(directory, message_id) == "sent"
