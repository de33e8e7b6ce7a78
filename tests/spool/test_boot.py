"""`views/boot`: where LMDB may have written what is not durable, it says so after any crash of the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from spool.disk import RealDisk
from spool.views import Views, boot, snapshot
from spool.views.boot import discard, mark_closed, mark_damaged, mark_in_use, reason_not_to_open
from spool.views.snapshot import DATA_NAME
from tests.world.disk import SECTOR_BYTES, FakeDisk, surviving_subsets

VIEWS = Path("/data/views")
DATA = VIEWS / DATA_NAME

Step = Callable[["Machine"], None]


class Machine:
    """A disk, and what stands for LMDB on it: two pages, of which a whole one has the same number in both."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.generation = 0
        self.handle: int | None = None

    def start(self) -> None:
        if reason_not_to_open(VIEWS, self.disk) is not None:
            discard(VIEWS, self.disk)
        mark_in_use(VIEWS, self.disk)
        is_new = DATA_NAME not in self.disk.list_names(VIEWS)
        self.handle = self.disk.create(DATA) if is_new else self.disk.open_write(DATA)
        self.write()

    def write(self) -> None:
        assert self.handle is not None
        self.generation += 1
        for page in (0, 1):
            self.disk.write(self.handle, bytes([self.generation]) * SECTOR_BYTES, page * SECTOR_BYTES)

    def kill(self) -> None:
        self.handle = None

    def damage(self) -> None:
        mark_damaged(VIEWS, self.disk)
        self.handle = None

    def close(self) -> None:
        assert self.handle is not None
        self.disk.fdatasync(self.handle)
        self.handle = None
        mark_closed(VIEWS, self.disk)


LIVES: dict[str, list[Step]] = {
    "made, used and closed": [Machine.start, Machine.write, Machine.close],
    "used after it was closed": [Machine.start, Machine.close, Machine.start, Machine.write],
    "killed and used again": [Machine.start, Machine.kill, Machine.start, Machine.close, Machine.start],
    "damaged and made again": [Machine.start, Machine.damage, Machine.start, Machine.write, Machine.close],
}


def is_whole(disk: FakeDisk) -> bool:
    content = bytes(disk._file(DATA).content)
    return len(content) == 2 * SECTOR_BYTES and len(set(content)) == 1


@pytest.mark.parametrize("life", LIVES)
def test_after_a_crash_at_any_step_nothing_half_written_is_opened(
    monkeypatch: pytest.MonkeyPatch, life: str
) -> None:
    disk = FakeDisk()
    disk.make_directory(VIEWS.parent)
    disk.sync_directory(Path("/"))
    machine = Machine(disk)
    looked_at = 0

    def crash() -> None:
        nonlocal looked_at
        for surviving in surviving_subsets(len(disk.pending)):
            found = disk.crash(surviving)
            with monkeypatch.context() as patch:
                patch.setattr(boot, "boot_id", lambda: "another boot")
                if reason_not_to_open(VIEWS, found) is None:
                    assert is_whole(found), (disk.log, surviving)
                # And the next start's own work is no worse, wherever it is broken off.
                discarded = found.copy()
                discarded.after_operation = None
                if reason_not_to_open(VIEWS, discarded) is not None:
                    discard(VIEWS, discarded)
                    for again in surviving_subsets(len(discarded.pending)):
                        left = discarded.crash(again)
                        if reason_not_to_open(VIEWS, left) is None:
                            assert is_whole(left)
            looked_at += 1

    disk.after_operation = crash
    for step in LIVES[life]:
        step(machine)
    assert looked_at > 50


def test_what_was_closed_in_order_is_opened_after_any_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk()
    disk.make_directory(VIEWS.parent)
    disk.sync_directory(Path("/"))
    machine = Machine(disk)
    machine.start()
    machine.close()
    monkeypatch.setattr(boot, "boot_id", lambda: "another boot")
    for surviving in surviving_subsets(len(disk.pending)):
        assert reason_not_to_open(VIEWS, disk.crash(surviving)) is None


def test_what_was_thrown_away_in_part_is_not_taken_for_views_that_were_closed(tmp_path: Path) -> None:
    """`boot` alone may go last, whatever ends the process in between."""
    for killed_at in range(1, 5):
        directory = tmp_path / str(killed_at)
        mark_in_use(directory)
        mark_damaged(directory)
        (directory / DATA_NAME).write_bytes(b"damaged")
        (directory / "lock.mdb").write_bytes(b"")

        class Killed(RealDisk):
            operations = 0
            at = killed_at

            def _count(self) -> None:
                self.operations += 1
                if self.operations == self.at:
                    raise KeyboardInterrupt

            def unlink(self, path: Path) -> None:
                self._count()
                super().unlink(path)

            def sync_directory(self, directory: Path) -> None:
                self._count()
                super().sync_directory(directory)

        with pytest.raises(KeyboardInterrupt):
            discard(directory, Killed())
        assert reason_not_to_open(directory) is not None


def test_the_mark_is_durable_before_lmdb_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def open_noting(directory: str, **options: Any) -> Any:
        steps.append("lmdb")
        assert (Path(directory) / "boot").read_text() == boot.boot_id()
        return lmdb.open(directory, **options)

    def sync_noting(self: RealDisk, directory: Path) -> None:
        steps.append(f"sync {directory.name}/")

    class Noting:
        open = staticmethod(open_noting)

        def __getattr__(self, name: str) -> Any:
            return getattr(lmdb, name)

    monkeypatch.setattr(snapshot, "lmdb", Noting())
    monkeypatch.setattr(RealDisk, "sync_directory", sync_noting)
    monkeypatch.setattr(RealDisk, "fsync", lambda self, handle: steps.append("fsync"))
    for _ in range(2):
        views: Views[Any] = Views(tmp_path / "views", (), lambda record: record)
        steps.clear()
        views.open()
        before = steps[: steps.index("lmdb")]
        assert before[-2:] == ["fsync", "sync views/"]
        assert f"sync {tmp_path.name}/" in before
        views.close()
        assert not (tmp_path / "views" / "boot").exists()


@pytest.mark.parametrize(
    ("marked", "because"),
    [
        ("another boot", "the machine went down while they were in use"),
        ("damaged", "they were found to be damaged"),
        (None, "they do not say which code made them"),
    ],
)
def test_the_reason_is_the_true_one(tmp_path: Path, marked: str | None, because: str) -> None:
    """Also where the data would be found wanting in another way as well: they are not even looked at."""
    with lmdb.open(str(tmp_path / "views"), max_dbs=1):
        pass
    if marked is not None:
        (tmp_path / "views" / "boot").write_text(marked)
    views: Views[Any] = Views(tmp_path / "views", (), lambda record: record)
    views.open()
    try:
        assert because in (views.rebuilt_because or "")
        assert views.rebuilding_was_due is (marked is None)
    finally:
        views.close()
