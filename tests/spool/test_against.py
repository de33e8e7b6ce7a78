"""Two logs are one, or part at a record that is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from spool import Entry, LogReader
from spool.verify.against import Compared, compare
from tests.world.disk import FakeDisk
from tests.world.spool import DIRECTORY, open_fake, run


def make(disk: FakeDisk, count: int, *, other_from: int | None = None) -> FakeDisk:
    """A log of so many records in several segments; from one on they are other ones."""

    async def main() -> None:
        async with open_fake(disk) as log:
            for number in range(1, count + 1):
                other = other_from is not None and number >= other_from
                await log.append([Entry(f"record {number}{' is another' * other}".encode(), b"p" * 700)])

    run(main)
    return disk


def compared(ours: FakeDisk, theirs: FakeDisk) -> Compared:
    with LogReader(DIRECTORY, disk=ours) as one, LogReader(DIRECTORY, disk=theirs) as other:
        return compare(one, other)


def test_the_same_log_is_the_same_as_far_as_both_go() -> None:
    ours, theirs = make(FakeDisk(), 20), make(FakeDisk(), 17)
    assert compared(ours, theirs) == (20, 17, 17, None)
    assert compared(theirs, ours) == (17, 20, 17, None)
    assert compared(ours, ours) == (20, 20, 20, None)


@pytest.mark.parametrize("at", [1, 2, 7, 16, 17])
def test_the_first_record_that_is_another_one_is_named(at: int) -> None:
    ours, theirs = make(FakeDisk(), 20), make(FakeDisk(), 17, other_from=at)
    assert compared(ours, theirs) == (20, 17, 17, at)


def test_an_empty_log_has_nothing_in_common_with_any() -> None:
    ours, empty = make(FakeDisk(), 3), make(FakeDisk(), 0)
    assert compared(ours, empty) == (3, 0, 0, None)
    assert compared(empty, empty) == (0, 0, 0, None)


def test_payloads_that_were_erased_make_no_difference(tmp_path: Path) -> None:
    ours, theirs = make(FakeDisk(), 20), make(FakeDisk(), 20)

    async def main() -> None:
        async with open_fake(theirs) as log:
            await log.erase_payloads({1, 2, 20})

    run(main)
    assert compared(ours, theirs) == (20, 20, 20, None)
