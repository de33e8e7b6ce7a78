"""Machines that have one log, on a real disk with real views: both at work; one that was killed and lost its end."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import trio

from relay.codec import encode
from relay.views import relay_views
from spool import Dropped, LogReader, Received, open_log
from spool.disk import RealDisk
from spool.mark import read_mark
from spool.segment import segment_name
from tests.world.agreed import InMemory
from tests.world.small_log import STORY, send


class Machine:
    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.views = relay_views(directory / "views")

    def open(self) -> Any:
        return open_log(
            self.directory / "log",
            witness=self.views.open,
            on_recovered=lambda log: self.views.catch_up(log.reader),
            on_durable=self.views.apply,
            index=self.views,
            segment_bytes_max=2000,
            batch_bytes_max=1800,
            follows=True,
        )


def test_threads_of_its_own_write_sync_and_seal_beside_each_other(tmp_path: Path) -> None:
    agreed: list[Received] = []
    last_seq = 1 + 3 * 20 * 3
    first, second = Machine(tmp_path / "first"), Machine(tmp_path / "second")

    async def main() -> None:
        async with first.open() as leader, second.open() as follower, trio.open_nursery() as nursery:
            leader.lead(InMemory(leader, agreed))
            await leader.append([encode(event) for event in STORY[0]])

            async def append() -> None:
                for _ in range(20):
                    await leader.append([encode(event) for event in send(recipients=2)])

            async def receive() -> None:
                while follower.last_seq < last_seq:
                    await follower.receive([batch for batch in agreed if batch.first_seq > follower.last_seq])
                    await follower.sync()
                nursery.cancel_scope.cancel()

            async def sync() -> None:
                while True:
                    await leader.sync()

            nursery.start_soon(sync)
            nursery.start_soon(receive)
            async with trio.open_nursery() as appending:
                for _ in range(3):
                    appending.start_soon(append)
            await trio.sleep_forever()
        assert leader.last_chain == follower.last_chain
        assert leader.last_seq == last_seq

    trio.run(main)
    assert first.views.digests() == second.views.digests()
    for machine in (first, second):
        machine.views.close()
        mark = read_mark(RealDisk(), machine.directory / "log")
        assert mark is not None
        assert mark.seq == last_seq


def digests_of(directory: Path, batches: list[Received]) -> dict[str, str]:
    """Of views that have seen nothing else."""
    machine = Machine(directory)

    async def main() -> None:
        async with machine.open() as log:
            await log.receive(batches)

    trio.run(main)
    digests = machine.views.digests()
    machine.views.close()
    return {name: digest for name, digest in digests.items() if name != "index"}


def test_views_that_are_ahead_of_what_is_left_are_made_again(tmp_path: Path) -> None:
    agreed: list[Received] = []
    killed = tmp_path / "killed"

    async def lead() -> None:
        machine = Machine(tmp_path / "first")
        async with machine.open() as log:
            log.lead(InMemory(log, agreed))
            for number, batch in enumerate(STORY):
                await log.append([encode(event) for event in batch])
                if number == 2:
                    assert await log.sync() == 6
            # Everything but the lock is as a process that is killed here leaves it.
            shutil.copytree(tmp_path / "first", killed)
        machine.views.close()

    trio.run(lead)
    mark = read_mark(RealDisk(), killed / "log")
    assert mark is not None
    assert mark.seq == 6
    cut_inside(killed / "log", 9)

    async def follow() -> None:
        machine = Machine(killed)
        async with machine.open() as log:
            assert log.last_seq == 8
            assert log.recovery.dropped == Dropped(seq=9, size=50, files=1)
            assert machine.views.rebuilt_because == "they were made from another log"
            assert machine.views.position == 8
            await log.receive([batch for batch in agreed if batch.first_seq > 8])
            assert machine.views.position == 10
        digests.update(machine.views.digests())
        machine.views.close()

    digests: dict[str, str] = {}
    trio.run(follow)
    expected = digests_of(tmp_path / "other", agreed)
    assert {name: digests[name] for name in expected} == expected


def cut_inside(log: Path, seq: int) -> None:
    """The file ends 50 bytes behind the beginning of this record."""
    with LogReader(log) as reader:
        record = reader.get(seq)
    os.truncate(log / segment_name(record.segment), record.offset + 50)
