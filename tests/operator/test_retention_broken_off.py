"""Removing personal data from a relay that runs, and what a removal leaves that was broken off."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from relay.codec import decode
from relay.core import open_core
from relay.events import LogStripped, PayloadErased
from relay.file_names import LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.operator import retention
from relay.refusals import Refusal
from relay.store import Store
from relay.surroundings import Surroundings
from relay.views import PROJECTORS, relay_views
from spool import LogReader, Record
from spool.disk import Disk, RealDisk
from spool.verify.verify import verify
from spool.views import fold
from tests.world.directories import names_in
from tests.world.disk import Directory, FakeDisk, File, State, surviving_subsets
from tests.world.erasing import erase
from tests.world.orders import order
from tests.world.relay import (
    call_here,
    open_world,
    run,
    virtual_clock,
)
from tests.world.removals import DAY, FRIEND, listed, of_type
from tools.cli import cli

# ------------------------------------------------------------------------------------------------ while a relay runs


def test_mail_is_sent_and_read_while_segments_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "MOVED_RECORDS_PER_TRANSACTION", 1)

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(20)]
            for message_id in ids:
                await world.until_final(message_id)
            kept = ids[1::2]
            before = [await world.message(message_id) for message_id in kept]
            sent: list[int] = []
            walks = count_walks(world.core.store, monkeypatch)
            erased = trio.Event()

            async def go_on_reading(task_status: trio.TaskStatus[None]) -> None:
                task_status.started()
                while not erased.is_set():
                    sent.append(await world.send(to="busy@example.com"))
                    assert [await world.message(message_id) for message_id in kept] == before

            async with trio.open_nursery() as nursery:
                await nursery.start(go_on_reading)
                for message_id in ids[::2]:
                    assert (await erase(world, message=message_id))["messages"] == 1
                erased.set()
            assert len(sent) >= 5
            assert walks == []  # every record was found at its place, and no segment was searched for one
            for message_id in sent[:-1]:
                assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def count_walks(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    walks: list[int] = []
    read = store._log.reader.read

    def counted(from_seq: int, to_seq: int | None = None) -> Any:
        walks.append(from_seq)
        return read(from_seq, to_seq)

    monkeypatch.setattr(store._log.reader, "read", counted)
    return walks


def test_who_reads_by_place_with_an_old_file_open_does_not_find_what_was_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            assert world.core.store.get(message_id).event.personal is not None
            await erase(world, message=message_id)
            # The first removed payload has not moved its own record.
            assert world.core.store.get(message_id - 1).event.personal is None
            assert world.core.store.get(message_id).event.personal is None

    run(main)


# ------------------------------------------------------------------------------------------------ broken off


class FailingDisk(RealDisk):
    """Its operation number `fail_at` on a segment that is being rewritten fails, and those after it."""

    def __init__(self) -> None:
        self.fail_at = 0
        self.operations = 0

    def create(self, path: Path) -> int:
        self._count()
        return super().create(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def sync_directory(self, directory: Path) -> None:
        self._count()
        super().sync_directory(directory)

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self.fail_at:
            raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_a_full_disk_is_reported_and_the_rest_is_done_later(
    tmp_path: Path, fail_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingDisk()

    async def main() -> None:
        async with open_world(tmp_path / "data", disk=disk) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await world.core.store._log.rotate()
            await trio.sleep(29.9 * DAY)
            disk.operations, disk.fail_at = 0, fail_at
            await trio.sleep(1.01 * DAY)
            assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
                "retention.failed"
            ]
            # For everybody who asks it is gone; the relay is well; an hour later the log has followed.
            assert await listed(world, f"?recipient={FRIEND}") == []
            await trio.sleep(3600)
            assert names_in(tmp_path / "data", FRIEND) == []
            assert len(of_type(world, PayloadErased)) == len(of_type(world, LogStripped)) == 1

    run(main)


def test_who_gives_an_order_on_a_full_disk_is_told_what_is_left(tmp_path: Path) -> None:
    disk = FailingDisk()

    async def main() -> None:
        async with open_world(tmp_path / "data", disk=disk) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await world.core.store._log.rotate()
            disk.operations, disk.fail_at = 0, 2
            with pytest.raises(Refusal) as told:
                await erase(world, recipient=FRIEND)
            assert str(tmp_path / "data" / LOG_DIRECTORY) in told.value.message
            assert "`log strip` does the rest" in told.value.message
            assert await listed(world, f"?recipient={FRIEND}") == []
            assert names_in(tmp_path / "data", FRIEND) != []
            assert (await world.command("log_strip"))["messages"] == 0
            assert names_in(tmp_path / "data", FRIEND) == []

    run(main)


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_relay_killed_in_the_middle_finishes_at_its_next_start(
    tmp_path: Path, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the rename, when the index was corrected in part."""
    monkeypatch.setattr(fold, "MOVED_RECORDS_PER_TRANSACTION", 1)
    directory, copy = tmp_path / "data", tmp_path / "copy"

    async def main() -> None:
        async with open_world(directory) as world:
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(3)]
            for message_id in ids:
                await world.until_final(message_id)
            move = world.core.store._views.move

            def broken_off(*moved: Any) -> Any:
                for number, piece in enumerate(move(*moved)):
                    if number == pieces:
                        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("admin.sock"))
                    yield piece

            monkeypatch.setattr(world.core.store._views, "move", broken_off)
            await erase(world, message=ids[0])
        monkeypatch.undo()
        # Whoever looks now, with no relay running, is told what it is.
        told = CliRunner().invoke(cli, ["log", "verify", str(copy)])
        assert "a removal that was interrupted: index has old places of records" in told.output
        assert told.exit_code == 0, told.output
        async with open_world(copy, enrol=False) as again:
            await trio.testing.wait_all_tasks_blocked()
            assert names_in(copy / LOG_DIRECTORY, "friend0@example.com") == []
            assert [again.core.store.get(message_id).seq for message_id in ids] == ids
            assert isinstance(again.events()[-1], LogStripped)
        assert verify(copy / LOG_DIRECTORY, copy / VIEWS_DIRECTORY, PROJECTORS, decode).ok

    run(main)


