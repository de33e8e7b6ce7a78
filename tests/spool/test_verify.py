"""`spool.verify.verify` finds every damaged byte, says where it is, and takes nothing unfinished for damage."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb
import pytest
import trio

import spool.verify.verify
from spool import Entry, LogReader, Record, Witness, open_log, strip_segment
from spool.disk import RealDisk
from spool.record import HEADER_BYTES, padded
from spool.segment import FOOTER_BYTES, SEGMENT_HEADER_BYTES, scan_segment, segment_name
from spool.verify.segment import SegmentCheck
from spool.verify.verify import LogProblem, ViewVerdict, verify, verify_log
from spool.verify.views import verify_views
from spool.views import Transaction, Views
from tests.world.spool import clock, group, inline, salts


class Written(NamedTuple):
    """What is folded: the record is the event itself."""

    event: Record


class Tally:
    """A projector: each skeleton with its number, and how many there are."""

    name = "tally"
    version = 1
    tables = ("skeletons", "total")
    minds = (Record,)

    def apply(self, tx: Transaction, event: Written) -> None:
        seq = event.event.seq.to_bytes(8, "big")
        tx.put("skeletons", seq, event.event.skeleton)
        tx.put("total", b"total", seq)


PROJECTORS = (Tally(),)


def decode(record: Record) -> Written:
    return Written(record)


class Home(NamedTuple):
    """A log and its views, no longer in use."""

    log: Path
    views: Path
    records: list[Record]

    @property
    def files(self) -> list[str]:
        return sorted({segment_name(record.segment) for record in self.records})

    def of_file(self, file: str) -> list[Record]:
        return [record for record in self.records if segment_name(record.segment) == file]

    def witness(self) -> Witness:
        last = self.records[-1]
        return Witness(last.segment, last.end_offset, last.seq)

    def verify(self) -> spool.verify.verify.VerifyVerdict:
        return verify(self.log, self.views, PROJECTORS, decode)

    def problems(self, *, witness: bool = True) -> list[LogProblem]:
        return verify_log(self.log, witness=self.witness() if witness else None).problems


def make_home(directory: Path, appends: Sequence[Sequence[Entry]], segment_bytes_max: int = 1500) -> Home:
    views = Views(directory / "views", PROJECTORS, decode)
    records: list[Record] = []

    async def main() -> None:
        async with open_log(
            directory / "log",
            witness=views.open,
            on_durable=views.apply,
            clock=clock(),
            new_salt=salts(),
            segment_bytes_max=segment_bytes_max,
            batch_bytes_max=1300,
            offload=inline,
        ) as log:
            for entries in appends:
                records.extend(await log.append(entries))

    directory.mkdir(exist_ok=True)
    trio.run(main)
    views.close()
    return Home(directory / "log", directory / "views", records)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Three segments, two of them sealed; batches of one record and of three."""
    return make_home(tmp_path, [group(number, 1 + number % 2 * 2, 60) for number in range(1, 9)])


@contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def flip(data: bytes, offset: int, mask: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def parts_of(records: list[Record], size: int) -> Iterator[tuple[int, int, int, int, str]]:
    """The bytes of a segment: first, end, offset of the record they are in, its sequence, the part's name."""
    yield 0, SEGMENT_HEADER_BYTES, 0, records[0].seq, "segment-header"
    for record in records:
        skeleton = record.offset + HEADER_BYTES
        payload = skeleton + padded(len(record.skeleton))
        yield record.offset, skeleton, record.offset, record.seq, "header"
        yield skeleton, payload, record.offset, record.seq, "skeleton"
        yield payload, record.end_offset, record.offset, record.seq, "payload"
    end = records[-1].end_offset
    if size > end:
        yield end, size, end, records[-1].seq + 1, "footer"


def test_a_whole_log_with_its_views_is_good(home: Home) -> None:
    assert len(home.files) == 3
    assert home.verify() == spool.verify.verify.VerifyVerdict(
        spool.verify.verify.LogVerdict(len(home.records), []),
        [ViewVerdict(table, True) for table in ("meta", "index", "skeletons", "total")],
    )
    assert home.verify().ok


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_flipped_bit_is_found_and_named_to_the_byte(home: Home, number: int) -> None:
    file = home.files[number]
    data = (home.log / file).read_bytes()
    records = home.of_file(file)
    for start, end, offset, seq, part in parts_of(records, len(data)):
        for place in range(start, end):
            with changed(home.log / file, flip(data, place, 1 << place % 8)):
                problems = home.problems()
            assert [problem[:4] for problem in problems] == [(file, offset, seq, part)], (place, problems)
            assert problems[0].problem.endswith(f"bit {place % 8} of the byte at offset {place}")


def test_the_check_agrees_with_what_start_up_finds(home: Home) -> None:
    """Two independent readings of the layout; where several bits differ, kinds and lengths that pass for others."""
    file = home.files[1]
    data = (home.log / file).read_bytes()
    first_seq = home.of_file(file)[0].seq
    for place in range(len(data)):
        damaged = flip(data, place, 0x03)
        fault = scan_segment(damaged, first_seq).fault
        assert fault is not None
        with changed(home.log / file, damaged):
            problems = home.problems()
        assert len(problems) == 1
        assert problems[0][1:3] == (fault.offset, fault.seq), place
        if place % 8 != 6:  # the kind: start-up takes a record for a footer, and the other way round
            assert problems[0].part == fault.part, place


def test_every_shortened_file_is_found(home: Home) -> None:
    for file in home.files:
        data = (home.log / file).read_bytes()
        for size in range(len(data)):
            with changed(home.log / file, data[:size]):
                problems = home.problems()
            assert problems, (file, size)
            assert {problem.file for problem in problems} == {file}


def test_what_stands_behind_the_damage_is_checked_too(home: Home) -> None:
    """One damaged header, one damaged payload, one damaged skeleton in a segment, and a flip in the next."""
    first, second, _ = home.files
    records = home.of_file(first)
    with_payload = next(record for record in records[2:] if record.payload)
    data = (home.log / first).read_bytes()
    data = flip(data, records[0].offset + 20, 1)
    data = flip(data, with_payload.offset + HEADER_BYTES + padded(len(with_payload.skeleton)), 1)
    data = flip(data, records[-1].offset + HEADER_BYTES, 1)
    (home.log / first).write_bytes(data)
    other = (home.log / second).read_bytes()
    (home.log / second).write_bytes(flip(other, len(other) - 5, 1))
    verdict = home.verify()
    assert [problem[:4] for problem in verdict.log.problems] == [
        (first, records[0].offset, records[0].seq, "header"),
        (first, with_payload.offset, with_payload.seq, "payload"),
        (first, records[-1].offset, records[-1].seq, "skeleton"),
        (second, len(other) - FOOTER_BYTES, home.of_file(second)[-1].seq + 1, "footer"),
    ]
    assert verdict.log.records == len(home.records) - 3
    assert all("the log is damaged" in (view.problem or "") for view in verdict.views)


def test_damage_to_headers_says_which_records_cannot_be_read(home: Home) -> None:
    file = home.files[0]
    records = home.of_file(file)
    data = (home.log / file).read_bytes()
    for record in records[1:4]:
        data = flip(data, record.offset + 30, 0xFF)
    (home.log / file).write_bytes(data)
    (problem,) = home.problems()
    assert problem[:4] == (file, records[1].offset, records[1].seq, "header")
    assert f"sequences {records[1].seq} to {records[3].seq} cannot be read" in problem.problem


def test_an_exchanged_record_breaks_the_chain(home: Home, tmp_path: Path) -> None:
    """Every checksum of the other log is right, its salts are even the same, and still nothing of it passes."""
    other = make_home(tmp_path / "other", [group(number, 1 + number % 2 * 2, 61) for number in range(1, 9)])
    for file in home.files[:2]:
        with changed(home.log / file, (other.log / file).read_bytes()):
            problems = home.problems()
        assert any("does not follow" in problem.problem for problem in problems)


def test_missing_files_are_named(home: Home) -> None:
    for number, file in enumerate(home.files):
        data = (home.log / file).read_bytes()
        (home.log / file).unlink()
        (problem,) = home.problems()
        if number < 2:
            assert problem[:4] == (file, 0, home.of_file(file)[0].seq, "segment")
            assert "missing" in problem.problem
        else:
            assert f"sequence {home.records[-1].seq} had been durable" in problem.problem
        (home.log / file).write_bytes(data)
    for file in home.files:
        (home.log / file).unlink()
    (problem,) = home.problems()
    assert "the file is missing" in problem.problem


def test_bytes_behind_a_footer_and_a_missing_footer(home: Home) -> None:
    path = home.log / home.files[0]
    data = path.read_bytes()
    with changed(path, data + b"more"):
        (problem,) = home.problems()
    assert (problem.offset, problem.part, problem.problem) == (len(data), "footer", "bytes follow the footer")
    with changed(path, data[:-FOOTER_BYTES]):
        (problem,) = home.problems()
    assert problem.offset == len(data) - FOOTER_BYTES
    assert "without a footer" in problem.problem


# ---------------------------------------------------------------------------------------- torn, or in flight


def test_a_torn_tail_says_torn_at_every_length(home: Home) -> None:
    path = home.log / home.files[2]
    last_batch = [record for record in home.records if record.batch_seq == home.records[-1].batch_seq]
    data = path.read_bytes()
    for size in range(last_batch[0].offset + 1, len(data)):
        with changed(path, data[:size]):
            verdict = verify_log(home.log, witness=None)
            proven = verify_log(home.log, witness=home.witness())
        (problem,) = verdict.problems
        assert problem.problem.startswith("torn tail: ")
        assert verdict.records == len(home.records) - len(last_batch)
        # The views have seen it whole: then it was acknowledged, and no crash explains it.
        assert not any("torn" in problem.problem for problem in proven.problems)
        assert proven.problems


def test_half_a_batch_is_in_flight_while_the_log_is_locked(tmp_path: Path) -> None:
    home = make_home(tmp_path, [group(1)])
    path = home.log / home.files[0]
    half = path.read_bytes()[SEGMENT_HEADER_BYTES : SEGMENT_HEADER_BYTES + 50]

    async def main() -> None:
        async with open_log(home.log, witness=home.witness(), new_salt=salts(), offload=inline):
            with path.open("ab") as file:
                file.write(half)
            assert verify_log(home.log) == spool.verify.verify.LogVerdict(1, [])

    trio.run(main)
    (problem,) = verify_log(home.log).problems
    assert problem.problem.startswith("torn tail")


def test_what_was_read_before_it_was_finished_is_read_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front of a batch is read, the batch is finished, the one behind it begun, and the rest is read."""
    path = home.log / home.files[2]
    whole = path.read_bytes()
    path.write_bytes(flip(whole, home.of_file(home.files[2])[0].offset, 0xFF))
    looks = 0

    def look(*args: object, **options: object) -> SegmentCheck:
        nonlocal looks
        check = SegmentCheck(*args, **options)  # type: ignore[arg-type]
        if args[0] == path:
            looks += 1
            path.write_bytes(whole)
        return check

    monkeypatch.setattr(spool.verify.verify, "SegmentCheck", look)
    assert home.problems() == []
    assert looks == 2


# ------------------------------------------------------------------------------------------------ the views


def write(views: Path, table: str, key: bytes, value: bytes | None) -> None:
    with lmdb.open(str(views), max_dbs=64, map_size=1 << 24) as env:
        db = env.open_db(table.encode())
        with env.begin(write=True, db=db) as txn:
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)


def verdict_of(home: Home, table: str) -> ViewVerdict:
    verdicts = verify_views(home.log, home.views, PROJECTORS, decode)
    assert [verdict.name for verdict in verdicts if not verdict.ok] == [table]
    return next(verdict for verdict in verdicts if verdict.name == table)


SECOND = (2).to_bytes(8, "big")


def test_a_wrong_value_is_named_with_its_key(home: Home) -> None:
    write(home.views, "skeletons", SECOND, b"wrong")
    write(home.views, "skeletons", (3).to_bytes(8, "big"), b"wrong too")
    problem = verdict_of(home, "skeletons").problem
    right = home.records[1].skeleton.hex()
    assert problem == f"key {SECOND.hex()} holds {b'wrong'.hex()}; the log gives {right}"


def test_a_missing_and_a_foreign_key_are_named(home: Home) -> None:
    write(home.views, "skeletons", SECOND, None)
    right = home.records[1].skeleton.hex()
    assert verdict_of(home, "skeletons").problem == f"key {SECOND.hex()} is missing; the log gives {right}"
    write(home.views, "skeletons", SECOND, home.records[1].skeleton)
    write(home.views, "skeletons", SECOND + b"x", bytes(100))
    shown = f"{bytes(48).hex()}… (100 bytes)"
    assert (
        verdict_of(home, "skeletons").problem
        == f"key {(SECOND + b'x').hex()} holds {shown}; the log gives no such key"
    )


def test_the_index_is_compared_too(home: Home) -> None:
    write(home.views, "index", SECOND, struct.pack(">QQ", 1, 0))
    assert SECOND.hex() in (verdict_of(home, "index").problem or "")


@pytest.fixture
def stripped(home: Home) -> Home:
    """Its second segment was stripped, and the process killed before the index was corrected."""
    strip_first_payload(home, home.files[1])
    return home


def strip_first_payload(home: Home, file: str) -> int:
    """Gives how many records stand behind it, and so elsewhere afterwards."""
    segment = home.of_file(file)
    number, record = next((n, record) for n, record in enumerate(segment) if record.payload)
    strip_segment(RealDisk(), home.log, record.segment, {record.seq}, salts())
    return len(segment) - number - 1


def test_a_strip_whose_index_was_not_corrected_is_unfinished_and_not_damage(home: Home) -> None:
    moved = strip_first_payload(home, home.files[1])
    verdict = home.verify()
    unfinished = f"has old places of records ({moved}) in {home.files[1]}, which was stripped"
    assert verdict.views == [
        ViewVerdict("meta", True),
        ViewVerdict("index", True, unfinished=unfinished),
        ViewVerdict("skeletons", True),
        ViewVerdict("total", True),
    ]
    assert verdict.ok
    views = Views(home.views, PROJECTORS, decode)
    views.open()
    with LogReader(home.log) as reader:
        views.catch_up(reader)
    views.close()
    assert home.verify().views[1] == ViewVerdict("index", True)


def test_also_where_the_views_end_with_the_stripped_segment(home: Home) -> None:
    (home.log / home.files[2]).unlink()
    shutil.rmtree(home.views)
    views = Views(home.views, PROJECTORS, decode)
    views.open()
    with LogReader(home.log) as reader:
        views.catch_up(reader)
    views.close()
    strip_first_payload(home, home.files[1])
    verdict = home.verify()
    assert [view.name for view in verdict.views if view.unfinished] == ["index"]
    assert verdict.ok


@pytest.mark.parametrize("table", ["index", "meta", "total"])
def test_beside_an_unfinished_strip_a_difference_is_still_one(stripped: Home, table: str) -> None:
    write(stripped.views, table, b"foreign key", b"foreign")
    assert table in {view.name for view in stripped.verify().views if not view.ok}
    assert all(view.unfinished is None for view in stripped.verify().views)


def test_a_wrong_place_that_no_start_would_correct_is_damage(stripped: Home) -> None:
    """In a segment that was not stripped, or of a record that belongs to another one, or where the last record of the
    segment is found."""
    segment = stripped.of_file(stripped.files[1])
    for seq, place in ((2, (1, 0)), (2, (segment[0].segment, 0)), (segment[1].seq, (1, segment[1].offset))):
        before = struct.pack(">QQ", *(stripped.records[seq - 1].segment, stripped.records[seq - 1].offset))
        write(stripped.views, "index", seq.to_bytes(8, "big"), struct.pack(">QQ", *place))
        assert not stripped.verify().ok
        write(stripped.views, "index", seq.to_bytes(8, "big"), before)
        assert stripped.verify().ok
    write(stripped.views, "index", SECOND, None)
    write(stripped.views, "index", SECOND + b"x", before)
    assert not stripped.verify().ok
    write(stripped.views, "index", SECOND + b"x", None)
    write(stripped.views, "index", SECOND, struct.pack(">QQ", 1, stripped.records[1].offset))
    assert stripped.verify().ok
    with LogReader(stripped.log) as reader:
        last = reader.get(segment[-1].seq)
    write(
        stripped.views,
        "index",
        last.seq.to_bytes(8, "big"),
        struct.pack(">QQ", last.segment, last.offset),
    )
    assert not stripped.verify().ok


def test_absent_and_unreadable_are_different_answers(home: Home) -> None:
    (home.views / "data.mdb").write_bytes(b"no LMDB" * 1000)
    assert all((view.problem or "").startswith("unreadable: ") for view in home.verify().views)
    (home.views / "data.mdb").unlink()
    verdict = home.verify()
    assert all((view.unmade or "").startswith("absent: ") for view in verdict.views)
    assert verdict.ok  # what was in them is in the log
    assert verdict.log.problems == []


def test_views_that_crash_lmdb_are_unreadable(home: Home) -> None:
    path = home.views / "data.mdb"
    path.write_bytes(path.read_bytes()[: 3 * 4096])
    verdict = home.verify()
    assert all((view.problem or "").startswith("unreadable: ") for view in verdict.views)
    assert verdict.log == spool.verify.verify.LogVerdict(len(home.records), [])


def test_views_that_no_sync_has_vouched_for_are_not_opened(home: Home) -> None:
    (home.views / "boot").write_text("another boot")
    verdict = home.verify()
    assert all("the machine went down" in (view.unmade or "") for view in verdict.views)
    assert verdict.ok  # what is in them was not looked at, and nobody will look
    (home.views / "boot").write_text("damaged")
    verdict = home.verify()
    assert all("found to be damaged" in (view.problem or "") for view in verdict.views)
    assert not verdict.ok


def test_views_of_another_log_differ(home: Home, tmp_path: Path) -> None:
    other = make_home(tmp_path / "other", [group(number, 1 + number % 2 * 2, 61) for number in range(1, 9)])
    verdicts = verify_views(other.log, home.views, PROJECTORS, decode)
    assert not next(verdict for verdict in verdicts if verdict.name == "meta").ok


def test_a_record_that_cannot_be_folded_is_the_answer(home: Home) -> None:
    def refuse(record: Record) -> Written:
        if record.seq == 5:
            raise RuntimeError("record 5 is of a newer kind")
        return Written(record)

    verdicts = verify_views(home.log, home.views, PROJECTORS, refuse)
    assert all("record 5 is of a newer kind" in (verdict.problem or "") for verdict in verdicts)
