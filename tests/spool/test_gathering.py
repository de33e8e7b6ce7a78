"""With a thread of its own, the writer lets others come before it takes a batch: all of them, but not without end."""

from __future__ import annotations

import pytest
import trio

from tests.world.disk import FakeDisk
from tests.world.process import PATIENCE_SECONDS
from tests.world.spool import group, open_fake

pytestmark = pytest.mark.usefixtures("form")


def test_with_a_thread_of_its_own_a_batch_waits_for_all_who_come_while_the_loop_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spool.writer.GATHER_SECONDS_MAX", 60.0)
    disk = FakeDisk()

    async def main() -> None:
        async def append_after(steps: int) -> None:
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            await log.append(group(1))

        async with open_fake(disk, offload=None, batch_bytes_max=1 << 20) as log:
            async with trio.open_nursery() as nursery:
                for steps in range(10):
                    nursery.start_soon(append_after, steps)
            assert log.statistics().batches == 1

    trio.run(main)


def test_a_batch_does_not_wait_for_a_loop_that_is_always_busy() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk, offload=None) as log, trio.open_nursery() as nursery:

            async def keep_busy() -> None:
                while True:
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(keep_busy)
            with trio.fail_after(PATIENCE_SECONDS):
                await log.append(group(1))
            nursery.cancel_scope.cancel()

    trio.run(main)
