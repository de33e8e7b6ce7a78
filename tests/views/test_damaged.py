"""LMDB lost, cut or damaged: the views are built again from the log at start-up, and nothing is missing (SPEC 9)."""

import shutil
from pathlib import Path

import lmdb
import pytest

from relay.events import ViewsRebuilt
from tests.world.relay import make_directory, open_world, run


@pytest.mark.parametrize("damage", ["deleted", "cut", "rubbish", "another log's"])
def test_views_come_back(tmp_path: Path, damage: str) -> None:
    async def main() -> None:
        directory = tmp_path / "data"
        async with open_world(directory) as world:
            credentials = world.credentials
            message_id = await world.send()
            await world.until_final(message_id)
        data = directory / "views" / "data.mdb"
        if damage == "deleted":
            shutil.rmtree(directory / "views")
        elif damage == "cut":
            with data.open("r+b") as file:
                file.truncate(3 * 4096)
        elif damage == "rubbish":
            data.write_bytes(b"\x5a" * data.stat().st_size)
        else:
            async with open_world(tmp_path / "other", seed=1):  # another salt, so another log
                pass
            shutil.rmtree(directory / "views")
            shutil.copytree(tmp_path / "other" / "views", directory / "views")
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            assert (await world.message(message_id))["status"] == "sent"
            assert isinstance(world.events()[-1], ViewsRebuilt)

    run(main)


def test_what_was_found_damaged_while_the_relay_ran_is_built_again_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        directory = tmp_path / "data"

        def meet_a_bad_page(*_arguments: object) -> None:
            raise lmdb.CorruptedError("mdb_get")

        async with open_world(directory) as world:
            with monkeypatch.context() as patch:
                patch.setattr(world.core.store._views, "_fold", meet_a_bad_page)
                with pytest.raises(lmdb.CorruptedError):
                    world.core.store._views.apply([])
        async with open_world(directory, enrol=False) as world:
            assert isinstance(world.events()[-1], ViewsRebuilt)
        async with open_world(directory, enrol=False) as world:
            before = world.core.store.last_seq
        async with open_world(directory, enrol=False) as world:
            assert world.core.store.last_seq == before  # and only once

    run(main)


def test_a_segment_may_be_smaller_than_a_batch(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        config = directory / "relay.toml"
        config.write_text(config.read_text().replace("# segment_bytes = 67108864", "segment_bytes = 4096"))
        async with open_world(directory) as world:
            for _ in range(3):
                await world.until_final(await world.send(text="x" * 50_000))
            assert len(list((directory / "log").glob("*.seg"))) > 3
            credentials = world.credentials
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            _, page, _ = await world.request("GET", "/v1/messages")
            assert [message["status"] for message in page["messages"]] == ["sent"] * 3

    run(main)
