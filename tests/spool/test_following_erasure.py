"""Payloads are erased on a machine that follows, and power fails at any step: receiving again brings none back."""

from __future__ import annotations

from functools import partial

from spool import Received
from spool.mark import read_mark
from tests.world.disk import FakeDisk, surviving_subsets
from tests.world.followers import appended_elsewhere, follow_fake
from tests.world.spool import DIRECTORY, read_all, run


def test_what_is_erased_stays_erased_after_every_crash() -> None:
    records, batches = appended_elsewhere(14)
    first_part, second_part = batches[:8], batches[8:]
    erased = {record.seq for record in records if record.payload and record.seq <= first_part[-1].last_seq}
    disk = FakeDisk()
    is_erased = False
    found: dict[tuple[object, bool], FakeDisk] = {}

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            found.setdefault((crashed.state(), is_erased), crashed)

    async def main() -> None:
        nonlocal is_erased
        async with follow_fake(disk) as log:
            await log.receive(first_part)
            disk.after_operation = crash_here
            await log.erase_payloads(erased)
            is_erased = True
            await log.receive(second_part)
            await log.sync()

    run(main)
    crash_here()
    assert len(found) > 100
    outcomes = set()
    for (_, was_erased), crashed in found.items():
        run(partial(receive_the_rest, crashed, batches))
        after = read_all(crashed)
        assert [record.chain for record in after] == [record.chain for record in records]
        stripped = {record.seq for record in after if record.stripped}
        assert stripped <= erased
        assert stripped == erased or not was_erased
        outcomes.add((was_erased, bool(stripped)))
    # Before, in the middle, and behind it.
    assert outcomes == {(False, False), (False, True), (True, True)}


async def receive_the_rest(disk: FakeDisk, batches: list[Received]) -> None:
    async with follow_fake(disk) as log:
        mark = read_mark(disk, DIRECTORY)
        assert mark is not None
        assert mark.seq == log.last_seq
        await log.receive([batch for batch in batches if batch.first_seq > log.last_seq])
