"""How many appends a second, and how far is that from what the disk alone would give?

The ceiling is measured in the same run, on the same file system, with the batch sizes that the log really made: a
bare write and fdatasync of so many bytes, one after the other. What is missing to it is our own work.

    python -m benchmarks.append [DIRECTORY]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import trio

from spool import Entry, LogStatistics, open_log

APPENDERS = (1, 8, 64, 256)
SKELETON_BYTES = 210
PAYLOAD_BYTES = 2048
APPENDS = 20_000
RUNS = 5


class Run(NamedTuple):
    appends_per_second: float
    records_per_batch: float
    ceiling_per_second: float
    """Appends a second if nothing but the disk took time."""

    @property
    def ratio(self) -> float:
        return self.appends_per_second / self.ceiling_per_second


async def measure_log(directory: Path, appenders: int, appends: int) -> tuple[float, LogStatistics]:
    entry = [Entry(os.urandom(SKELETON_BYTES), os.urandom(PAYLOAD_BYTES))]

    async with open_log(directory) as log:

        async def appender() -> None:
            for _ in range(appends // appenders):
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


def measure(directory: Path, appenders: int) -> Run:
    appends = APPENDS if appenders >= 64 else APPENDS // 10
    seconds, statistics = trio.run(measure_log, directory / "log", appenders, appends)
    disk_seconds = measure_disk(
        directory / "bare", statistics.bytes // statistics.batches, statistics.batches
    )
    return Run(
        appends_per_second=statistics.records / seconds,
        records_per_batch=statistics.records / statistics.batches,
        ceiling_per_second=statistics.records / disk_seconds,
    )


def main() -> None:
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    print(f"appends of {SKELETON_BYTES} + {PAYLOAD_BYTES} bytes; medians of {RUNS} runs")
    print(f"{'appenders':>9} {'appends/s':>10} {'a batch':>8} {'disk alone/s':>13} {'ratio':>6}")
    for appenders in APPENDERS:
        runs = []
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory(dir=parent) as directory:
                runs.append(measure(Path(directory), appenders))
        print(
            f"{appenders:>9} {median(run.appends_per_second for run in runs):>10,.0f}"
            f" {median(run.records_per_batch for run in runs):>8.1f}"
            f" {median(run.ceiling_per_second for run in runs):>13,.0f}"
            f" {median(run.ratio for run in runs):>6.2f}"
        )


if __name__ == "__main__":
    main()
