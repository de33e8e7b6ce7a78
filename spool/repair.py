"""Start-up's hands: collect the evidence, have `recovery` judge it, carry the verdict out.

The invariant: **nothing is changed before everything has been read and judged, and every step may be the
last.** Whatever step a crash interrupts, the next start finds a state that leads to the same end: the copy
of the torn tail is complete before the tail is cut, the cut is durable before the footer is written, and the
footer before the next segment is created. Doing it all again changes nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from spool.directory import LOCK_NAME, TORN_NAME, segment_seqs
from spool.disk import Disk, RealDisk
from spool.files import TMP_SUFFIX, opened, read_chunks, write_durably
from spool.mark import read_mark
from spool.record import DamagedError, crc32c
from spool.recovery import Action, Plan, Witness, decide, decide_behind
from spool.segment import (
    FOOTER_BYTES,
    SEGMENT_HEADER_BYTES,
    Position,
    Scan,
    decode_footer,
    decode_segment_header,
    encode_footer,
    scan_segment,
    seal,
    segment_name,
)


class Cut(NamedTuple):
    """A torn tail that was cut: bytes that had never been acknowledged."""

    file: str
    offset: int
    seq: int
    """The sequence number that its first record had, and that the next record gets."""
    size: int
    part: str
    problem: str
    kept: str
    """Where the bytes are kept, as a path in the log's directory."""


class Dropped(NamedTuple):
    """What stood behind the mark of a log that several machines have and was not whole. It is gone, and is received
    again: nothing is lost by it."""

    seq: int
    """From this sequence number on."""
    size: int
    """How many bytes, of this many files:"""
    files: int


class RecoveryReport(NamedTuple):
    """What start-up found and did."""

    row: str
    """The letter of the row in `recovery.TABLE`."""
    because: str
    last_seq: int
    cut: Cut | None
    rewritten_bytes: int
    """Bytes that nobody had witnessed as durable, written again and synced before they were trusted."""
    loss_ruled_out: bool
    """False if whole batches could be missing at the end without a trace, because there was no witness."""
    dropped: Dropped | None = None
    """Only of a log that several machines have."""


def inspect(disk: Disk, directory: Path, witness: Witness | None) -> Plan:
    """Read everything, change nothing, say what is to be done. Raises `CorruptionError`.

    `witness` is of no consequence where there is a mark: what was seen behind it can be received again.
    """
    mark = read_mark(disk, directory)
    scans = [scan_file(disk, directory, seq) for seq in segment_seqs(disk, directory)]
    return decide(scans, witness) if mark is None else decide_behind(scans, mark)


def scan_file(disk: Disk, directory: Path, first_seq: int) -> Scan:
    """A sealed segment whose checksum matches is not walked."""
    with opened(disk, directory / segment_name(first_seq)) as handle:
        size = disk.size(handle)
        scan = _scan_sealed(disk, handle, size, first_seq)
        return scan or scan_segment(disk.read(handle, size, 0), first_seq)


def read_seal(disk: Disk, handle: int, size: int, first_seq: int) -> Scan | None:
    """What the header and the footer say of a sealed segment, and nothing in between has been looked at.

    None if the segment is not sealed, or if anything about the two is not as it should be.
    """
    end = size - FOOTER_BYTES
    if end < SEGMENT_HEADER_BYTES:
        return None
    try:
        header = decode_segment_header(disk.read(handle, SEGMENT_HEADER_BYTES, 0), first_seq)
        footer = decode_footer(disk.read(handle, FOOTER_BYTES, end), 0, header.seed)
    except DamagedError:
        return None
    if footer.end_offset != end or footer.first_seq != first_seq:
        return None
    position = Position(first_seq, end, footer.last_seq + 1, footer.chain, footer.last_time_us)
    return Scan(first_seq, header, size, position, footer, None, False, footer.file_crc)


def _scan_sealed(disk: Disk, handle: int, size: int, first_seq: int) -> Scan | None:
    """None if the segment is not sealed, or if anything about it is not as it should be."""
    scan = read_seal(disk, handle, size, first_seq)
    if scan is None:
        return None
    file_crc = 0
    for chunk in read_chunks(disk, handle, scan.end.offset):
        file_crc = crc32c(file_crc, chunk)
    return scan if file_crc == scan.file_crc else None


