"""What a worker may do with files is enforced by the kernel, in real workers; without Landlock they work, too."""

from __future__ import annotations

import logging
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from relay.processes import landlock
from relay.processes.landlock import Rules
from tests.processes.odd_worker import Echo, Echoed, Reach, Touch, Touched
from tests.processes.workers import ROLE, hosting, run

needs_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory, with a file in each place, and beside it another user's of the same disk."""
    for name in (
        "data/relay.toml",
        "data/pepper",
        "data/keys/a.example/s1r.pem",
        "data/log/0001.seg",
        "data/views/data.mdb",
        "data/views/lock.mdb",
        "data-of-another/file",
        "keys/file",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "data" / "link-to-keys").symlink_to("keys")
    (tmp_path / "data" / "link-to-a-key").symlink_to("keys/a.example/s1r.pem")
    (tmp_path / "data" / "log" / "link").symlink_to("../keys/a.example/s1r.pem")
    return tmp_path / "data"


def refused(paths: list[Path], errors: tuple[str, ...]) -> list[str]:
    assert set(errors) <= {"", "PermissionError"}
    return [path.name for path, error in zip(paths, errors, strict=True) if error]


async def touched(role_may: Rules, read: list[Path], write: list[Path]) -> tuple[list[str], list[str]]:
    """Names of what could not be read, and of what could not be written."""
    async with hosting(role=ROLE._replace(may=role_may)) as host:
        (worker,) = host.keeper.workers
        # What Python loads later, it can.
        assert (await worker.channel.call(Echo("x"), Echoed)).text == "hello x"
        question = Touch(tuple(map(str, read)), tuple(map(str, write)))
        answered = await worker.channel.call(question, Touched)
    return refused(read, answered.read), refused(write, answered.write)


@needs_landlock
def test_an_edge_reads_no_key_and_writes_nothing_but_the_lock(directory: Path) -> None:
    rules = Rules(not_read=(str(directory / "keys"),), write=(str(directory / "views" / "lock.mdb"),))
    keys = [
        directory / "keys/a.example/s1r.pem",
        directory / "link-to-keys/a.example/s1r.pem",
        directory / "link-to-a-key",
        directory / "log" / "link",
        directory / "views/../keys/a.example/s1r.pem",
    ]
    legible = [
        directory,
        directory / "relay.toml",
        directory / "pepper",
        directory / "log/0001.seg",
        directory / "views/data.mdb",
        directory / "views/lock.mdb",
        directory.parent / "data-of-another/file",
        directory.parent / "keys/file",
        Path("/etc/passwd"),
        Path("/proc/self/status"),
        Path("/dev/urandom"),
        Path(subprocess.__file__),
        Path(lmdb.__file__),
    ]
    writable = [directory / "views/lock.mdb", Path("/dev/null")]
    closed = [
        directory / "relay.toml",
        directory / "log/0001.seg",
        directory / "log/0002.seg",
        directory / "views/data.mdb",
        directory / "views/new",
        directory / "new",
        directory.parent / "data-of-another/file",
        directory.parent / "data-of-another/new",
        directory / "keys/a.example/new",
    ]

    async def main() -> None:
        not_read, not_written = await touched(rules, keys + legible, writable + closed)
        assert not_read == [path.name for path in keys]
        assert not_written == [path.name for path in closed]

    run(main)
    assert not list(directory.rglob("new"))


@needs_landlock
def test_a_courier_reads_keys_and_writes_nothing_but_the_lock(directory: Path) -> None:
    async def main() -> None:
        lock, segment, key = (
            directory / name for name in ("views/lock.mdb", "log/0001.seg", "keys/a.example/s1r.pem")
        )
        rules = Rules(write=(str(lock),))
        assert await touched(rules, [key, segment], [lock, segment, key]) == ([], [segment.name, key.name])

    run(main)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no such machine is known")
def test_a_fenced_worker_reaches_no_socket_of_this_machine(directory: Path) -> None:
    """The admin socket is one, and its user the relay's: whoever connects there may give the operator's orders."""

    async def main() -> None:
        path = str(directory.parent / "s")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            for rules, error in (
                (None, ""),
                (Rules(write=(str(directory / "views/lock.mdb"),)), "PermissionError"),
            ):
                async with hosting(role=ROLE._replace(may=rules)) as host:
                    (worker,) = host.keeper.workers
                    reached = await worker.channel.call(Reach(path, os.getpid()), Touched)
                assert reached.read == (error,)
                if landlock.version() >= 6:
                    assert reached.write == (error,)

    run(main)


