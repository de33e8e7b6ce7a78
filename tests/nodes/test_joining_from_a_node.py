"""A new node takes its log from one that runs, in one command, and the same command ends what was broken off."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.config import CONFIG_FILE, ConfigError, load_config, load_node
from relay.data_directory import check_may_write
from relay.file_names import FILLING_DIRECTORY
from relay.nodes.borrowing import OTHER_NODE
from relay.nodes.bundle import Bundle
from relay.nodes.certificates import found
from relay.nodes.filling import borrow, fill
from relay.nodes.joining import JOINING, begin_to_join, join
from relay.refusals import Refusal
from tests.nodes.test_filling import assert_filled, disk_of, source, take
from tests.nodes.test_founding import Killed, make_node
from tests.nodes.test_joining import a_node, added
from tests.world.directories import contents
from tests.world.filling import Source
from tests.world.receiving_nodes import open_node
from tests.world.relay import DID, run
from tests.world.table import FakeDatabase

__all__ = ["source"]


@pytest.fixture
def bundle(tmp_path: Path, source: Source) -> Bundle:
    """Of the relay whose log `source` has."""
    one = tmp_path / "one"
    shutil.copytree(source.directory, one, ignore=shutil.ignore_patterns("node", "node.toml"))
    make_node(one)
    found(one, datetime.now(UTC))
    made: list[Bundle] = []

    async def main() -> None:
        made.append(await added(one, FakeDatabase()))

    run(main)
    return made[0]


def begin(directory: Path, bundle: Bundle, address: str = "two.example:8443") -> None:
    begin_to_join(directory, bundle, bind="0.0.0.0:8443", address=address)


def join_from(directory: Path, bundle: Bundle, source: Source) -> None:
    """What the command does, but for the network."""
    disk = disk_of(source.directory)

    def copy(into: Path) -> Path:
        borrow(OTHER_NODE, disk, disk.names, into, None)
        return into

    begin(directory, bundle)
    fill(directory, copy=copy, check=take)


def test_it_is_a_node_with_the_log_of_the_other(tmp_path: Path, bundle: Bundle, source: Source) -> None:
    two = tmp_path / "two"
    join_from(two, bundle, source)
    assert_filled(two, source)
    assert (load_node(two).name, load_node(two).address) == ("two", "two.example:8443")
    with pytest.raises(
        Refusal, match=r"is the node two already; nothing was changed\. Start its relay .*node list"
    ):
        join_from(two, bundle, source)

    async def main() -> None:
        async with open_node(two) as core:
            assert core.store.last_seq == source.batches[-1].last_seq

    run(main)


def test_whatever_step_it_is_killed_at_the_same_command_ends_it(
    tmp_path: Path, bundle: Bundle, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {name: getattr(os, name) for name in ("link", "mkdir", "rename", "replace")}
    killed_at = 0
    for kill_at in range(1, 200):
        two = tmp_path / f"two-{kill_at}"
        left = kill_at

        def step(name: str, *values: object, **more: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            return steps[name](*values, **more)

        with monkeypatch.context() as patch, suppress(Killed):
            for name in steps:
                patch.setattr(os, name, lambda *values, name=name, **more: step(name, *values, **more))
            join_from(two, bundle, source)
        if left > 0:
            break
        killed_at += 1
        # Nobody serves it, and no other command takes it for its own.
        if (two / CONFIG_FILE).exists():
            with pytest.raises(Refusal, match=r"has not ended: run the same .* again$"):
                check_may_write(two)
        else:
            with pytest.raises(ConfigError, match="does not exist"):
                load_config(two)
        join_from(two, bundle, source)
        assert_filled(two, source)
        assert load_config(two).nodes is not None
        shutil.rmtree(two)
    else:
        raise AssertionError("it never ends")
    assert killed_at > 20


def test_what_was_begun_is_not_taken_for_another_s(tmp_path: Path) -> None:
    async def main() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID)
        made = await added(one, database)
        two = tmp_path / "two"
        begin(two, made)
        with pytest.raises(Refusal, match="was begun with --from, and that has not ended"):
            await join(two, made, database.table(), bind="0.0.0.0:8443", address="two.example:8443")
        # A mistake can be made good as long as it has not ended.
        begin(two, made, address="two.example:9443")
        assert load_node(two).address == "two.example:9443"
        # Given up, it is a node that lacks its log.
        shutil.rmtree(two / FILLING_DIRECTORY)
        check_may_write(two)

    run(main)


def test_a_directory_that_is_somebody_s_is_left_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID)
        made = await added(one, database)
        being_filled = tmp_path / "being_filled"
        (being_filled / FILLING_DIRECTORY / "backup").mkdir(parents=True)
        for directory, why in ((one, "is the node one already"), (being_filled, "is not empty")):
            before = contents(directory)
            with pytest.raises(Refusal, match=f"{why}; nothing was changed"):
                begin(directory, made)
            assert contents(directory) == before
            assert not (directory / FILLING_DIRECTORY / JOINING).exists()
        with pytest.raises(Refusal, match="cannot be written into"):
            begin(tmp_path / "new", made, address='x"\n')
        assert not (tmp_path / "new").exists()

    run(main)
