"""What a benchmark has found: rows of one table, for people, for pages, and as JSON.

A row is one figure: what was measured in every round, and what it is held against, **measured in the same run, round by
round in turn**, because a shared machine is slower at one time than at another. The ratio is the median of the rounds'
ratios, and 1 means: as good as the ceiling, whichever way is better.

A demand that is not met is said and is no error: what it depends on may be the machine.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

PACKAGES = ("trio", "hypercorn", "quart-trio", "lmdb", "cbor2", "cryptography")


class Comparison(msgspec.Struct, frozen=True):
    """The ceiling, or another program that does the same; a value for each round."""

    what: str
    values: Sequence[float]


class Demand(msgspec.Struct, frozen=True):
    """What was asked of a figure before it was measured."""

    of: Literal["median", "ratio"]
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def __str__(self) -> str:
        bounds = [("≥", self.at_least), ("≤", self.at_most)]
        text = " and ".join(f"{sign} {bound:,g}" for sign, bound in bounds if bound is not None)
        return f"ratio {text}" if self.of == "ratio" else text


class Row(msgspec.Struct, frozen=True, kw_only=True):
    question: str
    """The benchmark's name: `python -m benchmarks.QUESTION` measures it again."""
    case: str
    what: str
    """With its unit, as in `durable sends/s`."""
    values: Sequence[float]
    """One for each round."""
    against: Comparison | None = None
    lower_is_better: bool = False
    asked: Demand | None = None
    is_headline: bool = False
    """Whether it stands in the first table of docs/PERFORMANCE.md."""

    @property
    def ratio(self) -> float | None:
        if self.against is None:
            return None
        pairs = zip(self.values, self.against.values, strict=True)
        return median(best / ours if self.lower_is_better else ours / best for ours, best in pairs)

    @property
    def is_met(self) -> bool:
        """Whether what was asked is true of what was measured; true where nothing was asked."""
        if self.asked is None:
            return True
        value = self.ratio if self.asked.of == "ratio" else median(self.values)
        assert value is not None, f"{self.question}: a demand on a ratio without a comparison"
        return self.asked.is_met(value)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    date: str
    """When it began, UTC."""
    commit: str
    """With a + behind it where files had been changed since."""
    processor: str
    cores: int
    memory_mib: int
    kernel: str
    file_system: str
    python: str
    packages: dict[str, str]
    load_before: float
    load_after: float = 0.0
    """The average load of one minute; what was measured is in it."""
    seconds: float = 0.0


class Run(msgspec.Struct, frozen=True):
    """What `make bench` writes."""

    environment: Environment
    rows: list[Row]


def encode(run: Run) -> bytes:
    """JSON, with what can be computed from the values beside them, for those who read it without us."""
    rows = []
    for row in run.rows:
        summary: dict[str, float | bool | None] = {**_summary(row.values), "ratio": row.ratio}
        if row.asked is not None:
            summary["asked_is_met"] = row.is_met
        written = msgspec.to_builtins(row)
        if row.against is not None:
            written["against"] |= _summary(row.against.values)
        rows.append(written | summary)
    whole = {"environment": msgspec.to_builtins(run.environment), "rows": rows}
    return msgspec.json.format(msgspec.json.encode(whole)) + b"\n"


def decode(data: bytes) -> Run:
    return msgspec.json.decode(data, type=Run)


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


# ------------------------------------------------------------------------------------------------ for people


def number(value: float) -> str:
    """Three digits or so; more would claim what nobody knows."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cells(row: Row) -> list[str]:
    values = sorted(row.values)
    against = "" if row.against is None else f"{number(median(row.against.values))} {row.against.what}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    asked = "" if row.asked is None else f"{row.asked}: {'met' if row.is_met else 'NOT MET'}"
    figures = [number(value) for value in (median(values), values[0], values[-1])]
    return [row.question, row.case, row.what, *figures, against, ratio, asked]


_TITLES = ["question", "case", "what", "median", "min", "max", "against, same run", "ratio", "asked"]
_RIGHT = {"median", "min", "max", "ratio"}


def table(rows: Iterable[Row]) -> str:
    """For the terminal: aligned, and what repeats itself only once."""
    lines = [_TITLES, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    printed, before = [], [""] * len(_TITLES)
    for line in lines:
        cells = list(line)
        if line[0] == before[0]:
            cells[0] = ""
            cells[1] = "" if line[1] == before[1] else line[1]
        aligned = [
            f"{cell:>{width}}" if title in _RIGHT else f"{cell:<{width}}"
            for cell, width, title in zip(cells, widths, _TITLES, strict=True)
        ]
        printed.append("  ".join(aligned).rstrip())
        before = line
    return "\n".join(printed)


def markdown(rows: Iterable[Row]) -> str:
    """For the pages: median, minimum and maximum in one column, so that the table is not too wide."""
    titles = [*_TITLES[:3], "median (min to max)", *_TITLES[6:]]
    lines = [titles, ["---:" if title in ("ratio", titles[3]) else "---" for title in titles]]
    for row in rows:
        cells = _cells(row)
        middle, least, most = cells[3:6]
        lines.append([*cells[:3], middle if least == most else f"{middle} ({least} to {most})", *cells[6:]])
    return "\n".join(f"| {' | '.join(line)} |".replace("  ", " ") for line in lines)


def describe(environment: Environment) -> str:
    return (
        f"{environment.date}, commit {environment.commit}; {environment.processor}, {environment.cores} cores, "
        f"{environment.file_system}, Linux {environment.kernel}, Python {environment.python}; load "
        f"{environment.load_before:.1f} before; {environment.seconds / 60:.0f} minutes"
    )


def closing_line(rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row.asked is not None]
    return f"{sum(row.is_met for row in asked)} of {len(asked)} demands are met in this run"


# ------------------------------------------------------------------------------------------------ where it was


def see_environment(directory: Path) -> Environment:
    """The machine, and the file system of that directory."""
    return Environment(
        date=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        commit=_commit(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        kernel=platform.release(),
        file_system=_said_by("findmnt", "--noheadings", "--output=FSTYPE", f"--target={directory}")
        or "unknown",
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        load_before=os.getloadavg()[0],
    )


def _commit() -> str:
    changed = "+" if _said_by("git", "status", "--porcelain", "--untracked-files=no") else ""
    commit = _said_by("git", "rev-parse", "--short=12", "HEAD")
    return f"{commit}{changed}" if commit else "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said_by(*command: str) -> str:
    """Nothing where there is no such program, or it has nothing to say."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
