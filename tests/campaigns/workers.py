"""Seeds in processes of their own, whatever becomes of these: every seed that is asked for has a `Run`.

A process that dies, of a signal or by itself, and one that does not come to an end, cost the seed that it was at, which
is said, and no other: another process takes its place. Of one that is given up the interpreter says on standard error
where it was.

Ctrl-C and SIGTERM are for the parent alone, who kills its workers when it leaves.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.campaigns.story import MEMORY, Run

#: Runs a seed in a directory that is there for it, and is removed afterwards.
Work = Callable[[int, Path], Run]
#: A seed takes a second. A machine may be busy; what takes as long as this is busy with nothing.
SEED_SECONDS_MAX = 300.0


def run_in_processes(
    work: Work, seeds: Iterable[int], *, jobs: int, seconds_max: float = SEED_SECONDS_MAX
) -> Iterator[Run]:
    """What `work`, a function that another process can import, makes of each seed, in no order."""
    left = iter(seeds)
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory(prefix="relay-", dir=MEMORY) as scratch:
        try:
            for _ in range(jobs):
                workers.append(_Worker(work, scratch))
            while workers:
                for worker in _ready(workers):
                    run = worker.take()
                    if run is not None:
                        yield run
                    if not worker.is_alive:
                        workers.remove(worker)
                        workers.append(_Worker(work, scratch))
                        continue
                    seed = next(left, None)
                    if seed is None:
                        worker.kill()
                        workers.remove(worker)
                    else:
                        worker.give(seed, seconds_max)
        finally:
            for worker in workers:
                worker.kill()


class _Worker:
    """A process, and what it is at."""

    def __init__(self, work: Work, scratch: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work, scratch))
        resource_tracker.ensure_running()  # it unblocks signals when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:  # a Ctrl-C that has waited
            self.kill()
            raise
        theirs.close()
        self.is_alive = True
        self._seed: int | None = None
        self._seconds_max = 0.0
        self._given_at = 0.0

    def give(self, seed: int, seconds_max: float) -> None:
        self._seed, self._seconds_max, self._given_at = seed, seconds_max, time.monotonic()
        with suppress(OSError):  # it has died: `take` will say so
            self.pipe.send(seed)

    @property
    def seconds_left(self) -> float | None:
        """None: it is at no seed yet, but starting."""
        if self._seed is None:
            return None
        return max(0.0, self._given_at + self._seconds_max - time.monotonic())

    def take(self) -> Run | None:
        """Its answer, once there is one or its time is over; None where it had no seed."""
        if not self.pipe.poll() and self.seconds_left == 0.0:
            os.kill(self._process.pid or 0, signal.SIGABRT)  # faulthandler tells where it is
            return self._give_up(f"it had not ended after {self._seconds_max:.0f} s")
        try:
            run: Run | None = self.pipe.recv()
        except (EOFError, OSError):
            if self._seed is None:
                self.kill()
                raise RuntimeError("a process of the campaign did not start") from None
            return self._give_up("")
        self._seed = None
        return run

    def _give_up(self, why: str) -> Run:
        assert self._seed is not None
        run = Run(self._seed)
        self._process.join(60)
        code = self._process.exitcode
        self.kill()
        if not why:
            how = (
                f"of {signal.Signals(-code).name}" if code is not None and code < 0 else f"with status {code}"
            )
            why = f"the process that ran it died {how}"
        run.breaches.append(why)
        return run

    def kill(self) -> None:
        self.is_alive = False
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self.pipe.close()


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Those that have something to say, or no time left."""
    left = [seconds for worker in workers if (seconds := worker.seconds_left) is not None]
    said = wait([worker.pipe for worker in workers], min(left, default=None))
    return [worker for worker in workers if worker.pipe in said or worker.seconds_left == 0.0]


def _serve(pipe: Connection, work: Work, scratch: str) -> None:
    """Says that it is there; then answers each seed with its run, until its parent is gone."""
    faulthandler.enable()
    logging.disable(logging.CRITICAL)  # a relay in trouble has much to say
    tempfile.tempdir = scratch
    pipe.send(None)
    with suppress(EOFError, BrokenPipeError):
        while True:
            seed = pipe.recv()
            directory = Path(tempfile.mkdtemp(prefix=f"{seed}-"))
            run = work(seed, directory)
            shutil.rmtree(directory)
            pipe.send(run)
