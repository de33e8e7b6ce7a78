"""Payloads are erased from a log that is open: what is sealed and what is not yet, with an index and without, and on a
disk that fails. (What a crash in the middle leaves, `test_spool_strip` and `test_retention` enumerate.)"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool import DurableLog, ErasedSegment, Log, LogClosedError, LogReader, Record, erasure, strip
from spool.directory import TORN_NAME, segment_seqs, segments_bytes
from spool.segment import segment_name
from tests.world.disk import FakeDisk
from tests.world.gate import Gate
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

pytestmark = pytest.mark.usefixtures("form")
#: Of what this form alone does with the disk.
on_disk = pytest.mark.parametrize("form", ["disk"], indirect=True)


class Index:
    """Where records stand, in a dict."""

    def __init__(self) -> None:
        self.places: dict[int, tuple[int, int]] = {}
        self.corrected = 0

    def see(self, records: Sequence[Record]) -> None:
        self.places.update({record.seq: (record.segment, record.offset) for record in records})

    def locate(self, seq: int) -> tuple[int, int] | None:
        return self.places.get(seq)

    def move(self, segment: int, offsets: Sequence[int], end_offset: int) -> Iterator[None]:
        for seq, offset in enumerate(offsets, segment):
            self.places[seq] = (segment, offset)
            yield

    def correct_index(self, reader: LogReader) -> None:
        self.see(list(reader.read(1)))
        self.corrected += 1

    def check(self, disk: FakeDisk) -> None:
        """Every record is found where it stands."""
        assert self.places == {record.seq: (record.segment, record.offset) for record in read_all(disk)}


async def fill(log: Log, appends: int = 18) -> list[Record]:
    """Two segments full, and a third one open."""
    records: list[Record] = []
    for number in range(1, appends + 1):
        records += await log.append(group(number, 1 + number % 2))
    return records


def test_payloads_go_from_sealed_segments_and_from_the_open_one() -> None:
    disk, index = FakeDisk(), Index()

    async def main() -> None:
        async with open_fake(disk, index=index, on_durable=index.see) as opened:
            log: DurableLog = opened
            records = await fill(opened)
            first, second, third = segment_seqs(disk, DIRECTORY)
            with_payload = [record.seq for record in records if record.payload is not None]
            gone = {with_payload[0], with_payload[1], with_payload[-1]}
            assert max(gone) > third
            before = log.size_bytes()
            assert before == segments_bytes(disk, DIRECTORY) - 2 * 88 - 2 * 80  # but for what is no record

            erased = await log.erase_payloads(gone)
            assert [(item.file, item.payloads) for item in erased] == [
                (segment_name(first), 2),
                (segment_name(third), 1),
            ]
            assert segment_seqs(disk, DIRECTORY) == [first, second, third, records[-1].seq + 1]
            assert before - log.size_bytes() == sum(item.bytes_freed for item in erased) > 0
            for record in records:
                found = log.get(record.seq)
                assert found.stripped == (record.seq in gone)
                assert found.payload == (None if record.seq in gone else record.payload)
                assert found.chain == record.chain
            assert [record.stripped for record in log.read(1)] == [record.seq in gone for record in records]
            index.check(disk)

            again = await log.erase_payloads(gone)
            assert again == [ErasedSegment(item.file, 0, 0) for item in erased]
            assert await log.erase_payloads(()) == []
            await log.append(group(99))
            index.check(disk)
        with pytest.raises(LogClosedError):
            await log.erase_payloads(gone)
        assert disk.open_handles() == 0

    run(main)


def test_it_pauses_for_others_unless_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[bool] = []
    monkeypatch.setattr(strip, "RECORDS_PER_PAUSE", 1)
    monkeypatch.setattr(erasure, "_let_others_work", lambda: pauses.append(True))

    async def main() -> None:
        async with open_fake(FakeDisk()) as log:
            records = await fill(log)
            first, *others = [record.seq for record in records if record.payload is not None]
            assert (await log.erase_payloads({first}, alone=True))[0].payloads == 1
            assert not pauses
            assert (await log.erase_payloads(set(others)))[0].payloads > 0
            assert pauses

    run(main)


def test_without_an_index_records_are_found_all_the_same() -> None:
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk) as log:
            records = await fill(log)
            assert log.get(1).payload is not None  # and its file stays open
            await log.erase_payloads({1})
            assert log.get(1) == records[0]._replace(payload=None, stripped=True)
            assert [record.seq for record in log.read(1)] == [record.seq for record in records]

    run(main)


@on_disk
def test_a_disk_that_fails_in_the_last_step_leaves_an_index_that_is_right() -> None:
    """The new segment has its name by then."""
    disk, index = FakeDisk(), Index()

    async def main() -> None:
        async with open_fake(disk, index=index, on_durable=index.see) as log:
            await fill(log)
            disk.fail_at = disk.operations + 6  # create, write, write, sync, rename, sync of the directory
            with pytest.raises(OSError, match=f"sync {DIRECTORY.name}/"):
                await log.erase_payloads({1})
            assert index.corrected == 1
            index.check(disk)
            assert log.get(1).payload is None
            assert not log.poisoned
            assert (await log.erase_payloads({1}))[0].payloads == 0

    run(main)


def test_appends_and_reads_go_on_while_a_segment_is_rewritten() -> None:
    disk, index = FakeDisk(), Index()

    async def main() -> None:
        gate = Gate()
        async with open_fake(disk, index=index, on_durable=index.see, offload=gate.offload) as log:
            records = await fill(log)
            async with trio.open_nursery() as nursery:
                gate.shut()
                nursery.start_soon(log.erase_payloads, {1})
                await wait_all_tasks_blocked()
                nursery.start_soon(log.append, group(99))
                await wait_all_tasks_blocked()
                assert log.get(1) == records[0]
                gate.open()
            assert log.get(1).stripped
            index.check(disk)

    run(main)


def test_copies_of_torn_tails_go_by_name_or_by_what_is_in_them() -> None:
    disk = FakeDisk()
    folder = DIRECTORY / TORN_NAME

    async def main() -> None:
        async with open_fake(disk) as log:
            assert await log.remove_torn_copies(lambda name, data: True) == 0
            disk.make_directory(folder)
            for name, data in (("1-80.bytes", b"anna"), ("1-960.bytes", b"bert"), ("7-80.bytes", b"anna")):
                handle = disk.create(folder / name)
                disk.write(handle, data, 0)
                disk.close(handle)
            for made in (DIRECTORY, folder):
                disk.sync_directory(made)
            assert await log.remove_torn_copies(lambda name, data: name.startswith("1-80.")) == 1
            assert await log.remove_torn_copies(lambda name, data: data == b"anna") == 1
            assert disk.list_names(folder) == ["1-960.bytes"]
            assert disk.crash(frozenset()).list_names(folder) == ["1-960.bytes"]  # what is gone stays gone

    run(main)
