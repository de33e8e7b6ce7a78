"""How long does an operator's command take that has next to nothing to do?

    python -m benchmarks.command_start

Seconds of processor (user and system) of the whole process, from its start to its end: what is measured is mostly what
is imported. The ceiling, in the same round, is a Python that imports click and ends. Everything is asked once before it
is measured, so that Python has its bytecode; the data directory is one member's, with nothing sent.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.command import Effort, bench_directory, run
from benchmarks.report import Comparison, Demand, Row
from benchmarks.world import enrolled_relay

QUESTION = "command_start"
HELP_SECONDS_MAX = 0.15
SMALL_SECONDS_MAX = 0.3

#: As it is installed: what its own wrapper imports counts, too.
COMMAND = str(Path(sys.executable).with_name("atmos-relay"))
#: As a shell asks what may follow `atmos-relay log re`.
COMPLETING = {
    "_ATMOS_RELAY_COMPLETE": "bash_complete",
    "COMP_WORDS": "atmos-relay\nlog\nre",
    "COMP_CWORD": "2",
}
CEILING = (sys.executable, "-c", "import click")


def measure(effort: Effort) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="start-bench-", dir=bench_directory()) as name:
        directory = str(Path(name) / "data")
        relay = enrolled_relay(Path(directory), route="127.0.0.1:1")
        looks = [("member", "list", directory), ("queue", "list", directory)]
        yield _row(effort, ("--help",), "--help", HELP_SECONDS_MAX)
        yield _row(effort, (), "completion of a command's name", HELP_SECONDS_MAX, **COMPLETING)
        with relay.running():
            for words in looks:
                yield _row(effort, words, f"{words[0]} list, beside a running relay", SMALL_SECONDS_MAX)
        for words in [*looks, ("log", "inspect", directory)]:
            yield _row(effort, words, f"{words[0]} {words[1]}, on a directory", SMALL_SECONDS_MAX)


def _row(effort: Effort, words: Sequence[str], case: str, seconds_max: float, **environment: str) -> Row:
    seconds: list[float] = []
    floors: list[float] = []
    _processor_seconds((COMMAND, *words), **environment)
    for _ in range(effort.many_rounds):
        floors.append(_processor_seconds(CEILING))
        seconds.append(_processor_seconds((COMMAND, *words), **environment))
    return Row(
        question=QUESTION,
        case=case,
        what="seconds of processor",
        values=seconds,
        against=Comparison("s, import click", floors),
        lower_is_better=True,
        asked=Demand("median", at_most=seconds_max),
    )


def _processor_seconds(command: Sequence[str], **more: str) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **more})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} failed: {process.returncode}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    run({QUESTION: measure})
