"""Power fails after every operation of the disk of a machine that follows, or leads, and is synced now and then.

Whatever of its file survives: up to the mark all is there, identical. Behind it each batch is there, whole, or what is
left of it goes; and the same log is received again, to the end. The same for crashes while a start clears up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

import spool.mark
import spool.open_segment
import spool.recovery
from spool import CorruptionError, Log, LogPoisonedError, Received, Record, Witness
from spool.directory import segment_seqs
from spool.mark import read_mark
from spool.record import CHAIN_START
from spool.repair import inspect
from spool.segment import segment_name
from tests.world.agreed import InMemory, received
from tests.world.disk import FakeDisk, State, surviving_subsets
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

#: So small that a few batches fill one.
follow_fake = partial(open_fake, follows=True, segment_bytes_max=2 << 10, batch_bytes_max=1 << 10)


@dataclass
class Story:
    """What has been agreed upon, and up to where this machine has been told that its file is synced."""

    disk: FakeDisk
    agreed: list[Received] = field(default_factory=list)
    synced_seq: int = 0

    async def sync(self, log: Log) -> None:
        self.synced_seq = await log.sync()


Scenario = Callable[[Story], Awaitable[None]]


def agreed_upon() -> list[Received]:
    disk = FakeDisk()
    batches: list[Received] = []

    async def main() -> None:
        async with open_fake(disk) as log:
            chain = CHAIN_START
            for number in range(1, 13):
                records = await log.append(group(number, 1 + number % 3, payload_bytes=200))
                batches.append(received(records, chain))
                chain = log.last_chain

    run(main)
    return batches


AGREED = agreed_upon()
#: Of all of it.
LAST_SEQ = AGREED[-1].last_seq


async def receiving(story: Story) -> None:
    """One by one, and some at a time; a sync falls in front of a new segment, behind one, and in the middle."""
    story.agreed += AGREED
    async with follow_fake(story.disk) as log:
        await log.receive(AGREED[:1])
        await log.receive(AGREED[1:4])
        await story.sync(log)
        for batch in AGREED[4:8]:
            await log.receive([batch])
        await story.sync(log)
        await log.receive(AGREED[8:9])
        await story.sync(log)
        await log.receive(AGREED[9:])
    story.synced_seq = LAST_SEQ


async def never_synced(story: Story) -> None:
    """What is sealed is synced by that, and nobody is told so."""
    story.agreed += AGREED
    async with follow_fake(story.disk) as log:
        for number in range(0, len(AGREED), 2):
            await log.receive(AGREED[number : number + 2])
        story.disk.after_operation = None  # what closing does is seen elsewhere


async def reopening(story: Story) -> None:
    story.agreed += AGREED
    for number in range(0, len(AGREED), 4):
        async with follow_fake(story.disk) as log:
            await log.receive(AGREED[number : number + 4])
        story.synced_seq = AGREED[number + 3].last_seq


async def leading(story: Story) -> None:
    """What is acknowledged is agreed upon, and its own file is behind that."""
    story.agreed += AGREED[:4]
    async with follow_fake(story.disk) as log:
        await log.receive(AGREED[:4])
        log.lead(InMemory(log, story.agreed))
        for number in range(20, 26):
            await log.append(group(number, 1 + number % 2, payload_bytes=200))
            if number % 3 == 0:
                await story.sync(log)
    story.synced_seq = log.last_seq


SCENARIOS = (receiving, never_synced, reopening, leading)


@dataclass
class Crash:
    after: str
    disk: FakeDisk
    agreed: list[Received]
    synced_seq: int


def crashes(scenario: Scenario, disk: FakeDisk, synced_seq: int = 0) -> list[Crash]:
    """Every different disk that a crash during the scenario can leave."""
    story = Story(disk, synced_seq=synced_seq)
    found: dict[tuple[State, int, int], Crash] = {}

    def crash_here() -> None:
        for surviving in surviving_subsets(len(disk.pending)):
            crashed = disk.crash(surviving)
            key = crashed.state(), len(story.agreed), story.synced_seq
            found.setdefault(key, Crash(disk.log[-1], crashed, list(story.agreed), story.synced_seq))

    async def main() -> None:
        await scenario(story)

    disk.after_operation = crash_here
    run(main)
    if disk.after_operation is not None:
        crash_here()
    return list(found.values())


def plain(records: list[Record]) -> list[tuple[bytes, bytes | None, int, bytes]]:
    return [(record.skeleton, record.payload, record.time_us, record.chain) for record in records]


def all_of(batches: list[Received]) -> list[tuple[bytes, bytes | None, int, bytes]]:
    """As `plain`, but that only a batch's last chain value is known."""
    return [
        (record.skeleton, record.payload, record.time_us, b"")
        for batch in batches
        for record in batch.records
    ]


