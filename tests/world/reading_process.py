"""A process that reads the views and the log of a relay that the test runs, as an edge or a courier does.

    with reading_process(directory) as reader:
        assert reader.ask("last_seq") == store.last_seq

It does what it is asked, and nothing else: so a test decides what has happened when it reads. That it cannot open what
it is to read, it says, and ends: `ended_because`.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from relay.codec import Recorded
from relay.reading_store import ReadingStore, open_reading_store
from relay.views import messages


class ReadingProcess:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said: str | None = None

    def ask(self, what: str, *arguments: Any) -> Any:
        """One of the functions of ANSWERS. Raises EOFError when it has ended, with why."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self.process.stdin.flush()
        return self._next()

    def wait_open(self) -> None:
        assert self._next() == "open"

    @property
    def ended_because(self) -> str:
        """Waits for its end. The exception's last line."""
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        assert self.process.wait() != 0
        return said.strip().splitlines()[-1]

    def _next(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self.ended_because)
        return json.loads(line)


@contextmanager
def reading_process(directory: Path, *, begin: str = "") -> Iterator[ReadingProcess]:
    """`begin`: what it does before it opens anything, one of the functions of BEGINNINGS."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(directory), begin],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield ReadingProcess(process)
        finally:
            process.kill()


def shown(recorded: Recorded) -> Any:
    """An event as it passes between the processes."""
    return json.loads(msgspec.json.encode([recorded.seq, recorded.time_us, recorded.event]))


# ------------------------------------------------------------------------------------------------ in the process


def _get_all(store: ReadingStore) -> list[Any]:
    return [shown(store.get(seq)) for seq in range(1, store.last_seq + 1)]


def _status(store: ReadingStore, message_id: int) -> str | None:
    with store.read() as view:
        state = messages.message(view, message_id)
    return None if state is None else state.status


def _open_segments(store: ReadingStore) -> list[str]:
    """As the kernel names them; what has no name any more is marked by it."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue  # the one of the listing
    return sorted(link for link in links if ".seg" in link)


ANSWERS = {
    "last_seq": lambda store: store.last_seq,
    "now_us": lambda store: store.now_us(),
    "get": lambda store, seq: shown(store.get(seq)),
    "get_all": _get_all,
    "status": _status,
    "let_go": ReadingStore.let_go,
    "open_segments": _open_segments,
    "is_replaced": lambda store: store.is_replaced,
}


def _give_up_rights() -> None:
    """Root writes what nobody may write, unless it gives up its capabilities (capset of Linux, version 3)."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    none = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(Header(0x20080522, 0)), none):
        raise OSError(ctypes.get_errno(), "capset")


BEGINNINGS = {"": lambda: None, "give_up_rights": _give_up_rights}


def main(directory: str, begin: str) -> None:
    BEGINNINGS[begin]()
    with open_reading_store(Path(directory), lambda: 0) as store:
        print(json.dumps("open"), flush=True)
        for line in sys.stdin:
            what, *arguments = json.loads(line)
            print(json.dumps(ANSWERS[what](store, *arguments)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
