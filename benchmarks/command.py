"""The command line of the benchmarks: how much to measure, and where the results go.

    python -m benchmarks [QUESTION ...] [--rounds 3] [--seconds 3] [--scale 1] [--json FILE]

`--scale 0.01` asks the same questions of a hundredth of the messages: a rehearsal, not a figure. `BENCH_DIR` names the
directory whose disk is measured; the temporary directory otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.report import (
    Row,
    Run,
    closing_line,
    describe,
    encode,
    see_environment,
    table,
)


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int = 3
    seconds: float = 3.0
    """Of each load."""
    scale: float = 1.0

    @property
    def many_rounds(self) -> int:
        """Where a tenth must be told from noise of a quarter."""
        return self.rounds * 2 + 1

    def scaled(self, count: int) -> int:
        """Of a number of messages, members, …; never less than 10."""
        return max(10, int(count * self.scale))


Measure = Callable[[Effort], Iterator[Row]]


def bench_directory() -> Path:
    return Path(os.environ.get("BENCH_DIR") or tempfile.gettempdir())


def run(questions: dict[str, Measure], arguments: list[str] | None = None) -> bool:
    """Ask those that were named, or all; print the table, and write it where `--json` says. Whether every demand was
    met."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(questions))
    parser.add_argument("--rounds", type=int, default=Effort().rounds, help="medians are of so many")
    parser.add_argument("--seconds", type=float, default=Effort().seconds, help="of each load")
    parser.add_argument("--scale", type=float, default=Effort().scale, help="of messages, members and so on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    options = parser.parse_args(arguments)
    # A command compiles its modules once, as it does for everybody, and not at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if unknown := set(options.questions) - set(questions):
        parser.error(f"no such question: {', '.join(sorted(unknown))}; there are {', '.join(questions)}")
    asked = {name: questions[name] for name in options.questions or questions}
    result = _measure(asked, Effort(options.rounds, options.seconds, options.scale))
    print(f"\n{table(result.rows)}\n\n{describe(result.environment)}\n{closing_line(result.rows)}")
    if options.json is not None:
        options.json.write_bytes(encode(result))
        print(f"written to {options.json}")
    return all(row.is_met for row in result.rows)


def _measure(questions: dict[str, Measure], effort: Effort) -> Run:
    environment = see_environment(bench_directory())
    begun = time.monotonic()
    rows: list[Row] = []
    for name, measure in questions.items():
        print(f"{time.monotonic() - begun:5.0f} s  {name} ...", file=sys.stderr, flush=True)
        rows += _said(measure(effort))
    return Run(
        msgspec.structs.replace(environment, load_after=os.getloadavg()[0], seconds=time.monotonic() - begun),
        rows,
    )


def _said(rows: Iterable[Row]) -> Iterator[Row]:
    """Each row as soon as it is there, for whoever waits."""
    for row in rows:
        print(f"         {table([row]).splitlines()[1]}", file=sys.stderr, flush=True)
        yield row
