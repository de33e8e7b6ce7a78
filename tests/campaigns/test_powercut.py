"""A slice of the campaign that cuts the power, the disk that it is cut from, and bugs that it must find.

The slices need root, /dev/fuse, loop devices and ext4; where one is missing they are skipped, and say which.
"""

from __future__ import annotations

import errno
import os
import random
import re
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.campaigns.powercut import __main__ as command
from tests.campaigns.powercut import fuse
from tests.campaigns.powercut.after import changes, look
from tests.campaigns.powercut.campaign import Record, deck_of, report
from tests.campaigns.powercut.disk import FATES, Disk, Write, surviving
from tests.campaigns.powercut.fuse import Op
from tests.campaigns.powercut.served import Served
from tests.campaigns.powercut.troubles import DESCRIPTIONS, TROUBLES
from tests.world.process import wait_until

DISK_BYTES = 1 << 20
PATIENCE_SECONDS = 180


def cut_power(*options: str) -> subprocess.CompletedProcess[str]:
    """The command; skips the test where this machine cannot do it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.powercut", *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if done.stdout.startswith("No power is cut: "):
        assert done.returncode == 0
        pytest.skip(done.stdout.strip())
    return done


def test_a_round_on_ext4() -> None:
    done = cut_power("--rounds", "1", "--only", "under_load")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 rounds" in done.stdout
    assert count(done.stdout, "cuts of the power") == 1
    # Each batch of the log is one of them at least: fdatasync comes down to the disk.
    assert (
        count(done.stdout, "flushes, which came as such") > count(done.stdout, "sends answered 200") / 8 > 0
    )
    assert count(done.stdout, "everything ended, and the log held against the receivers") == 1


@pytest.mark.parametrize("plant", ["no-fdatasync", "no-fsync"])
def test_a_planted_bug_is_found_within_three_rounds(plant: str) -> None:
    done = cut_power("--rounds", "3", "--plant", plant)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Planted: .* FOUND, in round [123]\.$", done.stdout, re.MULTILINE)


def test_nothing_outlives_it(tmp_path: Path) -> None:
    """Killed in the middle of a round: no process, no mount, no loop device."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.campaigns.powercut", "--only", "under_load"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    if first.startswith("round 1"):
        assert loops_on(tmp_path)
    process.kill()
    # Every process of it has this pipe open.
    assert process.stdout.read() == ""
    process.wait(PATIENCE_SECONDS)
    process.stdout.close()
    if first.startswith("No power is cut: "):
        pytest.skip(first.strip())
    assert first.startswith("round 1")
    # The kernel lets go of the device once the last mount is gone, by and by.
    wait_until(lambda: not loops_on(tmp_path), lambda: f"{loops_on(tmp_path)} let go of the disk")
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def loops_on(directory: Path) -> list[str]:
    """The loop devices on files below it."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it may go while we look
            if path.read_text().startswith(str(directory)):
                found.append(path.parts[3])
    return found


def count(said: str, words: str) -> int:
    (found,) = re.findall(rf"^ *([0-9,]+)  {re.escape(words)}", said, re.MULTILINE)
    return int(found.replace(",", ""))


def test_where_it_cannot_be_done_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["powercut"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command.main()
    assert capsys.readouterr().out == "No power is cut: only root can mount file systems.\n"


def test_the_summary_is_for_strangers() -> None:
    assert "0  cuts of the power" in report(Record("ext4", 1))
    assert all(DESCRIPTIONS.values())
    assert set(deck_of()) == {trouble.__name__ for trouble in TROUBLES}
    planted = {name for plant in command.PLANTS.values() for name in plant.troubles}
    assert planted <= set(deck_of())


# ------------------------------------------------------------------------------------------------ the disk


def test_what_was_flushed_stays_whatever_becomes_of_the_rest() -> None:
    for fate in FATES:
        for seed in range(20):
            disk = Disk(DISK_BYTES)
            disk.write(b"a" * 8192, 4096)
            disk.flush()
            disk.write(b"b" * 8192, 8192)
            disk.write(b"c" * 512, 4096)
            assert disk.read(12288, 4096) == b"c" * 512 + b"a" * 3584 + b"b" * 8192
            disk.lose_power(fate, random.Random(seed), 512)
            found = disk.read(12288, 4096)
            assert found[512:4096] == b"a" * 3584
            assert set(found[:512]) <= {ord("a")} or set(found[:512]) == {ord("c")}
            for start in range(4096, 12288, 512):
                old = b"a" if start < 8192 else b"\0"
                assert found[start : start + 512] in (old * 512, b"b" * 512)
            disk.lose_power("everything", random.Random(seed), 512)
            assert disk.read(12288, 4096) == found
            disk.close()


def test_a_disk_that_lies_keeps_nothing() -> None:
    disk = Disk(DISK_BYTES, lies=True)
    disk.write(b"a" * 512, 0)
    disk.flush()
    assert disk.lose_power("nothing", random.Random(1), 512).bytes_lost == 512
    assert disk.read(512, 0) == bytes(512)
    disk.close()


def test_each_fate_does_what_it_says() -> None:
    cache = [Write(512 * number, bytes([number]) * 8192) for number in range(8)]
    dice = random.Random(1)
    assert list(surviving(cache, "nothing", dice, 512)) == []
    assert list(surviving(cache, "everything", dice, 512)) == cache
    for _ in range(50):
        kept = list(surviving(cache, "prefix", dice, 512))
        whole = [write for write in kept if len(write.data) == 8192]
        assert whole == cache[: len(whole)]
        assert {write.data[0] for write in kept[len(whole) :]} <= {len(whole)}
        assert set(surviving(cache, "writes", dice, 512)) <= set(cache)
    sizes = {len(write.data) for _ in range(50) for write in surviving(cache, "atoms", dice, 4096)}
    # Atoms begin at multiples of 4096, wherever a write does.
    assert max(sizes) == 4096
    assert sizes > {512}


# ------------------------------------------------------------------------------------------------ what the kernel hears


def message(
    op: Op, unique: int, *, node: int = 2, offset: int = 0, data: bytes = b"", length: int = 0
) -> bytes:
    body = struct.pack("<QQI20x", 0, offset, len(data) or length) + data
    return struct.pack("<IIQQIIIHH", 40 + len(body), op, unique, node, 0, 0, 0, 0, 0) + body


def ask(served: Served, asked: bytes) -> tuple[int, bytes] | None:
    """The error, or 0, and the body; None where there is no answer yet."""
    answers = served.answers(fuse.decode(asked))
    if not answers:
        return None
    (answer,) = answers
    length, error, _ = struct.unpack_from("<IiQ", answer)
    assert length == len(answer)
    return -error, answer[16:]


def test_from_the_cut_on_no_write_and_no_flush_is_answered() -> None:
    served = Served(Disk(DISK_BYTES))
    assert ask(served, message(Op.WRITE, 1, data=b"a" * 512)) == (0, struct.pack("<II", 512, 0))
    assert ask(served, message(Op.FSYNC, 2)) == (0, b"")
    assert ask(served, message(Op.WRITE, 3, offset=512, data=b"b" * 512)) is not None
    served.order("arm", {"op": "FSYNC", "count": 2, "afterwards": False})
    assert ask(served, message(Op.FSYNC, 4)) == (0, b"")
    assert ask(served, message(Op.WRITE, 5, offset=1024, data=b"c" * 512)) is not None
    assert not served.is_cut
    assert ask(served, message(Op.FSYNC, 6)) is None
    assert served.is_cut
    assert ask(served, message(Op.WRITE, 7, data=b"d" * 512)) is None
    assert ask(served, message(Op.READ, 8, length=512)) == (0, b"a" * 512)
    _, refused = served.order("die", {})
    assert [struct.unpack_from("<IiQ", answer)[1:] for answer in refused] == [
        (-errno.EIO, 6),
        (-errno.EIO, 7),
    ]
    assert ask(served, message(Op.READ, 9, length=512)) == (errno.EIO, b"")
    loss, _ = served.order("survive", {"fate": "nothing", "seed": 1, "atom_bytes": 512})
    assert (loss["writes"], loss["bytes_lost"]) == (1, 512)
    # The old file is dead for ever; the next one is the disk.
    assert ask(served, message(Op.WRITE, 10, data=b"e" * 512)) == (errno.EIO, b"")
    assert ask(served, message(Op.READ, 11, node=3, length=1536)) == (0, b"a" * 512 + b"b" * 512 + bytes(512))
    served.disk.close()


def test_a_flush_may_be_done_and_nobody_told() -> None:
    served = Served(Disk(DISK_BYTES))
    assert ask(served, message(Op.WRITE, 1, data=b"a" * 512)) is not None
    served.order("arm", {"op": "FSYNC", "count": 1, "afterwards": True})
    assert ask(served, message(Op.FSYNC, 2)) is None
    served.order("die", {})
    served.order("survive", {"fate": "nothing", "seed": 1, "atom_bytes": 512})
    assert ask(served, message(Op.READ, 3, node=3, length=512)) == (0, b"a" * 512)
    served.disk.close()


# ------------------------------------------------------------------------------------------------ files after a cut


def test_files_that_are_not_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "keys" / "a.example").mkdir(parents=True)
    for name in ("boot", "mark", "keys/a.example/k1.pem", "7.seg", "kept"):
        (tmp_path / name).write_text(name)
    before = look(tmp_path)
    assert changes(before, look(tmp_path)) == {}
    (tmp_path / "boot").unlink()
    (tmp_path / "mark").write_text("")
    (tmp_path / "keys/a.example/k1.pem").write_text("older")
    (tmp_path / "7.seg").write_text("judged by what it holds")
    (tmp_path / "9.seg").touch()
    assert changes(before, look(tmp_path)) == {
        ("boot", "was there, and is gone"): 1,
        ("mark", "was whole, and is empty"): 1,
        ("keys/*", "is what it was before"): 1,
        ("N.seg", "was gone, and is there again"): 1,
    }
