"""Who else reads the views: those that are killed while they read cost nothing for long, and a full table of readers is
no damage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.views import PROJECTORS, relay_views
from spool.errors import ReadersFullError
from spool.verify.views import see_views, verify_views
from spool.views import OWN_READERS, Views
from tests.world.relay import World, open_world, run

#: Holds so many snapshots of the views in its directory, says so, and waits for the end.
READER = """
import lmdb, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
directory, places = sys.argv[1], int(sys.argv[2])
env = lmdb.open(directory, readonly=True, max_dbs=64, max_spare_txns=200)
held = []
try:
    while len(held) < places:
        held.append(env.begin())
except lmdb.ReadersFullError:
    pass
print(len(held), flush=True)
sys.stdin.read()
"""
ALL = 1000


@contextmanager
def reading(views: Path, places: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(views), str(places)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def readers_of_others(world: World) -> int:
    lines = world.core.store._views._env.readers().splitlines()[1:]
    return sum(int(line.split()[0]) != os.getpid() for line in lines if line.split()[0].isdigit())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_reader_is_cleared_within_a_minute(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        views = tmp_path / "data" / "views"
        async with open_world(tmp_path / "data") as world:
            with reading(views, 3) as (process, held):
                assert held == 3
                process.send_signal(number)
                process.wait()
                assert readers_of_others(world) == 3
                await trio.sleep(61)
                assert readers_of_others(world) == 0
            await world.send()

    run(main)


def test_the_file_does_not_grow_once_it_is_cleared(tmp_path: Path) -> None:
    async def main() -> None:
        data = tmp_path / "data" / "views" / "data.mdb"

        async def growth(world: Any, sends: int) -> int:
            before = data.stat().st_size
            for _ in range(sends):
                await world.send()
            return data.stat().st_size - before

        async with open_world(tmp_path / "data") as world:
            await growth(world, 50)
            with reading(data.parent, 1) as (process, _):
                process.kill()
                process.wait()
                held = await growth(world, 50)
                await trio.sleep(61)
                await growth(world, 10)
                free = await growth(world, 50)
        assert free < held / 3

    run(main)


def test_a_relay_whose_table_is_full_of_living_readers_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        views = tmp_path / "data" / "views"
        async with open_world(tmp_path / "data") as world:
            with reading(views, ALL) as (_, held):
                assert held > 90
                message_id = await world.send()
                assert (await world.until_final(message_id))["status"] == "sent"
                assert (await world.request("GET", "/readyz"))[0] == 200
                store = world.core.store
                with ExitStack() as stack:
                    for _ in range(OWN_READERS):
                        stack.enter_context(store.read())
                    # Whoever asks now hears what it is, and that nothing is damaged.
                    status, answer, _ = await world.request("GET", "/readyz")
                    assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
                    assert "table of readers is full" in answer["error"]
                    status, answer, _ = await world.request("GET", "/v1/messages")
                    assert (status, answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
                assert (await world.request("GET", "/readyz"))[0] == 200
                seen = see_views(views, PROJECTORS)
                assert seen.is_busy
                verdicts = verify_views(
                    tmp_path / "data" / "log", views, PROJECTORS, lambda record: record, seen=seen
                )
                assert all((verdict.problem or "").startswith("busy: ") for verdict in verdicts)

    run(main)


def test_a_full_table_of_killed_readers_is_free_within_a_minute(tmp_path: Path) -> None:
    async def main() -> None:
        views = tmp_path / "data" / "views"
        async with open_world(tmp_path / "data") as world:
            with reading(views, ALL) as (process, _):
                process.kill()
                process.wait()
                assert see_views(views, PROJECTORS).is_busy
                await trio.sleep(61)
                assert see_views(views, PROJECTORS).problem is None
            await world.send()

    run(main)


def test_a_start_among_too_many_readers_says_so_and_throws_nothing_away(tmp_path: Path) -> None:
    views = relay_views(tmp_path / "views")
    views.open()
    views.close()
    before = (tmp_path / "views" / "data.mdb").stat().st_ino
    with reading(tmp_path / "views", ALL):
        views = relay_views(tmp_path / "views")
        with pytest.raises(ReadersFullError, match="Nothing is damaged"):
            views.open()
        views.close()
    views = relay_views(tmp_path / "views")
    views.open()
    assert views.rebuilt_because is None
    views.close()
    assert (tmp_path / "views" / "data.mdb").stat().st_ino == before


def test_temporary_views_have_no_name_once_they_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relay.views import open_temporary_views
    from spool.views.scratch import open_scratch

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_temporary_views() as views, open_scratch(PROJECTORS):
        assert list(tmp_path.iterdir()) == []
        with views.read() as view:
            assert view.position == 0
    assert isinstance(views, Views)
