"""Reading commands, killed at each of their steps: `python -m tests.world.killed_tools DIR` runs each command again and
again, each time ended by a signal one step later, until it comes to its end.

A *step* is what can leave something behind: a file is opened, an LMDB environment is opened, a snapshot is begun, a
table is read. It is a fork for each run, so that hundreds of runs cost no more than seconds. What is killed is the
process group, as a terminal does it.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import relay.past.rows  # noqa: F401  (imported before the forks)
import spool.verify.views
import spool.views.fold
import spool.views.snapshot
from tools.cli import cli

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
COMMANDS = (
    ("log", "verify"),
    ("log", "inspect"),
    ("log", "cat"),
    ("log", "tail"),
    ("log", "audit", "--message", "MESSAGE"),
    ("log", "replay", "--until", "MESSAGE"),
    ("queue", "list"),
    ("member", "list"),
)
STEPS_MAX = 2000
FEW_STEPS = 40
#: Python's audit events.
FILES = ("open", "os.listdir", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


class Steps:
    """Counted by all processes of one run; the one that comes to the wanted step ends them all."""

    def __init__(self) -> None:
        self._count = mmap.mmap(-1, 8)
        self._wanted, self._signal = 0, signal.SIGKILL
        self.is_armed = False

    def arm(self, wanted: int, number: signal.Signals) -> None:
        self._count[:] = bytes(8)
        self._wanted, self._signal = wanted, number
        self.is_armed = True

    @property
    def count(self) -> int:
        return int.from_bytes(self._count[:], "little")

    def step(self) -> None:
        if not self.is_armed:
            return
        self._count[:] = (self.count + 1).to_bytes(8, "little")
        if self.count == self._wanted:
            os.killpg(0, self._signal)
            signal.pause()


def main(directory: str, message: str) -> None:
    steps = Steps()
    sys.addaudithook(
        lambda event, _: steps.step() if event in ("open", "os.listdir", "os.rename", "os.remove") else None
    )
    snapshot = spool.views.snapshot
    for owner, name in (
        (snapshot, "open_environment"),
        (spool.views.fold, "open_environment"),
        (snapshot.Snapshot, "__init__"),
        (snapshot.Snapshot, "digest"),
        (snapshot.Snapshot, "end"),
    ):
        setattr(owner, name, _counted(getattr(owner, name), steps))
    # Its child inherits the steps.
    spool.verify.views.get_context = lambda _: get_context("fork")  # type: ignore[assignment]
    report: dict[str, Any] = {}
    for command in COMMANDS:
        words = [message if word == "MESSAGE" else word for word in command]
        arguments = [*words[:2], directory, *words[2:]]
        name, taken = " ".join(command[:2]), 0
        for first in range(len(SIGNALS)):
            # One signal after the other, so that each step meets each signal once all have been the first; of a command
            # of many steps each meets one.
            if taken > FEW_STEPS:
                break
            for wanted in range(1, STEPS_MAX):
                if not _was_killed(arguments, steps, wanted, SIGNALS[(first + wanted) % len(SIGNALS)]):
                    break
            else:
                raise AssertionError(f"{arguments} has no end")
            taken = wanted - 1
        report[name] = taken
    print(json.dumps(report))


def _counted(function: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        steps.step()
        result = function(*arguments, **options)
        steps.step()
        return result

    return counted


def _was_killed(arguments: list[str], steps: Steps, wanted: int, number: signal.Signals) -> bool:
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        for ended_by in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ended_by, signal.SIG_DFL)  # whoever runs the tests may ignore it
        steps.arm(wanted, number)
        cli.main(arguments, standalone_mode=False)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == number, (arguments, status)
        return True
    assert status == 0, (arguments, wanted, status)
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
