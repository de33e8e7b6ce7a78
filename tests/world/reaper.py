"""Ends what its parent has started, when the parent ends, however that is: a program that is told of processes.

    python -I reaper.py [DIRECTORY]      # +PID: it is to be ended, and its children; -PID: it has ended

When its input ends, which `kill -9` of the parent does, too, it kills them, stopped ones also, and whatever server of
PostgreSQL has its data in the directory, whoever started that, and removes the directory. It is in a session of its
own, so that a signal to the parent's group does not reach it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SECONDS_FOR_FILES = 10.0


class Reaper:
    """The parent's half."""

    def __init__(self, directory: Path | None) -> None:
        """None: there is nothing to remove."""
        where = [] if directory is None else [str(directory)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, *where], stdin=subprocess.PIPE, start_new_session=True
        )

    def started(self, process: int) -> None:
        self._tell(f"+{process}\n")

    def ended(self, process: int) -> None:
        self._tell(f"-{process}\n")

    def reap(self) -> None:
        """Now. Returned: all is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()


def signal_all(parent: int, number: signal.Signals) -> None:
    """To a process and all of its children."""
    if number != signal.SIGCONT:
        _send(parent, signal.SIGSTOP)  # it begins no others meanwhile
    for process in (parent, *_children(parent)):
        _send(process, number)


def release_memory(directory: Path) -> None:
    """A server of PostgreSQL that was killed leaves a segment of shared memory, and a machine has 4,096 of these at
    most. `directory`: its data, where it wrote which one it has (its seventh line: key and id)."""
    with suppress(FileNotFoundError):
        lines = (directory / "postmaster.pid").read_text().splitlines()
        if len(lines) >= 7:
            # It is none any more where somebody was quicker.
            subprocess.run(["ipcrm", "-m", lines[6].split()[1]], check=False, stderr=subprocess.DEVNULL)


def _kill_server(directory: Path) -> None:
    """The server of PostgreSQL that has its data here, if one has: Patroni's are no children of Patroni."""
    with suppress(OSError, ValueError, IndexError):
        process = int((directory / "postmaster.pid").read_text().split()[0])
        # The number may be another's by now.
        if Path(f"/proc/{process}/cwd").resolve() == directory.resolve():
            signal_all(process, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # Behind the name, which may hold anything: the state, and the parent.
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes: set[int] = set()
    for line in sys.stdin:
        if line[0] == "+":
            processes.add(int(line[1:]))
        else:
            processes.discard(int(line[1:]))
    for process in processes:
        signal_all(process, signal.SIGKILL)
    for name in sys.argv[1:]:
        _clear(Path(name))


def _clear(directory: Path) -> None:
    for file in directory.rglob("postmaster.pid"):
        _kill_server(file.parent)
        release_memory(file.parent)
    # Who is just ending may still make a file.
    until = time.monotonic() + SECONDS_FOR_FILES
    while directory.exists() and time.monotonic() < until:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