def test_older_views_that_are_brought_back_learn_where_records_stand_now(tmp_path: Path) -> None:
    """They have seen neither the strip nor its crash, and nobody owes them anything: found by seed 10032."""
    directory, views, older = tmp_path / "data", tmp_path / "data" / VIEWS_DIRECTORY, tmp_path / "older"

    async def main() -> None:
        async with open_world(directory) as world:
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(3)]
            for message_id in ids:
                await world.until_final(message_id)
        shutil.copytree(views, older)
        async with open_world(directory, enrol=False) as world:
            await erase(world, message=ids[0])
        shutil.rmtree(views)
        shutil.copytree(older, views)
        async with open_world(directory, enrol=False) as world:  # which compares its index with a fresh one's
            assert world.core.store.get(ids[1]).event.personal.address == "friend1@example.com"

    run(main)


class FailsOnce(RealDisk):
    """The next sync of a directory fails, once it is told so: what a strip does last."""

    is_told = False

    def sync_directory(self, directory: Path) -> None:
        if self.is_told:
            self.is_told = False
            raise OSError(errno.EIO, "the disk was told to fail", str(directory))
        super().sync_directory(directory)


def test_a_disk_that_fails_in_the_last_step_leaves_an_index_that_is_right(tmp_path: Path) -> None:
    """The new segment has its name by then: found by seed 20510, whose relay stopped in order before the next try."""
    disk = FailsOnce()

    async def main() -> None:
        async with open_world(tmp_path / "data", disk=disk) as world:
            message_id = await world.send(to=FRIEND, text="x" * 300)
            await world.until_final(message_id)
            await world.core.store._log.rotate()
            disk.is_told = True
            with pytest.raises(Refusal, match="told to fail"):
                await erase(world, message=message_id)
            assert not disk.is_told
            assert not of_type(world, LogStripped)

    run(main)


def test_a_relay_that_stops_in_a_strip_leaves_an_index_that_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "MOVED_RECORDS_PER_TRANSACTION", 1)
    stopping = trio.CancelScope()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=f"friend{number}@example.com", text="x" * 300) for number in range(3)]
            for message_id in ids:
                await world.until_final(message_id)
            moves = world.core.store._views.move
            monkeypatch.setattr(
                world.core.store._views, "move", lambda *where: (stopping.cancel(), moves(*where))[1]
            )
            with stopping:
                await erase(world, message=ids[0])
            assert stopping.cancelled_caught
            assert not of_type(world, LogStripped)

    run(main)


