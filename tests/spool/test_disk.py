"""The real disk, and two processes on one directory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from spool import Entry, LockedError, LogReader, RealDisk, Record, open_log
from tests.world.disk import FakeDisk
from tests.world.spool import entries

HOLDER = """
import sys, trio
from pathlib import Path
from spool import Entry, open_log

async def main():
    async with open_log(Path(sys.argv[1])) as log:
        await log.append([Entry(b"from the other process")])
        print("open", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)

trio.run(main)
"""


async def append_one(directory: Path, entry: Entry) -> Sequence[Record]:
    async with open_log(directory) as log:
        return await log.append([entry])


def test_the_second_process_is_told_who_is_there(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(LockedError) as caught:
            trio.run(append_one, directory, Entry(b"mine"))
        assert (
            str(caught.value)
            == f"another process (a relay, or a command such as log erase) holds {directory} (pid {other.pid})"
        )
        # Readers ask for no lock.
        assert len(list(LogReader(directory).read(1))) == 1
        other.stdin.close()
        assert other.wait() == 0
    trio.run(append_one, directory, Entry(b"mine"))
    assert [record.skeleton for record in LogReader(directory).read(1)] == [
        b"from the other process",
        b"mine",
    ]


def test_a_killed_process_leaves_the_log_to_the_next(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        other.kill()
    (record,) = trio.run(append_one, directory, Entry(b"mine"))
    assert record.seq == 2


def test_for_the_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    trio.run(append_one, directory, Entry(b"skeleton", b"payload"))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_bytes_as_on_the_fake_disk(tmp_path: Path) -> None:
    """So that what holds on the fake disk holds on the real one."""
    directory = tmp_path / "log"
    fake = FakeDisk()
    for path in reversed(directory.parents):
        if path != Path("/"):
            fake.make_directory(path)

    async def fill(disk: RealDisk | FakeDisk) -> None:
        times = iter(range(1000))
        async with open_log(
            directory,
            disk=disk,
            clock=lambda: next(times),
            new_salt=lambda: bytes(16),
            segment_bytes_max=1000,
            batch_bytes_max=500,
        ) as log:
            for number in range(20):
                await log.append([Entry(b"%d" % number, bytes(number))])

    trio.run(fill, RealDisk())
    trio.run(fill, fake)
    names = sorted(path.name for path in directory.iterdir())
    assert [name for name in names if name != "lock"] == fake.list_names(directory)
    for name in names:
        if name != "lock":
            assert (directory / name).read_bytes() == fake.file(directory / name)
    with LogReader(directory) as reader:
        assert len(entries(list(reader.read(1)))) == 20


def test_short_writes_and_reads_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = RealDisk()
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: pwrite(handle, data[:7], offset))
    monkeypatch.setattr(os, "pread", lambda handle, length, offset: pread(handle, min(length, 5), offset))
    data = bytes(range(100))
    handle = disk.create(tmp_path / "file")
    try:
        disk.write(handle, data, 3)
        assert disk.read(handle, 200, 3) == data
        assert disk.read(handle, 50, 3) == data[:50]
        assert disk.read(handle, 50, 500) == b""
    finally:
        disk.close(handle)
