"""A relay that tells how long the longest step of its loop was: what everybody else had to wait for.

    python -m benchmarks.steps serve DIR

The real command, with trio's own hook around each step of each task. Whoever connects to `steps.sock` beside DIR is
told the most processor time, in seconds, that one step took since somebody was told last. It is processor time, because
on a busy machine any step may be interrupted; what the loop waits for it does not count.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

import trio

from benchmarks.world import BenchedRelay
from tools.cli import main

COMMAND = ("-m", "benchmarks.steps")
_SOCKET = "steps.sock"


class _Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.longest = 0.0
        self._since = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._since = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.thread_time() - self._since)


def longest_step(relay: BenchedRelay) -> float:
    """Of a relay whose command is COMMAND, since this was asked last."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(relay.directory.with_name(_SOCKET)))
        return float(connection.makefile().read())


def _tell(server: socket.socket, steps: _Steps) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            longest, steps.longest = steps.longest, 0.0
            connection.sendall(f"{longest:.6f}".encode())


def _serve(directory: Path) -> None:
    steps = _Steps()
    path = directory.with_name(_SOCKET)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        threading.Thread(target=_tell, args=(server, steps), daemon=True).start()
        trio.run = partial(trio.run, instruments=[steps])
        main()


if __name__ == "__main__":
    _serve(Path(sys.argv[2]))
