"""Making a backup: a copy of a log, and of files beside it, that is good at every moment.

The invariant: **once there is a manifest, the backup can be restored to what its manifest says, whatever interrupts
a later run.** A run writes whatever is new or has changed beside the old (`spool.backup.format`), makes it durable, and
then puts the new manifest in the old one's place. That rename is the moment in which the backup changes. Only after it
do the new files take the names of the old; where a crash kept them from it, the next run puts the names right.

The second one: **a backup is only ever replaced by more of the same log.** Where the log lacks something that the
backup holds (another log, one that was restored from an older state, one that lost its end), the run is refused: the
backup may be the only copy.

The log is read beside its writer, without a lock. *Whole* and *durable* differ: a batch that can be read may not be
on the disk yet. So the segment that is being written is synced here, after it has been read and before it is copied,
which does the writer no harm: power loss then takes nothing from the log that the backup has.

A sealed segment is copied once. It is copied again if its bytes have changed, as they do when payloads are stripped
from it: a rewritten segment has another salt in its header and another footer, and both are compared. So what has
been erased from the log leaves the backup with the next run. What is rewritten during a run is copied again in the same
run: a log in which a record says that payloads are gone, and an older segment still has them, is nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from spool.backup.files import locked, read_file
from spool.backup.format import (
    BEGUN_NAME,
    FORMAT,
    LOCK_NAME,
    MANIFEST_NAME,
    NEXT_SUFFIX,
    BackupFile,
    BackupSegment,
    Manifest,
    holds,
    next_path,
    read_manifest,
)
from spool.clock import wall_clock_us
from spool.directory import segment_seqs
from spool.disk import Disk, RealDisk
from spool.errors import BackupError, SequenceNotFoundError
from spool.files import TMP_SUFFIX, opened, read_chunks, unlink_if_there, write_durably, write_whole
from spool.interface import Progress
from spool.reader import LogReader
from spool.record import CHAIN_START, crc32c
from spool.recovery import decide
from spool.repair import read_seal
from spool.segment import FOOTER_BYTES, SEGMENT_HEADER_BYTES, Scan, corruption, scan_segment, segment_name


class BackupReport(NamedTuple):
    """What a run did."""

    manifest: Manifest
    copied: list[str]
    """The names of the files that were new or had changed."""
    kept: int
    """How many files were as the run before had left them."""
    bytes_copied: int


def back_up(
    directory: Path,
    backup: Path,
    *,
    log: str,
    others: Callable[[], Sequence[str]] = tuple,
    disk: Disk | None = None,
    clock: Callable[[], int] = wall_clock_us,
    progress: Progress | None = None,
) -> BackupReport:
    """Bring `backup` up to date with the log at `directory/log` and the `others`, paths in `directory`.

    The others are asked for, and copied, after the log: what the log speaks of is then among them. Raises
    `BackupError` where the backup is in use or another log's, `CorruptionError` where the log is damaged (the backup
    stays as it was: damage never replaces a good copy), `OSError`. After an interruption, run it again.
    """
    disk = disk or RealDisk()
    disk.make_directory(backup)
    disk.sync_directory(backup.parent)
    names = set(disk.list_names(backup))
    if names - {LOCK_NAME} and not names & {BEGUN_NAME, MANIFEST_NAME}:
        raise BackupError(f"{backup} is not empty, and no backup; nothing was changed. Name a new directory")
    with locked(disk, backup / LOCK_NAME, f"another backup into {backup} is running"):
        if BEGUN_NAME not in names:
            disk.close(disk.create(backup / BEGUN_NAME))
            disk.sync_directory(backup)
        return _Run(disk, directory, backup, log, progress).run(others, clock)


class _Run:
    """One run of a backup. It has the lock."""

    def __init__(
        self, disk: Disk, directory: Path, backup: Path, log: str, progress: Progress | None
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._backup = backup
        self._log = log
        self._progress = progress
        self._folders: set[Path] = {backup}
        #: A dict for its order: a segment that is rewritten meanwhile is staged twice.
        self._staged: dict[str, None] = {}
        self._bytes_copied = 0
        self._done = self._total = 0
        self._old: dict[str, BackupFile] = {}

    def run(self, others: Callable[[], Sequence[str]], clock: Callable[[], int]) -> BackupReport:
        if MANIFEST_NAME in self._disk.list_names(self._backup):
            old = read_manifest(self._backup, disk=self._disk)
            self._old = {file.name: file for file in old.files}
            # A run that was killed right after the rename has not made it durable: files in place are for a manifest
            # that stays.
            self._disk.sync_directory(self._backup)
            self._finish(old)
            self._check_same_log(old)
        segments = self._back_up_segments()
        files = [self._back_up_other(name) for name in others()]
        manifest = Manifest(
            format=FORMAT,
            made_at=f"{datetime.fromtimestamp(clock() / 1_000_000, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            last_seq=segments[-1].last_seq,
            chain=segments[-1].chain,
            segments=tuple(segments),
            others=tuple(files),
            removed=tuple(sorted(self._old.keys() - {file.name for file in (*segments, *files)})),
        )
        self._commit(manifest)
        copied = list(self._staged)
        self._put_in_place(manifest, copied)
        self._clear_up(manifest)
        return BackupReport(manifest, copied, len(manifest.files) - len(copied), self._bytes_copied)

    # The log.

    def _check_same_log(self, old: Manifest) -> None:
        """Raise `BackupError` unless the log holds all that the backup holds. Payloads may be gone."""
        for segment in old.segments:
            if self._chain_at(segment) != segment.chain:
                raise BackupError(
                    f"{self._backup} holds sequence {segment.last_seq}, which the log in {self._directory} has not, or "
                    "has otherwise: it is the backup of another log, or of one that has gone another way since. "
                    "Nothing was changed. Name a new directory, and keep this one"
                )

    def _chain_at(self, segment: BackupSegment) -> str | None:
        """The chain value in the log where the backup's segment ends; None if the log does not get there."""
        folder = self._directory / self._log
        try:
            with opened(self._disk, folder / segment_name(segment.first_seq)) as handle:
                seal = read_seal(self._disk, handle, self._disk.size(handle), segment.first_seq)
        except FileNotFoundError:
            return None
        if seal is not None and seal.end.next_seq - 1 == segment.last_seq:
            return seal.end.chain.hex()
        if segment.last_seq == 0:
            return CHAIN_START.hex()
        with LogReader(folder, disk=self._disk) as reader:
            try:
                # Of an empty segment it is the last record of the segment before.
                return reader.get(segment.last_seq).chain.hex()
            except SequenceNotFoundError:
                return None

    def _back_up_segments(self) -> list[BackupSegment]:
        folder = self._directory / self._log
        seqs = segment_seqs(self._disk, folder)
        if not seqs:
            raise BackupError(f"{folder} holds no segments: there is nothing to back up")
        self._total = sum(self._size(folder / segment_name(seq)) for seq in seqs)
        scans: dict[int, Scan] = {}
        segments: dict[int, BackupSegment] = {}
        headers: dict[int, bytes] = {}
        while seqs:
            for seq in seqs:
                with opened(self._disk, folder / segment_name(seq)) as handle:
                    headers[seq] = self._disk.read(handle, SEGMENT_HEADER_BYTES, 0)
                    scans[seq] = _scan_beside_writer(self._disk, handle, seq)
                    segments[seq] = self._back_up_segment(scans[seq], handle)
            seqs = self._to_look_at(folder, headers, followed=scans[max(scans)].footer is not None)
        # Start-up's own judgement of whether these segments are a log. What it would cut was not copied.
        decide([scans[seq] for seq in sorted(scans)], None)
        return [segments[seq] for seq in sorted(segments)]

    def _to_look_at(self, folder: Path, headers: Mapping[int, bytes], *, followed: bool) -> list[int]:
        """Which segments are new or have been rewritten since we looked; none: what was copied is one log.

        Segments are rewritten beside us, a new salt in the header of each. The record which says that payloads are
        gone stands behind those that they are gone from. Who restores it takes it at its word, so no copy may have
        them any more; and where a copy lacks them, that record must be there. Both hold once no segment has been
        rewritten up to now and the last one was read after all others.
        """
        last = max(headers)
        rewritten = {
            seq for seq, header in headers.items() if self._header(folder / segment_name(seq)) != header
        }
        behind = (
            {seq for seq in segment_seqs(self._disk, folder) if seq > last}
            if rewritten or followed
            else set()
        )
        return sorted({*rewritten, *behind, *({last} if rewritten else ())})

    def _header(self, path: Path) -> bytes:
        with opened(self._disk, path) as handle:
            return self._disk.read(handle, SEGMENT_HEADER_BYTES, 0)

    def _back_up_segment(self, scan: Scan, handle: int) -> BackupSegment:
        name = f"{self._log}/{segment_name(scan.first_seq)}"
        size = scan.end.offset
        if scan.footer is not None:
            size += FOOTER_BYTES
        else:
            self._disk.fdatasync(handle)
        sha256 = self._unchanged(name, scan, handle, size)
        if sha256 is None:
            sha256, file_crc = self._stage(name, handle, size, scan.end.offset)
            if file_crc != scan.file_crc:
                raise _damage(self._disk, handle, scan.first_seq)
        return BackupSegment(
            name=name,
            size=size,
            sha256=sha256,
            first_seq=scan.first_seq,
            last_seq=scan.end.next_seq - 1,
            chain=scan.end.chain.hex(),
            sealed=scan.footer is not None,
            stripped=scan.footer is not None and scan.footer.stripped,
        )

    def _unchanged(self, name: str, scan: Scan, handle: int, size: int) -> str | None:
        """The SHA-256 of this very segment, if a run has copied it; an interrupted one, perhaps."""
        path, old = self._backup / name, self._old.get(name)
        ends = self._ends(handle, size)
        if (
            isinstance(old, BackupSegment)
            and (old.size, old.chain) == (size, scan.end.chain.hex())
            and self._ends_of(path, size) == ends
        ):
            self._advance(size)
            return old.sha256
        if self._ends_of(next_path(path), size) == ends:
            sha256, file_crc = self._digests(next_path(path), size, scan.end.offset)
            if file_crc == scan.file_crc:
                self._staged[name] = None
                return sha256
        return None

    def _ends(self, handle: int, size: int) -> tuple[bytes, bytes]:
        """What tells a segment from any other with its name: the header has the salt, the footer all the rest."""
        tail = max(size - FOOTER_BYTES, 0)
        return (
            self._disk.read(handle, SEGMENT_HEADER_BYTES, 0),
            self._disk.read(handle, size - tail, tail),
        )

    def _ends_of(self, path: Path, size: int) -> tuple[bytes, bytes] | None:
        """None if there is no such file of that size."""
        try:
            with opened(self._disk, path) as handle:
                return self._ends(handle, size) if self._disk.size(handle) == size else None
        except FileNotFoundError:
            return None

    # Other files.

    def _back_up_other(self, name: str) -> BackupFile:
        data = read_file(self._disk, self._directory / name)
        file = BackupFile(name, len(data), hashlib.sha256(data).hexdigest())
        path = self._backup / name
        if self._old.get(name) == file and self._size(path) == file.size:
            return file
        self._make_folders(path.parent)
        write_whole(self._disk, next_path(path), [data])
        self._staged[name] = None
        self._bytes_copied += file.size
        return file

    # Files of the backup.

    def _stage(self, name: str, handle: int, size: int, crc_end: int) -> tuple[str, int]:
        """Write the first `size` bytes to NAME.next; their SHA-256, and the CRC-32C of those before
        `crc_end`."""
        path = next_path(self._backup / name)
        self._make_folders(path.parent)
        digests = _Digests(crc_end)
        write_whole(self._disk, path, self._read_through(handle, size, digests))
        self._staged[name] = None
        self._bytes_copied += size
        return digests.sha256, digests.crc

    def _digests(self, path: Path, size: int, crc_end: int) -> tuple[str, int]:
        digests = _Digests(crc_end)
        with opened(self._disk, path) as handle:
            for _ in self._read_through(handle, size, digests):
                pass
        return digests.sha256, digests.crc

    def _read_through(self, handle: int, size: int, digests: _Digests) -> Iterator[bytes]:
        for chunk in read_chunks(self._disk, handle, size):
            digests.update(chunk)
            self._advance(len(chunk))
            yield chunk

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress("backing up", min(self._done, self._total), self._total)

    def _size(self, path: Path) -> int:
        """-1 if there is no such file."""
        try:
            with opened(self._disk, path) as handle:
                return self._disk.size(handle)
        except FileNotFoundError:
            return -1

    def _make_folders(self, folder: Path) -> None:
        if folder not in self._folders:
            self._make_folders(folder.parent)
            self._disk.make_directory(folder)
            self._disk.sync_directory(folder.parent)
            self._folders.add(folder)

    # The moment in which the backup changes, and what comes after it.

    def _commit(self, manifest: Manifest) -> None:
        # The names of what the manifest speaks of are durable before it is.
        for folder in self._folders_of(list(self._staged)):
            self._disk.sync_directory(folder)
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        write_durably(self._disk, self._backup / MANIFEST_NAME, [data])

    def _finish(self, manifest: Manifest) -> None:
        """Do what the run that wrote the manifest may not have come to."""
        held = [file.name for file in manifest.files if holds(self._disk, self._next(file.name), file)]
        self._put_in_place(manifest, held)

    def _put_in_place(self, manifest: Manifest, names: Sequence[str]) -> None:
        for name in names:
            self._disk.rename(self._next(name), self._backup / name)
        for name in manifest.removed:
            unlink_if_there(self._disk, self._backup / name)
        for folder in self._folders_of((*names, *manifest.removed)):
            self._disk.sync_directory(folder)

    def _clear_up(self, manifest: Manifest) -> None:
        """Remove what interrupted runs have left."""
        for folder in self._folders_of((MANIFEST_NAME, *(file.name for file in manifest.files))):
            for name in self._disk.list_names(folder):
                if name.endswith((NEXT_SUFFIX, TMP_SUFFIX)):
                    unlink_if_there(self._disk, folder / name)

    def _next(self, name: str) -> Path:
        return next_path(self._backup / name)

    def _folders_of(self, names: Sequence[str]) -> list[Path]:
        return sorted({(self._backup / name).parent for name in names})


