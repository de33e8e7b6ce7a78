"""A small data directory on a fake disk, its backup, and what is restored from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spool import LogReader
from spool.backup.backup import BackupReport, back_up
from spool.backup.restore import UNFINISHED_NAME, restore
from spool.files import TMP_SUFFIX
from spool.record import Record, crc32c, encode_record
from spool.segment import (
    Position,
    SegmentHeader,
    encode_footer,
    encode_segment_header,
    scan_segment,
    seal,
    segment_name,
)
from tests.world.disk import FakeDisk
from tests.world.spool import DIRECTORY, group, open_fake, read_all, run

DATA = Path("/")
BACKUP = Path("/backup")
RESTORED = Path("/restored")
LOG = DIRECTORY.name
#: As small as a header, a record and a footer allow: what is enumerated is what happens to files.
SEGMENT_BYTES_MAX = 500
CLOCK_US = 1_700_000_000_000_000


def append(disk: FakeDisk, numbers: range) -> None:
    async def main() -> None:
        async with open_fake(
            disk, segment_bytes_max=SEGMENT_BYTES_MAX, new_salt=lambda: numbers.stop.to_bytes(16, "big")
        ) as log:
            for number in numbers:
                await log.append(group(number, size=1, payload_bytes=20))

    run(main)


def write(disk: FakeDisk, path: Path, data: bytes) -> None:
    disk.make_directory(path.parent) if path.parent != DATA else None
    handle = disk.create(path)
    disk.write(handle, data, 0)
    disk.close(handle)


def data_directory() -> FakeDisk:
    """A log of several segments, a secret, a configuration."""
    disk = FakeDisk()
    append(disk, range(1, 7))
    write(disk, Path("/keys/old.pem"), b"an old key")
    write(disk, Path("/relay.toml"), b"as it was")
    return disk.copy()


def others(disk: FakeDisk) -> Callable[[], list[str]]:
    return lambda: [*(f"keys/{name}" for name in disk.list_names(Path("/keys"))), "relay.toml"]


def make_backup(disk: FakeDisk) -> BackupReport:
    return back_up(DATA, BACKUP, log=LOG, others=others(disk), disk=disk, clock=lambda: CLOCK_US)


def make_restored(disk: FakeDisk) -> None:
    restore(BACKUP, RESTORED, log=LOG, disk=disk)


def strip(disk: FakeDisk, first_seq: int, *, payloads: bool = False) -> None:
    """What retention does to a sealed segment: another file of the same name, without `payloads`."""
    path = DIRECTORY / segment_name(first_seq)
    scan = scan_segment(bytes(disk.file(path)), first_seq)
    assert scan.header is not None
    assert scan.footer is not None
    salt = hashlib.sha256(scan.header.salt).digest()[:16]
    header = SegmentHeader(first_seq, scan.header.created_us, salt, scan.header.previous_chain)
    pieces = [encode_segment_header(header)]
    for record in read_all(disk, first_seq)[: scan.footer.records]:
        if not payloads:
            record = record._replace(payload=None, stripped=record.stripped or record.payload is not None)
        pieces += encode_record(record, header.seed)
    data = b"".join(pieces)
    end = Position(first_seq, len(data), scan.end.next_seq, scan.footer.chain, scan.footer.last_time_us)
    footer = seal(end, crc32c(0, data))._replace(stripped=True)
    tmp = path.with_name(path.name + TMP_SUFFIX)
    write(disk, tmp, data + encode_footer(footer, header.seed))
    disk.rename(tmp, path)


def live_on(disk: FakeDisk) -> None:
    """What happens between two backups: new records, old personal data goes, keys come and go."""
    append(disk, range(6, 9))
    strip(disk, 1)
    disk.unlink(Path("/keys/old.pem"))
    write(disk, Path("/keys/new.pem"), b"a new key")
    write(disk, Path("/relay.toml"), b"as it is")


def records(disk: FakeDisk, directory: Path) -> list[Record]:
    with LogReader(directory, disk=disk) as reader:
        return list(reader.read(1))


def holds(disk: FakeDisk, directory: Path) -> dict[str, Any]:
    """A data directory, as far as a relay would see it."""
    found: dict[str, Any] = {"log": records(disk, directory / LOG)}
    for folder in ("", "keys"):
        for name in disk.list_names(directory / folder):
            if name.endswith((".pem", ".toml")):
                found[name] = bytes(disk.file(directory / folder / name))
    return found


def restored(disk: FakeDisk) -> dict[str, Any]:
    disk = disk.copy()
    make_restored(disk)
    assert UNFINISHED_NAME not in disk.list_names(RESTORED)
    assert disk.open_handles() == 0
    return holds(disk, RESTORED)