def carry_out(disk: Disk, directory: Path, plan: Plan) -> RecoveryReport:
    """Leave the log so that its last segment is sealed, or open and whole; all of it durable."""
    for name in disk.list_names(directory):
        # A segment that a crash kept from getting its name holds no record yet.
        if name.endswith(TMP_SUFFIX):
            disk.unlink(directory / name)
    _remove_dropped(disk, directory, plan.dropped)
    tail = plan.tail
    cut = None
    rewritten_bytes = 0
    if tail is not None:
        cutting = plan.row.action is Action.CUT
        if cutting and plan.mark is None:
            cut = _keep_copy(disk, directory, tail)
        if not cutting or tail.end.records:
            rewritten_bytes = _settle(disk, directory, tail, plan.witness, cutting=cutting)
        # Otherwise nothing is left of it: it is replaced, by the rename of the next segment, which has its
        # name.
    disk.sync_directory(directory)
    dropped = _dropped(plan)
    return RecoveryReport(
        row=plan.row.letter,
        because=plan.row.because if dropped is None else "whole up to the mark, and somewhat further",
        last_seq=tail.end.next_seq - 1 if tail else 0,
        cut=cut,
        rewritten_bytes=rewritten_bytes,
        loss_ruled_out=plan.loss_ruled_out,
        dropped=dropped,
    )


def _remove_dropped(disk: Disk, directory: Path, dropped: Sequence[Scan]) -> None:
    """From the end, and durably, before anything gets the name of one of them."""
    for scan in reversed(dropped):
        disk.unlink(directory / segment_name(scan.first_seq))
    if dropped:
        disk.sync_directory(directory)


def _dropped(plan: Plan) -> Dropped | None:
    size, files = sum(scan.size for scan in plan.dropped), len(plan.dropped)
    if plan.mark is not None and plan.tail is not None and plan.row.action is Action.CUT:
        size, files = size + plan.tail.size - plan.tail.end.offset, files + 1
    return Dropped(plan.tail.end.next_seq if plan.tail else 1, size, files) if files else None


def repair(directory: Path, *, witness: Witness | None = None, disk: Disk | None = None) -> RecoveryReport:
    """What opening the log would do, without opening it. Raises `LockedError` and `CorruptionError`."""
    disk = disk or RealDisk()
    lock = disk.lock(directory / LOCK_NAME)
    try:
        return carry_out(disk, directory, inspect(disk, directory, witness))
    finally:
        disk.close(lock)


def _settle(disk: Disk, directory: Path, tail: Scan, witness: Witness | None, *, cutting: bool) -> int:
    """Make the last segment durable up to its end, and end it there if it is cut."""
    assert tail.header is not None  # decide() refuses otherwise
    whole = tail.end.offset if cutting else tail.size
    handle = disk.open_write(directory / segment_name(tail.first_seq))
    try:
        rewritten = _write_again(disk, handle, _witnessed_offset(tail, witness), whole)
        if cutting:
            disk.truncate(handle, whole)
        if rewritten or cutting:
            disk.fsync(handle)
        if cutting:
            disk.write(handle, encode_footer(seal(tail.end, tail.file_crc), tail.header.seed), whole)
            disk.fsync(handle)
    finally:
        disk.close(handle)
    return rewritten


def _witnessed_offset(tail: Scan, witness: Witness | None) -> int:
    if witness is None or witness.segment != tail.first_seq:
        return SEGMENT_HEADER_BYTES
    return min(max(witness.end_offset, SEGMENT_HEADER_BYTES), tail.end.offset)


def _write_again(disk: Disk, handle: int, start: int, end: int) -> int:
    """After a failed fsync the kernel may show bytes that the disk does not have and believe them clean; only
    writing them again gets them there."""
    offset = start
    for chunk in read_chunks(disk, handle, end, start=start):
        disk.write(handle, chunk, offset)
        offset += len(chunk)
    return end - start


def _keep_copy(disk: Disk, directory: Path, tail: Scan) -> Cut:
    """Copy what is to be cut to a file of its own, durably and completely or not at all."""
    assert tail.fault is not None  # decide() cuts nothing else
    with opened(disk, directory / segment_name(tail.first_seq)) as handle:
        torn = disk.read(handle, tail.size - tail.end.offset, tail.end.offset)
    folder = directory / TORN_NAME
    disk.make_directory(folder)
    disk.sync_directory(directory)
    name = _copy_name(disk, folder, f"{tail.first_seq:020d}-{tail.end.offset}", torn)
    write_durably(disk, folder / name, [torn])
    return Cut(
        file=segment_name(tail.first_seq),
        offset=tail.end.offset,
        seq=tail.end.next_seq,
        size=len(torn),
        part=tail.fault.part,
        problem=tail.fault.problem,
        kept=f"{TORN_NAME}/{name}",
    )


def _copy_name(disk: Disk, folder: Path, stem: str, torn: bytes) -> str:
    """A name that is free, or taken by these very bytes: then a crash interrupted this same cut before."""
    names = set(disk.list_names(folder))
    name, number = f"{stem}.bytes", 1
    while name in names and not _holds(disk, folder / name, torn):
        number += 1
        name = f"{stem}.{number}.bytes"
    return name


def _holds(disk: Disk, path: Path, data: bytes) -> bool:
    with opened(disk, path) as handle:
        return disk.read(handle, disk.size(handle), 0) == data
