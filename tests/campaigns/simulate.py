"""Short lives of relays in a world where everything fails, and whether every promise was kept.

    python -m tests.campaigns.simulate --seeds 5000 --jobs 2
    python -m tests.campaigns.simulate --seeds 500 --with full-disk
    python -m tests.campaigns.simulate --seed 4711 --keep /tmp/4711
    python -m tests.campaigns.simulate --world logs --seeds 500

What one seed is, these say: `tests.campaigns.story` of one relay, `log_story` of a log that several machines have,
`node_story` of three relays on one log. A seed that breaks a promise is printed with the sentences that say which, and
that seed alone does it again, exactly. A campaign that is stopped says what has run.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path

from relay.times import rfc3339
from tests.campaigns.story import Run
from tests.campaigns.workers import run_in_processes
from tests.campaigns.worlds import WORLDS


@dataclass
class Totals:
    seeds: int = 0
    violations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, run: Run) -> None:
        self.seeds += 1
        self.violations += bool(run.breaches)
        self.faults.update(run.faults)
        self.ends += run.ends
        self.happened += run.happened
        self.answers += run.answers
        self.events += run.events


def run_seed(seed: int, directory: Path, *, world: str = "one") -> Run:
    try:
        run = WORLDS[world].simulate(seed, directory=directory / "data")
    except Exception as error:  # noqa: BLE001  a mistake of the campaign is one of this seed, too
        run = Run(seed, breaches=[f"the campaign ended with {error!r}"])
    run.log, run.recorded, run.error = {}, [], None  # not through the pipe
    return run


def seeds_with(fault: str | None, first: int, world: str) -> Iterator[int]:
    """From `first` on, all that draw the fault; None: all. So `--seed` does each again as it was."""
    return (seed for seed in count(first) if fault is None or fault in WORLDS[world].draw(seed))


def campaign(totals: Totals, seeds: Sequence[int], *, jobs: int, world: str) -> None:
    """Run them all, and print each that breaks a promise as soon as it has."""
    print(f"{len(seeds):,} seeds, from {seeds[0]} on", flush=True)
    with closing(run_in_processes(partial(run_seed, world=world), seeds, jobs=jobs)) as runs:
        for run in runs:
            run.faults = run.faults or WORLDS[world].draw(run.seed)
            totals.add(run)
            if run.breaches:
                print_breaches(run, world)
            if totals.seeds % 500 == 0:
                print(f"{totals.seeds:,} of {len(seeds):,} seeds", flush=True)


def print_breaches(run: Run, world: str = "one") -> None:
    print(f"seed {run.seed} ({' '.join(run.faults)})")
    for sentence in run.breaches[:10]:
        print(f"    {sentence}")
    if len(run.breaches) > 10:
        print(f"    and {len(run.breaches) - 10} more")
    python = shlex.quote(sys.executable)
    which = "" if world == "one" else f"--world {world} "
    print(f"    again: {python} -m tests.campaigns.simulate {which}--seed {run.seed} --keep DIR", flush=True)


def tell(run: Run, world: str) -> None:
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
        print_breaches(run, world)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.simulate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="S", help="the first seed")
    parser.add_argument("--world", choices=WORLDS, default="one")
    parser.add_argument("--with", dest="fault", help="only seeds that draw this fault, as many as --seeds")
    parser.add_argument("--seed", type=int, help="this seed only, and tell its story")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="with --seed: keep its data directory here")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    if options.seeds < 1 or options.jobs < 1:
        parser.error("--seeds and --jobs are 1 at least: a campaign of no seeds would have found nothing")
    if options.keep is not None and (options.seed is None or options.keep.exists()):
        parser.error("--keep goes with --seed, and names a directory that is not there yet")
    world = WORLDS[options.world]
    if options.fault is not None and options.fault not in world.faults:
        parser.error(f"--with is one of {', '.join(world.faults)}")
    logging.disable(logging.CRITICAL)
    stopped_by: list[int] = []
    signal.signal(signal.SIGTERM, partial(_stop, stopped_by))
    # A shell has its jobs in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.perf_counter()
    totals = Totals()
    try:
        if options.seed is None:
            seeds = [*islice(seeds_with(options.fault, options.first, options.world), options.seeds)]
            campaign(totals, seeds, jobs=options.jobs, world=options.world)
        else:
            run = world.simulate(options.seed, directory=options.keep)
            totals.add(run)
            tell(run, options.world)
    except* KeyboardInterrupt:
        stopped_by = stopped_by or [signal.SIGINT]
        print("stopped before the end")
    print_summary(totals, time.perf_counter() - begun)
    if stopped_by:
        sys.exit(128 + stopped_by[0])
    sys.exit(1 if totals.violations else 0)


def _stop(stopped_by: list[int], number: int, frame: object) -> None:
    """SIGTERM is as Ctrl-C. `timeout` sends it twice, to the process and to its group; one is enough."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stopped_by.append(number)
    signal.raise_signal(signal.SIGINT)


def print_summary(totals: Totals, seconds: float) -> None:
    print(f"{totals.seeds:,} seeds in {seconds:.1f} s, {totals.violations} with a broken promise")
    for title, counts in (
        ("lives that ended", totals.ends),
        ("seeds with a fault", totals.faults),
        ("trouble that came", totals.happened),
        ("answers to posts", totals.answers),
        ("events", totals.events),
    ):
        names = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
        print(f"{title} ({counts.total():,}): {names}")


if __name__ == "__main__":
    main()