class _Digests:
    """Of bytes that pass by."""

    def __init__(self, crc_end: int) -> None:
        self._sha256 = hashlib.sha256()
        self._crc_left = crc_end
        self.crc = 0

    def update(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        if self._crc_left:
            covered = chunk[: self._crc_left]
            self.crc = crc32c(self.crc, covered)
            self._crc_left -= len(covered)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def _scan_beside_writer(disk: Disk, handle: int, first_seq: int) -> Scan:
    """Where the segment's whole batches end. A sealed one is believed here; its bytes are checked as they are copied.

    What is found wrong in a segment that is being written may only be unfinished (a batch is read half, and then one
    behind it whole), so it must be found again by a look that began after it.
    """
    scan = read_seal(disk, handle, disk.size(handle), first_seq)
    before = None
    while scan is None or (scan.followed and scan.fault != before):
        before = None if scan is None else scan.fault
        scan = scan_segment(disk.read(handle, disk.size(handle), 0), first_seq)
    return scan


def _damage(disk: Disk, handle: int, first_seq: int) -> Exception:
    """Why a segment is not what its checksum says."""
    fault = scan_segment(disk.read(handle, disk.size(handle), 0), first_seq).fault
    if fault is None:
        file = segment_name(first_seq)
        return BackupError(
            f"segment {file} was read twice and was not the same; is the disk or the memory sound?"
        )
    return corruption(first_seq, fault)