def without_chain(
    records: list[tuple[bytes, bytes | None, int, bytes]],
) -> list[tuple[bytes, bytes | None, int, bytes]]:
    return [(*record[:3], b"") for record in records]


def check(crash: Crash) -> str:
    """Start again after the crash, and receive what is missing. What the start had to do."""
    disk = crash.disk.copy()

    async def main() -> str:
        async with follow_fake(disk) as log:
            last_seq = log.last_seq
            assert last_seq >= crash.synced_seq, crash.after
            ends = [0, *(batch.last_seq for batch in crash.agreed)]
            assert last_seq in ends, crash.after
            assert log.recovery.last_seq == last_seq
            assert log.recovery.cut is None
            found = list(log.reader.read(1))
            assert without_chain(plain(found)) == all_of(crash.agreed)[:last_seq], crash.after
            # What the start has found is synced, so that others may be told.
            mark = read_mark(disk, DIRECTORY)
            assert mark is not None
            assert mark.seq == last_seq
            await log.receive([batch for batch in crash.agreed if batch.first_seq > last_seq])
            assert log.last_chain == (crash.agreed[-1].chain if crash.agreed else CHAIN_START)
            dropped = log.recovery.dropped
            return log.recovery.row + ("" if dropped is None else " dropped")

    row: str = run(main)
    assert disk.open_handles() == 0
    assert without_chain(plain(read_all(disk))) == all_of(crash.agreed)
    # Closed in order, it is as it was told to be after any crash.
    assert not disk.pending or read_all(disk.crash(frozenset())) == read_all(disk)
    assert "torn" not in disk.list_names(DIRECTORY)
    return row


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_what_is_in_front_of_the_mark_survives_and_the_rest_is_received_again(scenario: Scenario) -> None:
    found = crashes(scenario, FakeDisk())
    rows = {check(crash) for crash in found}
    assert len(found) > 50
    # A new log, one that ends well, one that ends with a seal, and one of which something had to go.
    assert {"N", "Q", "K dropped"} <= rows


async def starting(story: Story) -> None:
    async with follow_fake(story.disk):
        pass


@pytest.mark.parametrize("scenario", [receiving, never_synced], ids=lambda scenario: scenario.__name__)
def test_crashes_while_a_start_clears_up(scenario: Scenario) -> None:
    torn = [crash for crash in crashes(scenario, FakeDisk()) if check(crash).endswith("dropped")]
    assert len(torn) > 20
    looked_at = 0
    for crash in torn:
        for second in crashes(starting, crash.disk.copy(), crash.synced_seq):
            check(Crash(second.after, second.disk, crash.agreed, crash.synced_seq))
            looked_at += 1
    assert looked_at > 400


# ------------------------------------------------------------------------------------------------ planted bugs


def mark_before_the_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def mark_and_sync(log: Log, end: Witness) -> None:
        spool.mark.write_mark(log._disk, log.directory, end)
        log._segment.sync()

    monkeypatch.setattr(Log, "_sync_and_mark", mark_and_sync)


def mark_without_a_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool.open_segment.OpenSegment, "sync", lambda segment: None)


def mark_written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_in_place(disk: FakeDisk, path: Path, chunks: list[bytes]) -> None:
        handle = disk.create(path)
        disk.write(handle, b"".join(chunks), 0)
        disk.fsync(handle)
        disk.close(handle)
        disk.sync_directory(path.parent)

    monkeypatch.setattr(spool.mark, "write_durably", write_in_place)


def damage_behind_the_mark_taken_for_corruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool.recovery, "drop_behind", lambda scans, mark: list(scans))


def tail_that_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDisk, "truncate", lambda disk, handle, size: None)


@pytest.mark.parametrize(
    "plant",
    [
        mark_before_the_sync,
        mark_without_a_sync,
        mark_written_in_place,
        damage_behind_the_mark_taken_for_corruption,
        tail_that_is_not_cut,
    ],
)
def test_planted_bugs_are_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    failures = 0
    for crash in crashes(receiving, FakeDisk()):
        try:
            check(crash)
        except Exception:  # noqa: BLE001 (any failure is what we want)
            failures += 1
    assert failures > 0


