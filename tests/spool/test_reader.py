"""Readers: whole batches only, in sequence, whatever the writer is doing meanwhile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio

from spool import Entry, LogReader, Record, SequenceNotFoundError, repair, segment
from spool import reader as reader_module
from spool.directory import segment_seqs
from spool.errors import CorruptionError
from spool.reader import Cursor
from spool.record import crc32c, encode_record
from spool.segment import (
    Position,
    decode_segment_header,
    encode_footer,
    encode_segment_header,
    seal,
    segment_name,
)
from tests.world.disk import FakeDisk
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

pytestmark = pytest.mark.usefixtures("form")


def fill(disk: FakeDisk, appends: int = 12, **options: Any) -> list[Record]:
    async def main() -> None:
        async with open_fake(disk, **options) as log:
            for number in range(1, appends + 1):
                await log.append(group(number, 1 + number % 3))

    run(main)
    return read_all(disk)


def test_any_range() -> None:
    disk = FakeDisk()
    records = fill(disk)
    before = disk.operations
    last = records[-1].seq
    with LogReader(DIRECTORY, disk=disk) as reader:
        for from_seq in range(last + 3):
            assert list(reader.read(from_seq)) == records[max(from_seq, 1) - 1 :]
            assert list(reader.read(from_seq, last - 3)) == records[max(from_seq, 1) - 1 : last - 3]
    assert disk.operations == before
    assert disk.open_handles() == 0


def test_what_lies_behind_the_range_may_be_damaged() -> None:
    disk = FakeDisk()
    records = fill(disk)
    fifth, sixth = records[4:6]
    assert fifth.segment == sixth.segment
    handle = disk.open_write(DIRECTORY / segment_name(sixth.segment))
    disk.write(handle, b"damaged!", sixth.offset)
    disk.close(handle)
    with LogReader(DIRECTORY, disk=disk) as reader:
        for to_seq in (3, 5):
            assert list(reader.read(1, to_seq)) == records[:to_seq]
        with pytest.raises(CorruptionError):
            list(reader.read(1, 6))


def test_get_walks_where_nobody_knows_the_place_and_goes_there_where_somebody_does() -> None:
    disk = FakeDisk()
    records = fill(disk)
    index = {record.seq: (record.segment, record.offset) for record in records}
    for locate in (None, index.get, lambda seq: None, lambda seq: (1, 80), lambda seq: (999, 80)):
        with LogReader(DIRECTORY, disk=disk, locate=locate) as reader:
            assert [reader.get(record.seq) for record in records] == records
            assert list(reader.read(9)) == records[8:]
            for absent in (0, records[-1].seq + 1):
                with pytest.raises(SequenceNotFoundError):
                    reader.get(absent)
    assert disk.open_handles() == 0


def test_open_files_are_bounded() -> None:
    disk = FakeDisk()
    records = fill(disk, appends=60)
    index = {record.seq: (record.segment, record.offset) for record in records}
    assert len(segment_seqs(disk, DIRECTORY)) > 9
    with LogReader(DIRECTORY, disk=disk, locate=index.get) as reader:
        for record in records:
            assert reader.get(record.seq) == record
            assert disk.open_handles() <= 8


def test_nothing_beyond_the_limit() -> None:
    disk = FakeDisk()
    records = fill(disk)
    end = 0
    with LogReader(DIRECTORY, disk=disk, limit=lambda: end) as reader:
        for end in (record.seq for record in records if record.batch_end):
            assert list(reader.read(1)) == records[:end]
            with pytest.raises(SequenceNotFoundError):
                reader.get(end + 1)


def test_a_batch_longer_than_a_chunk() -> None:
    disk = FakeDisk()
    batch = [Entry(b"%d" % number, bytes(100_000)) for number in range(8)]

    async def main() -> Sequence[Record]:
        async with open_fake(disk, segment_bytes_max=1 << 21, batch_bytes_max=1 << 20) as log:
            await log.append([Entry(b"first")])
            return [*log.reader.read(1), *(await log.append(batch)), *(await log.append([Entry(b"last")]))]

    assert run(main) == read_all(disk)


class InPieces(FakeDisk):
    """A write becomes visible a little at a time."""

    def write(self, handle: int, data: bytes, offset: int) -> None:
        for start in range(0, len(data), 200):
            super().write(handle, data[start : start + 200], offset + start)


@pytest.mark.parametrize("chunk_bytes", [200, 512, 999, 2048])
def test_no_record_is_verified_twice_wherever_chunks_end(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FakeDisk()
    records = fill(disk)
    verified = []

    def decode_counted(*arguments: Any) -> Record | None:
        record = decode_record(*arguments)
        verified.extend([] if record is None else [record.seq])
        return record

    decode_record = segment.decode_record
    monkeypatch.setattr(segment, "decode_record", decode_counted)
    monkeypatch.setattr(reader_module, "_CHUNK_BYTES", chunk_bytes)
    with LogReader(DIRECTORY, disk=disk) as reader:
        assert list(reader.read(1)) == records
    assert verified == [record.seq for record in records]


@pytest.mark.parametrize("chunk_bytes", range(200, 1400, 100))
def test_a_batch_that_was_begun_may_be_cut_before_the_next_look(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = FakeDisk()
    fill(disk, 6, segment_bytes_max=1 << 20)
    file = tmp_path / segment_name(1)
    file.write_bytes(disk.file(DIRECTORY / file.name))
    monkeypatch.setattr(reader_module, "_CHUNK_BYTES", chunk_bytes)
    with LogReader(tmp_path) as reader:
        cursor = Cursor(reader, 1)
        seen = cursor.advance()
        assert seen
        assert seen[-1].batch_end
        os.truncate(file, seen[-1].end_offset)
        assert cursor.advance() == []
        assert cursor.seq == seen[-1].seq + 1


def test_a_reader_beside_the_writer_sees_whole_batches_as_they_come() -> None:
    disk = InPieces()
    seen: list[Record] = []
    cursor = Cursor(LogReader(DIRECTORY, disk=disk), 1)

    def look() -> None:
        while records := cursor.advance():
            seen.extend(records)
            assert seen[-1].batch_end
        assert read_all(disk) == seen

    disk.after_operation = look
    assert fill(disk) == seen


class Moving:
    """The disk that a reader in another process sees: with each call the writer is some operations further."""

    def __init__(self, moments: list[dict[str, bytes]], pace: int) -> None:
        self.moments = moments
        self.pace = pace
        self.now = 0
        self.names: dict[int, str] = {}

    def files(self) -> dict[str, bytes]:
        self.now = min(self.now + self.pace, len(self.moments) - 1)
        return self.moments[self.now]

    def list_names(self, directory: Path) -> Sequence[str]:
        return sorted(self.files())

    def open_read(self, path: Path) -> int:
        handle = len(self.names)
        self.names[handle] = path.name
        return handle

    def read(self, handle: int, length: int, offset: int) -> bytes:
        return self.files()[self.names[handle]][offset : offset + length]

    def size(self, handle: int) -> int:
        return len(self.files()[self.names[handle]])

    def close(self, handle: int) -> None:
        pass


@pytest.mark.parametrize("pace", [1, 2, 3, 5, 8, 13, 40])
def test_the_writer_may_move_on_between_any_two_looks(pace: int) -> None:
    """What looked torn and then had something behind it had only been looked at too early: no false alarm."""
    disk = InPieces()
    moments: list[dict[str, bytes]] = []

    def remember() -> None:
        names = [name for name in disk.list_names(DIRECTORY) if name.endswith(".seg")]
        moments.append({name: bytes(disk.file(DIRECTORY / name)) for name in names})

    disk.after_operation = remember
    records = fill(disk)
    moving: Any = Moving(moments, pace)
    cursor = Cursor(LogReader(DIRECTORY, disk=moving), 1)
    seen: list[Record] = []
    while moving.now < len(moments) - 1 or len(seen) < len(records):
        seen.extend(cursor.advance())
        assert seen == records[: len(seen)]


def test_a_reader_outlives_a_cut_and_even_a_replaced_segment() -> None:
    """Another process follows the log while the relay crashes in its very first batch and starts again."""
    disk = FakeDisk()
    fill(disk, appends=0)
    (name,) = (name for name in disk.list_names(DIRECTORY) if name.endswith(".seg"))
    cursor = Cursor(LogReader(DIRECTORY, disk=disk), 1)
    assert cursor.advance() == []
    disk.file(DIRECTORY / name).extend(b"torn" * 64)
    assert cursor.advance() == []

    async def main() -> None:
        async with open_fake(disk, new_salt=lambda: b"another salt 16b") as log:
            await log.append(group(1))

    run(main)
    records = cursor.advance()
    assert [record.seq for record in records] == [1]
    disk.file(DIRECTORY / name).extend(b"torn" * 64)
    assert cursor.advance() == []
    repair(DIRECTORY, disk=disk)
    assert cursor.advance() == []
    assert [record.seq for record in fill(disk, appends=1)[1:]] == [2, 3]
    assert [record.seq for record in cursor.advance()] == [2, 3]


def strip(disk: FakeDisk, first_seq: int) -> list[Record]:
    """Replace a sealed segment by one without payloads, under a new salt."""
    path = DIRECTORY / segment_name(first_seq)
    with LogReader(DIRECTORY, disk=disk) as reader:
        records = [record for record in reader.read(first_seq) if record.segment == first_seq]
    old = decode_segment_header(bytes(disk.file(path)), first_seq)
    header = old._replace(salt=b"after stripping.")
    data = encode_segment_header(header)
    stripped = []
    for record in records:
        record = record._replace(payload=None, stripped=record.payload is not None, offset=len(data))
        data += b"".join(encode_record(record, header.seed))
        stripped.append(record)
    end = Position(first_seq, len(data), records[-1].seq + 1, records[-1].chain, records[-1].time_us)
    footer = seal(end, crc32c(0, data))._replace(stripped=True)
    tmp = path.with_suffix(".tmp")
    handle = disk.create(tmp)
    disk.write(handle, data + encode_footer(footer, header.seed), 0)
    disk.close(handle)
    disk.rename(tmp, path)
    return stripped


def test_stripping_under_readers_that_have_the_file_open() -> None:
    disk = FakeDisk()
    records = fill(disk)
    index = {record.seq: (record.segment, record.offset) for record in records}
    first = [record for record in records if record.segment == 1]
    behind = Cursor(LogReader(DIRECTORY, disk=disk, limit=lambda: first[-1].seq), 1)
    with LogReader(DIRECTORY, disk=disk, locate=index.get) as reader:
        assert reader.get(2) == records[1]
        assert behind.advance() == first
        assert behind.advance() == []
        stripped = strip(disk, 1)
        # As long as the index has the old places, an open file is as good as ever, and a new reader walks.
        assert reader.get(2) == records[1]
        assert LogReader(DIRECTORY, disk=disk, locate=index.get).get(2) == stripped[1]
        index.update({record.seq: (record.segment, record.offset) for record in stripped})
        assert reader.get(2) == stripped[1]
        assert reader.get(2) == stripped[1]
        behind._reader.limit = None
        assert behind.advance() == [r for r in records if r.segment == records[len(first)].segment]
        assert list(reader.read(1)) == [*stripped, *records[len(first) :]]
        assert [info.stripped for info in reader.segments()][:2] == [True, False]
    behind.close()
    assert repair(DIRECTORY, disk=disk).last_seq == records[-1].seq


def test_follow_from_another_process_polls() -> None:
    disk = FakeDisk()
    seen: list[int] = []

    async def main() -> None:
        async with open_fake(disk) as log, trio.open_nursery() as nursery:

            async def follow() -> None:
                reader = LogReader(DIRECTORY, disk=disk)
                async with aclosing(reader.follow(1, poll_seconds=0.01)) as records:
                    async for record in records:
                        seen.append(record.seq)
                        if record.seq == 40:
                            return

            nursery.start_soon(follow)
            for number in range(40):
                await log.append(group(number))

    # Without the mock clock, because the reader really uses a thread.
    trio.run(main)
    assert seen == list(range(1, 41))


def test_segments() -> None:
    disk = FakeDisk()
    records = fill(disk)
    infos = LogReader(DIRECTORY, disk=disk).segments()
    assert [info.first_seq for info in infos] == segment_seqs(disk, DIRECTORY)
    assert infos[-1].last_seq == records[-1].seq
    assert sum(info.records for info in infos) == len(records)
    assert [info.sealed for info in infos] == [True] * (len(infos) - 1) + [False]
    assert not any(info.stripped for info in infos)
    for info in infos:
        assert info.bytes == len(disk.file(DIRECTORY / info.file))
