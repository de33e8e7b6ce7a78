"""A segment is never larger than it may be, its footer included, unless a single batch is."""

from __future__ import annotations

import pytest

from spool import Entry
from spool.record import entry_bytes
from spool.segment import FOOTER_BYTES, SEGMENT_HEADER_BYTES
from tests.world.disk import FakeDisk
from tests.world.spool import DIRECTORY, open_fake, run

SEGMENT_BYTES_MAX = 4096
FIRST = Entry(b"first", b"x" * 1000)
#: What is left for a second batch of one record, so that the segment is full with its footer behind it.
ROOM = SEGMENT_BYTES_MAX - SEGMENT_HEADER_BYTES - entry_bytes(FIRST) - FOOTER_BYTES

pytestmark = pytest.mark.usefixtures("form")


def segments_of(*batches: Entry) -> list[tuple[int, int]]:
    """Bytes and records of each segment after these, and one more that begins a new one in any case."""
    disk = FakeDisk()
    found: list[tuple[int, int]] = []

    async def main() -> None:
        async with open_fake(disk, segment_bytes_max=SEGMENT_BYTES_MAX, batch_bytes_max=8192) as log:
            for entry in batches:
                await log.append([entry])
            await log.rotate()
            found.extend((info.bytes, info.records) for info in log.reader.segments())
            sizes = [len(disk.file(DIRECTORY / info.file)) for info in log.reader.segments()]
            assert sizes == [bytes_ for bytes_, _ in found]

    run(main)
    return found


def second(bytes_: int) -> Entry:
    empty = Entry(b"second", b"")
    return Entry(b"second", b"y" * (bytes_ - entry_bytes(empty)))


def test_a_batch_that_leaves_just_the_room_for_the_footer_is_taken_in() -> None:
    assert segments_of(FIRST, second(ROOM))[0] == (SEGMENT_BYTES_MAX, 2)


@pytest.mark.parametrize("too_many", [1, 7, FOOTER_BYTES - 1, FOOTER_BYTES, FOOTER_BYTES + 1])
def test_one_that_does_not_begins_the_next_segment(too_many: int) -> None:
    found = segments_of(FIRST, second(ROOM + too_many))
    assert [records for _, records in found][:2] == [1, 1]
    assert all(bytes_ <= SEGMENT_BYTES_MAX for bytes_, _ in found)


def test_a_batch_that_is_larger_than_a_segment_has_one_of_its_own() -> None:
    large = Entry(b"large", b"z" * SEGMENT_BYTES_MAX)
    found = segments_of(FIRST, large)
    assert [records for _, records in found][:2] == [1, 1]
    assert found[1][0] > SEGMENT_BYTES_MAX
