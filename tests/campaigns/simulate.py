"""Short lives of relays in a world where everything fails, and whether every promise was kept.

    python -m tests.campaigns.simulate --seeds 5000 --jobs 2
    python -m tests.campaigns.simulate --seed 4711 --keep /tmp/4711

What one seed is, `tests.campaigns.story` says. A seed that breaks a promise is printed with the sentences that say
which, and that seed alone does it again, exactly.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relay.presentation import rfc3339
from tests.campaigns.story import Run, simulate


@dataclass
class Totals:
    seeds: int = 0
    violations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, run: Run) -> None:
        self.seeds += 1
        self.violations += bool(run.breaches)
        self.faults.update(run.faults)
        self.ends += run.ends
        self.events += run.events


def _run(seed: int) -> Run:
    logging.disable(logging.CRITICAL)  # a relay in trouble has much to say
    run = simulate(seed)
    run.log, run.recorded, run.error = {}, [], None  # not through the pipe
    return run


def campaign(seeds: Sequence[int], *, jobs: int = 1) -> Totals:
    """Run them all, or as many as there are until Ctrl-C; print each that breaks a promise as soon as it has."""
    totals = Totals()
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            for run in pool.imap_unordered(_run, seeds, chunksize=8):
                totals.add(run)
                if run.breaches:
                    print_breaches(run)
                if totals.seeds % 500 == 0:
                    print(f"{totals.seeds:,} of {len(seeds):,} seeds", flush=True)
        except KeyboardInterrupt:
            print("stopped before the end")
    return totals


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def print_breaches(run: Run) -> None:
    print(f"seed {run.seed} ({' '.join(run.faults)})")
    for sentence in run.breaches[:10]:
        print(f"    {sentence}")
    if len(run.breaches) > 10:
        print(f"    and {len(run.breaches) - 10} more")
    print(f"    again: python -m tests.campaigns.simulate --seed {run.seed} --keep DIR", flush=True)


def tell(run: Run) -> None:
    """The story of one seed, as its log has it."""
    for seq, time_us, event in run.recorded:
        about = getattr(event, "message_id", None) or getattr(event, "did", "")
        details = [
            f"{name}={value}"
            for name in ("attempt", "code", "reason", "because", "status", "recipients", "category", "domain")
            if (value := getattr(event, name, None)) is not None
        ]
        print(f"{seq:>5} {rfc3339(time_us)} {event.TYPE} {about} {' '.join(details)}")
    if run.error is not None:
        traceback.print_exception(run.error)
    if run.breaches:
        print_breaches(run)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.simulate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="S", help="the first seed")
    parser.add_argument("--seed", type=int, help="this seed only, and tell its story")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="with --seed: keep its data directory here")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    begun = time.perf_counter()
    totals = Totals()
    if options.seed is None:
        totals = campaign(range(options.first, options.first + options.seeds), jobs=options.jobs)
    else:
        run = simulate(options.seed, directory=options.keep)
        totals.add(run)
        tell(run)
    seconds = time.perf_counter() - begun
    print(f"{totals.seeds:,} seeds in {seconds:.1f} s, {totals.violations} with a broken promise")
    for title, counts in (
        ("lives that ended", totals.ends),
        ("faults", totals.faults),
        ("events", totals.events),
    ):
        print(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    sys.exit(1 if totals.violations else 0)


if __name__ == "__main__":
    main()