@needs_landlock
def test_new_segments_and_renewed_certificates_elsewhere_can_be_read(directory: Path) -> None:
    """What is made later below a directory that may be read; a new file right in the data directory is closed."""

    async def main() -> None:
        rules = Rules(not_read=(str(directory / "keys"),))
        async with hosting(role=ROLE._replace(may=rules)) as host:
            later = [directory / "log/0002.seg", directory.parent / "data-of-another/renewed.pem"]
            closed = [directory / "pepper.2", directory / "keys/a.example/s2r.pem"]
            for path in later + closed:
                path.write_bytes(b"x")
            question = Touch(tuple(map(str, later + closed)), ())
            answered = await host.keeper.workers[0].channel.call(question, Touched)
            assert refused(later + closed, answered.read) == [path.name for path in closed]

    run(main)


@needs_landlock
def test_what_a_fenced_process_begins_is_fenced_in_too(directory: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "from relay.processes.landlock import Rules, enforce\n"
        "assert enforce(Rules(not_read=(sys.argv[1] + '/keys',)))\n"
        "sys.exit(subprocess.run(['cat', sys.argv[1] + '/keys/a.example/s1r.pem']).returncode)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"denied" in done.stderr


@needs_landlock
def test_of_no_change_to_a_tree_any_is_left(directory: Path) -> None:
    """Every way to change a tree, beside opening a file: each is refused."""
    program = (
        "import os, sys\n"
        "from relay.processes.landlock import Rules, enforce\n"
        "os.chdir(sys.argv[1])\n"
        "log = os.open('log', os.O_RDONLY)\n"
        "assert enforce(Rules(not_read=('keys',), write=('views/lock.mdb',)))\n"
        "for change in (\n"
        "    lambda: os.unlink('log/0001.seg'),\n"
        "    lambda: os.rename('log/0001.seg', 'log/0002.seg'),\n"
        "    lambda: os.rename('log/0001.seg', 'views/0001.seg'),\n"
        "    lambda: os.link('keys/a.example/s1r.pem', 'log/key'),\n"
        "    lambda: os.link('keys/a.example/s1r.pem', 'keys/a.example/key'),\n"
        "    lambda: os.symlink('keys', 'log/keys'),\n"
        "    lambda: os.mkdir('new'),\n"
        "    lambda: os.rmdir('log'),\n"
        "    lambda: os.mkfifo('new'),\n"
        "    lambda: os.truncate('log/0001.seg', 0),\n"
        "    lambda: os.unlink('views/lock.mdb'),\n"
        "    lambda: os.open('0001.seg', os.O_WRONLY, dir_fd=log),\n"
        "    lambda: os.open('log', os.O_TMPFILE | os.O_WRONLY),\n"
        "):\n"
        "    try:\n"
        "        change()\n"
        "    except OSError:\n"
        "        continue\n"
        "    sys.exit('a change was made')\n"
        "os.truncate('views/lock.mdb', 0)\n"
    )
    before = sorted(directory.rglob("*"))
    done = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(directory.rglob("*")) == before
    assert (directory / "log/0001.seg").read_bytes() == b"x"


@needs_landlock
@pytest.mark.parametrize("in_the_way", ["a thread", "no such file"])
def test_what_cannot_be_enforced_is_an_error(directory: Path, in_the_way: str) -> None:
    program = (
        "import sys, threading, time\n"
        "from relay.processes.landlock import Rules, enforce\n"
        "if sys.argv[1] == 'a thread':\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "try:\n"
        "    enforce(Rules(write=(sys.argv[2] + ('/pepper' if sys.argv[1] == 'a thread' else '/nothing'),)))\n"
        "except OSError:\n"
        "    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, in_the_way, str(directory)]
    assert subprocess.run(command, check=False).returncode == 7


def test_where_there_is_none_it_is_said_once_and_the_worker_works(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert landlock.enforce(Rules(not_read=(str(directory / "keys"),))) is False

    async def main() -> None:
        async with hosting(2, role=ROLE._replace(may=Rules())) as host:
            assert len(host.keeper.workers) == 2

    with caplog.at_level(logging.WARNING):
        run(main)
    assert [record.getMessage() for record in caplog.records].count("landlock.not_there") == 1
