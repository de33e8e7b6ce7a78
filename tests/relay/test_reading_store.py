"""Another process reads the views and the log of a running relay: what it sees and when, and what it lets go of."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spool.views.fold
from relay.reading_store import open_reading_store
from spool.errors import ReadersFullError
from spool.views import Views
from tests.spool.test_readers import ALL, reading
from tests.world.erasing import FRIEND, erase
from tests.world.reading_process import reading_process, shown
from tests.world.relay import World, make_directory, open_world, run


def all_of(world: World) -> list[Any]:
    store = world.core.store
    return [shown(store.get(seq)) for seq in range(1, store.last_seq + 1)]


def with_small_segments(directory: Path) -> Path:
    make_directory(directory)
    config = directory / "relay.toml"
    config.write_text(config.read_text().replace("# segment_bytes = 67108864", "segment_bytes = 4096"))
    return directory


def test_what_an_append_has_returned_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with reading_process(tmp_path / "data") as reader:
                reader.wait_open()
                store = world.core.store
                seen_at: list[int] = []
                # From within the observers: so it holds before anybody hears of it by `append`.
                store.observers.append(look := lambda recorded: seen_at.append(reader.ask("last_seq")))
                for _ in range(20):
                    message_id = await world.send()
                    assert reader.ask("status", message_id) in ("queued", "sent")
                    assert seen_at[-1] == reader.ask("last_seq") == store.last_seq
                    assert reader.ask("get", message_id) == shown(store.get(message_id))
                # Its own clock stands at 1970.
                assert reader.ask("now_us") == store.get(store.last_seq).time_us
                assert reader.ask("get_all") == all_of(world)
                store.observers.remove(look)

    run(main)


def test_an_erasure_is_done_when_whoever_reads_has_let_go(tmp_path: Path) -> None:
    async def main() -> None:
        directory = with_small_segments(tmp_path / "data")
        async with open_world(directory) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            with reading_process(directory) as reader:
                reader.wait_open()
                _, _, queued = reader.ask("get", message_id)
                assert queued["personal"]["address"] == FRIEND
                asked = 0

                async def let_go() -> None:
                    nonlocal asked
                    asked += 1
                    # It has the old file, which has no name any more: so this is what the hook is for.
                    assert any(name.endswith("(deleted)") for name in reader.ask("open_segments"))
                    reader.ask("let_go")

                world.core.store.rewritten.append(let_go)
                await erase(world, recipient=FRIEND)
                assert asked == 1
                assert reader.ask("open_segments") == []
                _, _, queued = reader.ask("get", message_id)
                assert queued.get("personal") is None
                assert FRIEND not in str(reader.ask("get_all"))

    run(main)


def test_every_record_is_found_at_each_step_of_a_correction_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool.views.fold, "MOVED_RECORDS_PER_TRANSACTION", 1)
    steps = 0

    def look_at_each_step(move: Callable[..., Iterator[None]], look: Callable[[], None]) -> Any:
        def moved(views: Views[Any], *arguments: Any) -> Iterator[None]:
            nonlocal steps
            look()
            for _ in move(views, *arguments):
                steps += 1
                look()
                yield

        return moved

    async def main() -> None:
        directory = with_small_segments(tmp_path / "data")
        async with open_world(directory) as world:
            for _ in range(3):
                await world.until_final(await world.send(to=FRIEND))
            with reading_process(directory) as reader, reading_process(directory) as lets_go:
                for process in (reader, lets_go):
                    process.wait_open()
                    assert process.ask("get_all") == all_of(world)

                def look() -> None:
                    """With the old files open, and without."""
                    lets_go.ask("let_go")
                    for process in (reader, lets_go):
                        assert [seq for seq, _, _ in process.ask("get_all")] == numbers

                monkeypatch.setattr(Views, "move", look_at_each_step(Views.move, look))
                numbers = list(range(1, world.core.store.last_seq + 2))  # and the `payload.erased`
                await erase(world, recipient=FRIEND)
                assert steps > 5
                reader.ask("let_go")
                assert reader.ask("get_all") == all_of(world)

    run(main)


def test_views_that_a_start_has_thrown_away_are_read_as_they_were_and_the_new_ones_by_opening_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_world(directory) as world:
            credentials = world.credentials
            first = await world.send()
            await world.until_final(first)
            with reading_process(directory) as reader:
                reader.wait_open()
                last_seq = reader.ask("last_seq")
                await world.relay.stop()
                assert not reader.ask("is_replaced")
        # Another shape, say, or a damage: the next start throws them away while somebody has them open.
        with reading_process(directory) as reader:
            reader.wait_open()
            (directory / "views" / "boot").write_text("another boot")
            with reading_process(directory) as refused:
                assert "ViewsNotReadableError" in refused.ended_because
            async with open_world(directory, enrol=False) as world:
                world.credentials = credentials
                second = await world.send()
                await world.until_final(second)
                assert reader.ask("is_replaced")
                assert reader.ask("last_seq") == last_seq
                assert reader.ask("status", first) == "sent"
                assert reader.ask("status", second) is None
                with reading_process(directory) as again:
                    again.wait_open()
                    assert again.ask("last_seq") == world.core.store.last_seq
                    assert again.ask("status", second) == "sent"

    run(main)


#: Appends until it is killed, and says how far it has come.
WRITER = """
import sys, trio
from pathlib import Path
from relay.config import load_config
from relay.events import MemberAdded
from relay.store import open_store
from relay.surroundings import Surroundings

async def main(directory):
    async with open_store(directory, load_config(directory), Surroundings()) as store:
        while True:
            await store.append([MemberAdded(did="did:web:a.example")])
            print(store.last_seq, flush=True)

trio.run(main, Path(sys.argv[1]))
"""


def test_of_a_writer_that_was_killed_all_that_it_acknowledged_is_read(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            with open_reading_store(directory) as store:
                acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
                assert store.last_seq >= acknowledged[-1]
                writer.send_signal(signal.SIGKILL)
                acknowledged += [int(line) for line in writer.stdout]
                writer.wait()
                assert acknowledged[-1] <= store.last_seq <= acknowledged[-1] + 1
                for seq in range(1, store.last_seq + 1):
                    assert store.get(seq).seq == seq
                with pytest.raises(LookupError):
                    store.get(store.last_seq + 1)
                assert not store.is_replaced


def test_who_cannot_write_the_lock_does_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data"):
            lock = tmp_path / "data" / "views" / "lock.mdb"
            lock.chmod(0o400)
            with reading_process(tmp_path / "data", begin="give_up_rights") as reader:
                assert "PermissionError" in reader.ended_because
            lock.chmod(0o600)
            with reading_process(tmp_path / "data", begin="give_up_rights") as reader:
                reader.wait_open()

    run(main)


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_reading_store(make_directory(tmp_path / "data")):
        pass


def test_a_full_table_of_readers_keeps_nobody_from_reading_who_had_a_place(tmp_path: Path) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_world(directory) as world:
            message_id = await world.send()
            with reading_process(directory) as reader:
                reader.wait_open()
                with reading(directory / "views", ALL) as (process, _):
                    with reading_process(directory) as refused:
                        assert ReadersFullError.__name__ in refused.ended_because
                    for _ in range(10):
                        assert reader.ask("status", message_id) is not None
                    assert reader.ask("get_all") == all_of(world)
                    # Places of dead ones are free for whoever comes next, once the relay has looked.
                    process.kill()
                    process.wait()
                    assert world.core.store.clear_dead_readers() > 90
                    with reading_process(directory) as next_one:
                        next_one.wait_open()

    run(main)