def test_every_crash_of_a_strip_leaves_a_log_that_says_the_same(tmp_path: Path) -> None:
    """Power fails after every operation of the disk, from the event to the end, and any part of what was not synced
    survives. The views are lost as well, and are folded from what is there."""
    directory = tmp_path / "data"
    ids: list[int] = []

    async def live() -> None:
        async with open_world(directory) as world:
            for number in range(3):
                ids.append(await world.send(to=f"friend{number}@example.com", text="x" * 300))
                await world.until_final(ids[-1])

    run(live)
    log = directory / LOG_DIRECTORY
    disk = disk_with(log)
    crashes: dict[State, FakeDisk] = {}
    acknowledged: list[Record] = []

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            crashes.setdefault(crashed.state(), crashed)

    async def strip() -> None:
        async with open_core(directory, surroundings(disk)) as core:
            acknowledged.extend(core.store.records(1))
            disk.after_operation = crash_here
            await order(core, "log_erase", by="maria", reason="ticket", message=ids[0])
            disk.after_operation = None

    run(strip)
    assert len(crashes) > 40
    stages = {run_again(directory, crashed, acknowledged, ids[0]) for crashed in crashes.values()}
    assert stages == {"before", "owed", "settled"}


def surroundings(disk: Disk) -> Surroundings:
    return Surroundings(clock=virtual_clock, offload=call_here, disk=disk)


def disk_with(log: Path) -> FakeDisk:
    """A fake disk that holds the log's files."""
    disk = FakeDisk()
    place = disk.root
    for part in log.parts[1:]:
        below = Directory()
        place.content[part] = place.durable[part] = below
        place = below
    for path in log.glob("*.seg"):
        data = path.read_bytes()
        place.content[path.name] = place.durable[path.name] = File(bytearray(data), bytearray(data))
    return disk


def run_again(directory: Path, disk: FakeDisk, acknowledged: list[Record], erased_id: int) -> str:
    """Start after the crash, look, let what is owed be done, look again. Says how far the strip had come."""
    log = directory / LOG_DIRECTORY
    shutil.rmtree(directory / VIEWS_DIRECTORY)
    stage = ""

    async def main() -> None:
        nonlocal stage
        async with open_core(directory, surroundings(disk)) as core:
            check_records(list(core.store.records(1)), acknowledged, erased_id)
            found = [core.store.get(seq).event for seq in range(1, core.store.last_seq + 1)]
            has_event = any(isinstance(event, PayloadErased) for event in found)
            has_end = any(isinstance(event, LogStripped) for event in found)
            assert has_event or not has_end
            stage = "settled" if has_end else "owed" if has_event else "before"
            payloads = [core.store.get(seq).event.personal for seq in (erased_id - 1, erased_id)]
            if stage == "before":
                assert None not in payloads
            await retention.strip(core, 30)
            payloads = [core.store.get(seq).event.personal for seq in (erased_id - 1, erased_id)]
            assert payloads == [None, None] if has_event else None not in payloads
            check_records(list(core.store.records(1)), acknowledged, erased_id)
            live = core.store._views.digests()
        fresh = relay_views(directory / "fresh")
        fresh.open()
        with LogReader(log, disk=disk) as reader:
            fresh.catch_up(reader)
        assert fresh.digests() == live
        fresh.close()
        shutil.rmtree(directory / "fresh")

    run(main)
    return stage


def check_records(found: list[Record], acknowledged: list[Record], erased_id: int) -> None:
    assert len(found) >= len(acknowledged)
    for now, then in zip(found, acknowledged, strict=False):
        if now.stripped:
            assert now.payload is None
            now = now._replace(payload=then.payload, stripped=False)
        assert now._replace(segment=0, offset=0) == then._replace(segment=0, offset=0)
        assert then.seq >= erased_id - 1 or not now.stripped


def test_planted_payloads_that_go_before_their_event_are_found(tmp_path: Path) -> None:
    """The order is everything: payloads that go without their event leave views that the log does not give."""

    async def main() -> None:
        async with open_world(tmp_path / "data", stop=False) as world:
            message_id = await world.send(to=FRIEND)
            await world.until_final(message_id)
            await world.core.store._log.rotate()
            await world.core.store.erase_payloads({message_id})
        verdict = verify(
            tmp_path / "data" / LOG_DIRECTORY, tmp_path / "data" / VIEWS_DIRECTORY, PROJECTORS, decode
        )
        assert verdict.log.problems == []
        assert {view.name for view in verdict.views if not view.ok} == {
            "by_recipient",
            "recipient_of",
            "counted_at_receivers",
            "receiver_days",
            "receiver_hours",
        }

    run(main)
