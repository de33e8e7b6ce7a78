"""How many appends a second, and how far is that from what the disk alone would give?

    python -m benchmarks.append

The ceiling is measured in the same round, on the same file system, with the batch sizes that the log really made: a
bare write and fdatasync of so many bytes, one after the other. What is missing to it is our own work. The two take
turns at going first; the disk's sizes are those of the log's latest run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from benchmarks.command import Effort, bench_directory, run
from benchmarks.report import Comparison, Demand, Row
from spool import Entry, LogStatistics, open_log

QUESTION = "append"
APPENDERS = (1, 8, 64, 256)
#: The case that the demand speaks of.
USUAL = 64
SKELETON_BYTES = 210
PAYLOAD_BYTES = 2048
APPENDS = 20_000


async def measure_log(directory: Path, appenders: int, appends: int) -> tuple[float, LogStatistics]:
    entry = [Entry(os.urandom(SKELETON_BYTES), os.urandom(PAYLOAD_BYTES))]

    async with open_log(directory) as log:

        async def appender() -> None:
            for _ in range(max(1, appends // appenders)):
                await log.append(entry)

        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(appenders):
                nursery.start_soon(appender)
        return time.perf_counter() - start, log.statistics()


def measure_disk(path: Path, batch_bytes: int, batches: int) -> float:
    data = os.urandom(batch_bytes)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        start = time.perf_counter()
        for number in range(batches):
            os.pwrite(handle, data, number * batch_bytes)
            os.fdatasync(handle)
        return time.perf_counter() - start
    finally:
        os.close(handle)


def _measure_log(appenders: int, appends: int) -> tuple[float, LogStatistics]:
    with _directory() as name:
        return trio.run(measure_log, Path(name) / "log", appenders, appends)


def _measure_disk(log: LogStatistics) -> float:
    with _directory() as name:
        return measure_disk(Path(name) / "bare", log.bytes // log.batches, log.batches)


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="append-bench-", dir=bench_directory())


def measure(effort: Effort) -> Iterator[Row]:
    for appenders in APPENDERS:
        appends = effort.scaled(APPENDS if appenders >= USUAL else APPENDS // 10)
        ours: list[float] = []
        alone: list[float] = []
        _, log = _measure_log(appenders, appends)  # warm, and the first sizes
        for number in range(effort.rounds):
            if number % 2:
                alone.append(log.records / _measure_disk(log))
            seconds, log = _measure_log(appenders, appends)
            ours.append(log.records / seconds)
            if not number % 2:
                alone.append(log.records / _measure_disk(log))
        yield Row(
            question=QUESTION,
            case=f"{appenders} appender{'s' if appenders > 1 else ''}, {PAYLOAD_BYTES / 1024:g} KiB",
            what="appends/s",
            values=ours,
            against=Comparison("appends/s, write and fdatasync alone", alone),
            asked=Demand("median", at_least=20_000) if appenders == USUAL else None,
            is_headline=appenders == USUAL,
        )


if __name__ == "__main__":
    run({QUESTION: measure})
