"""Programs that nobody here wrote, run as their Debian packages bring them, each in a directory of its own.

    with open_daemon_directory("rspamd", owner="_rspamd") as directory, running([command, ...], directory, ready=...):
        ...

They are gone when the test is, whatever ends it, one that is killed among it (`tests.world.reaper`).

Nothing of the system's own configuration, state or running services is read or touched, and everything listens on
loopback only. The programs start as root and work as users of their own, so their directory is below /tmp, where those
users can reach it, and its name is short, as those of sockets have to be.

Where a program is missing or may not be started, the test is skipped, and says what to install; with
REQUIRE_RECEIVERS=1, as in CI, it fails.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from tests.world.process import PATIENCE_SECONDS, wait_until
from tests.world.reaper import Reaper

#: Where Debian keeps what only root runs.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))

OUTPUT_FILE = "output"
#: By `free_port`.
_GIVEN: set[int] = set()


def require_daemon(package: str) -> str:
    """The path of the program that has the same name as its package. Skips or fails the test where it cannot run."""
    found = require_program(package)
    if os.geteuid() != 0:
        _is_missing(f"{package} must be started by root")
    return found


def require_program(name: str, *, package: str | None = None) -> str:
    """The path of a program, which anybody may run. Skips or fails the test where it is not there."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        _is_missing(f"{name} is not installed: apt-get install --no-install-recommends {package or name}")
    return found


def require_file(path: Path, how: str) -> Path:
    """What is there once somebody has done `how`. Skips or fails the test where it is not there."""
    if not path.exists():
        _is_missing(f"{path} is not there: {how}")
    return path


def _is_missing(problem: str) -> NoReturn:
    if os.environ.get("REQUIRE_RECEIVERS") == "1":
        pytest.fail(problem)
    pytest.skip(problem)


def free_port() -> int:
    """A port that nobody listens on at this moment, for programs that must be told one.

    Not one of those that the kernel gives to connections: with hundreds of them, as in tests that run beside this one,
    it would soon be somebody's. Nor one that was given before, whose program may be about to listen; and each of
    pytest-xdist's workers has numbers of its own.
    """
    begin_of_theirs = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = random.SystemRandom().randrange(1024 + worker, begin_of_theirs, workers)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def open_daemon_directory(name: str, *, owner: str, below: Path = Path("/tmp")) -> Iterator[Path]:
    """A directory that belongs to the user `owner`, and is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=below))
    reaper = Reaper(directory)
    try:
        directory.chmod(0o711)
        shutil.chown(directory, owner)
        yield directory
    finally:
        reaper.reap()


@contextmanager
def running(command: Sequence[str], directory: Path, *, ready: Callable[[], bool]) -> Iterator[Path]:
    """A program in the foreground, from when it is `ready`; gives the file with what it has written to its outputs.

    It has a session of its own, and none of its processes is left at the end.
    """
    output = directory / OUTPUT_FILE
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    reaper = Reaper(None)
    reaper.started(process.pid)

    def is_ready() -> bool:
        assert process.poll() is None, f"{command[0]} ended: {output.read_text()}"
        return ready()

    try:
        wait_until(is_ready, lambda: f"{command[0]} is ready. {output.read_text()}")
        yield output
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            _kill_group(process.pid)
            reaper.ended(process.pid)
            reaper.reap()


def _kill_group(group: int) -> None:
    """Whoever has outlived the first process of the group, which is over."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
