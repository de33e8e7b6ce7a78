"""What a node says of itself each second; and another one that has its name, because a directory was copied."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from relay.codec import versions_read_here
from relay.config import load_node
from relay.core import open_core
from relay.file_names import VIEWS_DIRECTORY
from relay.nodes.facts import Facts, from_row, to_row
from relay.nodes.speaking import Speaking
from relay.surroundings import Surroundings
from spool.errors import LogDeposedError
from tests.nodes.test_facts import facts
from tests.nodes.test_founding import make_node, one_machine
from tests.world.directories import copy_of
from tests.world.relay import DID, call_here, make_directory, run
from tests.world.servers import put_node
from tests.world.table import DATABASE_EPOCH_US, FakeDatabase


def clock() -> int:
    return DATABASE_EPOCH_US + round(trio.current_time() * 1_000_000)


SURROUNDINGS = Surroundings(offload=call_here, clock=clock)


@dataclass
class Spoken:
    leads: bool = False
    trouble: str | None = None
    stripped_through: int = 0
    reads: Mapping[str, int] = field(default_factory=versions_read_here)

    def end(self, why: str) -> None:
        raise LogDeposedError(why)


@asynccontextmanager
async def speaking(directory: Path, database: FakeDatabase, spoken: Spoken) -> AsyncIterator[Speaking]:
    async with open_core(directory, SURROUNDINGS) as core, trio.open_nursery() as nursery:
        made = Speaking(
            spoken,
            core,
            load_node(directory),
            database.table(),
            identity="11",
            on_clock=lambda: None,
            on_removed=spoken.end,
        )
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


def said(database: FakeDatabase) -> Facts:
    read = from_row("one", json.loads(database.shown.nodes["one"]))
    assert isinstance(read, Facts)
    return read


def node_directory(directory: Path) -> Path:
    made = make_directory(directory)
    make_node(made)
    return made


def test_it_is_said_anew_each_second(tmp_path: Path) -> None:
    async def story() -> None:
        database, spoken = FakeDatabase(), Spoken()
        async with speaking(node_directory(tmp_path / "data"), database, spoken) as node:
            await trio.sleep(0.5)
            first = said(database)
            assert (first.address, first.leads, first.trouble) == ("127.0.0.1:8443", False, None)
            assert abs(first.clock_offset_us or 0) < 1000
            spoken.leads, spoken.trouble = True, "the database is slow"
            await trio.sleep(1)
            second = said(database)
            assert (second.leads, second.trouble) == (True, "the database is slow")
            assert second.written_at > first.written_at
            assert second.began_at == first.began_at
            database.servers.primary.write(put_node("two", to_row(facts("two"))))
            await trio.sleep(1)
            assert node.nodes.keys() == {"one", "two"}

    run(story)


def test_two_with_one_name_both_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        database = FakeDatabase()
        one = node_directory(tmp_path / "data")
        two = tmp_path / "copy"
        copy_of(one, two)
        async with speaking(one, database, Spoken()):
            await trio.sleep(5.5)
            assert said(database).trouble is None
            async with speaking(two, database, Spoken()):
                await trio.sleep(10)
                assert "another relay calls itself one, too" in (said(database).trouble or "")
            await trio.sleep(5)
            assert said(database).trouble is None

    run(story)
    assert [record.message for record in caplog.records].count("node.namesake") == 2


def test_a_row_of_the_process_before_is_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is there at a start, and once more after a failover that has lost ours."""

    async def story() -> None:
        database = FakeDatabase()
        before = put_node("one", to_row(facts("one", began_at=1)))
        database.servers.primary.write(before)
        async with speaking(node_directory(tmp_path / "data"), database, Spoken()):
            await trio.sleep(3.5)
            database.servers.primary.write(before)
            await trio.sleep(5)
            assert said(database).trouble is None

    run(story)
    assert "node.namesake" not in [record.message for record in caplog.records]


def test_only_views_that_should_have_been_good_are_told_of(tmp_path: Path) -> None:
    """A node that is new, or was filled, has none, and builds them: nothing is wrong there."""
    directory = tmp_path / "data"

    async def at_start() -> str | None:
        database = FakeDatabase()
        async with speaking(directory, database, Spoken()):
            await trio.sleep(0.5)
            return said(database).at_start

    async def story() -> None:
        make_node(await one_machine(directory, DID))
        shutil.rmtree(directory / VIEWS_DIRECTORY)
        assert await at_start() is None
        assert await at_start() is None
        (directory / VIEWS_DIRECTORY / "boot").write_text("damaged")
        assert await at_start() == "its views were built again: they were found to be damaged"

    run(story)


@pytest.mark.parametrize(
    ("stood_still", "because"),
    [
        (0.0, "no answer in time"),
        (30.0, "this process stood still for 2"),
    ],
)
def test_a_process_that_stood_still_does_not_blame_the_database(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stood_still: float, because: str
) -> None:
    caplog.set_level(logging.INFO)

    async def story() -> None:
        database = FakeDatabase()
        async with speaking(node_directory(tmp_path / "data"), database, Spoken()):
            await trio.sleep(3.5)
            database.latency_seconds = 3.0 if stood_still else 10.0
            await trio.sleep(1)  # it is asking
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, MockClock)
            clock.jump(stood_still)
            await trio.sleep(10)

    run(story)
    lines = [vars(record) for record in caplog.records if record.message == "node.not_spoken"]
    assert lines[0]["because"].startswith(because)
