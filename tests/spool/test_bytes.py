"""Every bit of a log flipped, every length of every file cut: nothing is lost in silence.

What may happen is a `CorruptionError` that names the place, or, for the last batch when nobody remembers
that it was acknowledged, a torn tail. Nothing else: no record that was not written, no other exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from spool import CorruptionError, Record, Witness
from spool.record import Entry, encode_record, make_record, next_chain
from spool.recovery import Action
from spool.repair import inspect
from spool.segment import FOOTER_BYTES, SEGMENT_HEADER_BYTES, Walk, decode_segment_header
from tests.world.disk import FakeDisk
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

FIRST = DIRECTORY / "00000000000000000001.seg"
LAST = DIRECTORY / "00000000000000000007.seg"


@cache
def written() -> tuple[FakeDisk, list[Record]]:
    """Two segments of a few small batches: one record or several, payloads present, empty and absent."""
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk, segment_bytes_max=1200, batch_bytes_max=1000) as log:
            for number, size in enumerate((2, 1, 2, 1, 2, 3), start=1):
                await log.append(group(number, size, payload_bytes=20))

    run(main)
    assert [name for name in disk.list_names(DIRECTORY) if name.endswith(".seg")] == [FIRST.name, LAST.name]
    records = read_all(disk)
    assert {record.payload and record.payload[:0] for record in records} == {None, b""}
    assert b"" in [record.payload for record in records]
    return disk.copy(), records


def witness_of(record: Record) -> Witness:
    assert record.batch_end
    return Witness(record.segment, record.end_offset, record.seq)


def place(path: Path, offset: int, records: list[Record]) -> tuple[int, int]:
    """The offset and sequence that an error about this byte must name."""
    first, last = (1, 6) if path == FIRST else (7, records[-1].seq)
    if offset < SEGMENT_HEADER_BYTES:
        return 0, first
    for record in records[first - 1 : last]:
        if record.offset <= offset < record.end_offset:
            return record.offset, record.seq
    return records[last - 1].end_offset, last + 1


def flips(content: bytearray) -> Iterator[int]:
    """Flips each bit in turn, and back again."""
    for offset in range(len(content)):
        for bit in range(8):
            content[offset] ^= 1 << bit
            yield offset
            content[offset] ^= 1 << bit


@pytest.mark.parametrize("path", [FIRST, LAST], ids=["sealed", "open"])
def test_every_flipped_bit_is_found_and_named(path: Path) -> None:
    disk, records = written()
    disk = disk.copy()
    for offset in flips(disk.file(path)):
        with pytest.raises(CorruptionError) as caught:
            inspect(disk, DIRECTORY, witness_of(records[-1]))
        error = caught.value
        assert (error.offset, error.seq) == place(path, offset, records)
        assert error.file == path.name
        assert str(error) == (
            f"segment {error.file} offset {error.offset} sequence {error.seq}: {error.problem}"
        )


def test_without_a_witness_only_the_last_batch_can_be_taken_for_torn() -> None:
    disk, records = written()
    disk = disk.copy()
    last_batch = next(record for record in records if record.seq == records[-1].batch_seq)
    for offset in flips(disk.file(LAST)):
        if offset < last_batch.offset:
            with pytest.raises(CorruptionError) as caught:
                inspect(disk, DIRECTORY, None)
            assert (caught.value.offset, caught.value.seq) == place(LAST, offset, records)
        else:
            plan = inspect(disk, DIRECTORY, None)
            assert plan.row.action is Action.CUT
            assert plan.tail is not None
            assert plan.tail.end.offset == last_batch.offset
            assert plan.tail.end.next_seq == last_batch.seq
            assert not plan.loss_ruled_out


@pytest.mark.parametrize("path", [FIRST, LAST], ids=["sealed", "open"])
def test_a_reader_never_hands_out_a_damaged_record(path: Path) -> None:
    disk, records = written()
    disk = disk.copy()
    content = disk.file(path)
    last_batch = next(record for record in records if record.seq == records[-1].batch_seq)
    for offset in range(len(content)):
        content[offset] ^= 1 << offset % 8
        found: list[Record] = []
        if path == LAST and offset >= last_batch.offset:
            found = read_all(disk)
            assert found == records[: last_batch.seq - 1]
        else:
            with pytest.raises(CorruptionError) as caught:
                read_all(disk)
            error = caught.value
            assert (error.offset, error.seq) == place(path, offset, records)
            assert error.file == path.name
        content[offset] ^= 1 << offset % 8


def test_every_cut_of_a_sealed_segment_is_corruption() -> None:
    disk, records = written()
    disk = disk.copy()
    content = disk.file(FIRST)
    whole = bytes(content)
    for size in range(len(whole)):
        content[:] = whole[:size]
        for witness in (None, witness_of(records[-1])):
            with pytest.raises(CorruptionError, match=FIRST.name):
                inspect(disk, DIRECTORY, witness)


def test_every_cut_of_the_last_segment() -> None:
    disk, records = written()
    disk = disk.copy()
    content = disk.file(LAST)
    whole = bytes(content)
    ends = {record.end_offset for record in records if record.batch_end and record.segment == 7}
    remembered = next(record for record in records if record.batch_end and record.segment == 7)
    for size in range(len(whole)):
        content[:] = whole[:size]
        with pytest.raises(CorruptionError, match=LAST.name):
            inspect(disk, DIRECTORY, witness_of(records[-1]))
        if size < SEGMENT_HEADER_BYTES:
            with pytest.raises(CorruptionError, match=f"segment {LAST.name} offset 0 sequence 7"):
                inspect(disk, DIRECTORY, None)
            continue
        end = max((end for end in ends if end <= size), default=SEGMENT_HEADER_BYTES)
        torn = size != end
        for witness in (None, witness_of(records[5]), witness_of(remembered)):
            if witness is not None and witness.segment == 7 and witness.end_offset > size:
                with pytest.raises(CorruptionError):
                    inspect(disk, DIRECTORY, witness)
                continue
            plan = inspect(disk, DIRECTORY, witness)
            assert plan.row.action is (Action.CUT if torn else Action.APPEND)
            assert plan.tail is not None
            assert plan.tail.end.offset == end
            assert plan.loss_ruled_out == (witness is not None)


def test_a_sealed_last_segment_can_lose_no_record() -> None:
    """As after a crash in the middle of a rotation. Its footer can be taken for torn, and is written again."""
    disk, records = written()
    disk = disk.copy()
    disk.remove(LAST)
    end = records[5].end_offset
    for offset in flips(disk.file(FIRST)):
        if offset < end:
            with pytest.raises(CorruptionError) as caught:
                inspect(disk, DIRECTORY, None)
            assert (caught.value.offset, caught.value.seq) == place(FIRST, offset, records)
        else:
            plan = inspect(disk, DIRECTORY, None)
            assert plan.row.action is Action.CUT
            assert plan.tail is not None
            assert plan.tail.end.offset == end


def test_what_follows_a_footer_is_corruption() -> None:
    disk, records = written()
    disk = disk.copy()
    disk.file(FIRST).extend(bytes(8))
    for _ in range(2):
        with pytest.raises(CorruptionError) as caught:
            inspect(disk, DIRECTORY, None)
        assert caught.value.problem.startswith("bytes follow the footer")
        assert caught.value.offset == len(disk.file(FIRST)) - 8
        assert caught.value.seq == records[5].seq + 1
        # The same when the sealed segment is the last, as after a crash in the middle of a rotation.
        if LAST.name in disk.list_names(DIRECTORY):
            disk.remove(LAST)


def forged(seed: int, seq: int) -> bytes:
    """A record that would belong to a later batch than the one that carries it as a payload."""
    record = make_record(
        Entry(b"forged"),
        seq=seq,
        time_us=1 << 60,
        batch_seq=seq,
        batch_end=True,
        previous_chain=bytes(32),
        segment=1,
        offset=0,
    )
    return b"".join(encode_record(record, seed))


@pytest.mark.parametrize(
    ("salt_known", "seq", "believed"),
    [(False, 3, False), (True, 3, True), (True, 1 << 40, False), (True, 2, False)],
    ids=["salt unknown", "salt known", "too far ahead", "not later"],
)
def test_a_payload_cannot_pass_for_a_record(salt_known: bool, seq: int, believed: bool) -> None:
    """A stranger who sends a record as a mail must not be able to make a torn tail look like corruption. The
    second case shows that it is the salt that prevents it."""
    disk = FakeDisk()
    salt = bytes(range(16))

    async def first() -> None:
        async with open_fake(disk, new_salt=lambda: salt) as log:
            await log.append([Entry(b"first", None)])

    run(first)
    content = disk.file(FIRST)
    header = decode_segment_header(bytes(content), 1)
    payload = forged(header.seed if salt_known else 0, seq) * 9

    async def second() -> None:
        async with open_fake(disk) as log:
            await log.append([Entry(b"carrier", payload)])

    run(second)
    assert read_all(disk)[1].payload == payload
    torn_at = read_all(disk)[1].offset
    content[torn_at + 20] ^= 1
    if believed:
        with pytest.raises(CorruptionError):
            inspect(disk, DIRECTORY, None)
    else:
        assert inspect(disk, DIRECTORY, None).row.action is Action.CUT


def test_a_copy_of_an_earlier_record_proves_nothing() -> None:
    """Even the genuine bytes of a record, salt and all: it is of an earlier batch."""
    disk = FakeDisk()

    async def main() -> None:
        async with open_fake(disk) as log:
            (record,) = await log.append([Entry(b"first", b"payload")])
            copy = bytes(disk.file(FIRST)[record.offset : record.end_offset])
            await log.append([Entry(b"carrier", copy * 5)])

    run(main)
    content = disk.file(FIRST)
    content[read_all(disk)[1].offset] ^= 1
    plan = inspect(disk, DIRECTORY, None)
    assert plan.row.action is Action.CUT
    assert plan.tail is not None
    assert plan.tail.end.next_seq == 2


def test_stripping_a_payload_leaves_the_chain_whole() -> None:
    disk, records = written()
    content = bytes(disk.file(FIRST))
    header = decode_segment_header(content, 1)
    stripped = [record._replace(payload=None, stripped=record.payload is not None) for record in records[:6]]
    body = b"".join(piece for record in stripped for piece in encode_record(record, header.seed))
    data = content[:SEGMENT_HEADER_BYTES] + body
    walk = Walk(header)
    found = list(walk.records(data, 0))
    assert walk.finish(len(data)) is None
    assert [record.chain for record in found] == [record.chain for record in records[:6]]
    assert [record.payload_sha256 for record in found] == [record.payload_sha256 for record in records[:6]]
    assert [record.stripped for record in found] == [record.payload is not None for record in records[:6]]
    assert len(data) < len(content) - FOOTER_BYTES


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"seq": 5}, "sequence 5 stands where 4 belongs"),
        ({"batch_seq": 3}, "batch 3 stands where batch 4 belongs"),
        ({"time_us": 1}, "its time is before"),
        ({"chain": bytes(32)}, "its chain value does not follow"),
        ({"skeleton": b"other"}, "its chain value does not follow"),
        ({"payload_sha256": bytes(32)}, "the SHA-256 of the payload"),
        ({"payload": b"other"}, "the SHA-256 of the payload"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_checksums_alone_are_not_enough(changed: dict[str, Any], problem: str) -> None:
    """Bytes that were written so, and should not have been."""
    disk, records = written()
    header = decode_segment_header(bytes(disk.file(FIRST)), 1)
    fourth = records[3]
    assert fourth.payload is not None
    if "seq" in changed or "batch_seq" in changed or "time_us" in changed:
        changed = changed | {"chain": chain_of(fourth._replace(**changed), records[2].chain)}
    data = bytes(disk.file(FIRST)[: fourth.offset])
    data += b"".join(encode_record(fourth._replace(**changed), header.seed))
    walk = Walk(header)
    assert list(walk.records(data, 0)) == records[:3]
    assert walk.fault is not None
    assert (walk.fault.offset, walk.fault.seq) == (fourth.offset, 4)
    assert walk.fault.problem.startswith(problem)


def chain_of(record: Record, previous: bytes) -> bytes:
    return next_chain(
        previous,
        record.seq,
        record.time_us,
        record.batch_seq,
        record.batch_end,
        record.skeleton,
        record.payload_sha256,
    )