def test_what_a_start_finds_after_a_failed_sync_is_synced_before_the_mark_says_so() -> None:
    """The kernel shows the lost pages and believes them clean: only writing them again makes them durable."""
    disk = FakeDisk()

    async def fails() -> None:
        async with follow_fake(disk) as log:
            await log.receive(AGREED[:3])
            assert await log.sync() == AGREED[2].last_seq
            await log.receive(AGREED[3:4])
            disk.fail_at = disk.operations + 1
            with pytest.raises(LogPoisonedError):
                await log.sync()

    with pytest.RaisesGroup(LogPoisonedError):
        run(fails)
    disk.restart()
    assert read_mark(disk, DIRECTORY) == Witness(
        1, read_all(disk)[AGREED[2].last_seq - 1].end_offset, AGREED[2].last_seq
    )

    async def goes_on() -> None:
        async with follow_fake(disk) as log:
            assert log.last_seq == AGREED[3].last_seq
            mark = read_mark(disk, DIRECTORY)
            assert mark is not None
            assert mark.seq == log.last_seq
            assert len(read_all(disk.crash(frozenset()))) == log.last_seq

    run(goes_on)


# ------------------------------------------------------------------------------------------------ damage


def synced_in_the_middle() -> tuple[FakeDisk, int]:
    """A machine whose mark stands in the middle of a segment between others; and the mark's sequence number."""
    disk = FakeDisk()
    synced: list[int] = []
    crashed: list[FakeDisk] = []

    async def main() -> None:
        async with follow_fake(disk) as log:
            await log.receive(AGREED[:6])
            synced.append(await log.sync())
            await log.receive(AGREED[6:])
            crashed.append(disk.copy())

    run(main)
    return crashed[0], synced[0]


def test_a_damaged_record_is_corruption_in_front_of_the_mark_and_received_again_behind_it() -> None:
    whole, synced_seq = synced_in_the_middle()
    records = read_all(whole)
    marked = records[synced_seq - 1]
    assert 1 < marked.segment == records[synced_seq].segment < records[-1].segment
    outcomes: list[tuple[int, bool]] = []
    for record in records:
        for at in (0, 40, 112, record.size - 1):
            disk = whole.copy()
            disk.file(DIRECTORY / segment_name(record.segment))[record.offset + at] ^= 1
            outcomes.append((record.seq, starts(disk, record.seq)))
    assert outcomes == [(seq, seq > synced_seq) for seq, _ in outcomes]


def starts(disk: FakeDisk, damaged_seq: int) -> bool:
    """Whether a start goes on behind damage, and receives again what it was."""
    before = disk.state()

    async def main() -> None:
        async with follow_fake(disk) as log:
            assert log.last_seq < damaged_seq
            dropped = log.recovery.dropped
            assert dropped is not None
            assert dropped.seq == log.last_seq + 1
            await log.receive([batch for batch in AGREED if batch.first_seq > log.last_seq])

    try:
        run(main)
    except CorruptionError:
        assert disk.state() == before
        return False
    assert without_chain(plain(read_all(disk))) == all_of(AGREED)
    return True


@pytest.mark.parametrize("behind", [False, True])
def test_a_segment_that_is_missing_or_has_no_header(behind: bool) -> None:
    whole, synced_seq = synced_in_the_middle()
    for first_seq in segment_seqs(whole, DIRECTORY):
        if (first_seq > synced_seq) is not behind:
            continue
        missing, headless = whole.copy(), whole.copy()
        missing.remove(DIRECTORY / segment_name(first_seq))
        headless.file(DIRECTORY / segment_name(first_seq))[20] ^= 1
        if behind and first_seq == segment_seqs(whole, DIRECTORY)[-1]:
            # Nobody can tell that there was one.
            assert inspect(missing, DIRECTORY, None).dropped == ()
        else:
            assert starts(missing, first_seq) is behind
        assert starts(headless, first_seq) is behind


def test_all_that_is_behind_the_mark_may_be_missing_and_nothing_in_front_of_it() -> None:
    whole, synced_seq = synced_in_the_middle()
    for record in read_all(whole):
        disk = whole.copy()
        for first_seq in segment_seqs(disk, DIRECTORY):
            if first_seq > record.segment:
                disk.remove(DIRECTORY / segment_name(first_seq))
        del disk.file(DIRECTORY / segment_name(record.segment))[record.offset :]
        if record.seq <= synced_seq:
            with pytest.raises(CorruptionError, match=rf"sequence {synced_seq} had been durable"):
                run(partial(start, disk))
        else:
            run(partial(start, disk))


async def start(disk: FakeDisk) -> None:
    async with follow_fake(disk):
        pass
