"""`python -m tests.campaigns.powercut --rounds 12 --fs xfs [--seed 1] [--only in_a_backup] [--plant no-fdatasync]`.

Exit status 0: no promise was broken, or this machine cannot do it, and one sentence says why. 1: a violation. 3: the
machine under the relay broke (disk, loop device, file system), which says nothing of the relay. 130: it was stopped.
With `--plant`, 0: the planted bug was found; 1: it was not. It tells what it has done in any case.

The seed fixes which troubles come, which moments are chosen and what a cut leaves of the disk's cache; not in which
order the kernel writes, nor what else the machine is doing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import trio

from spool.errors import SpoolError
from tests.campaigns.crash import at_least_one, interrupt, is_interrupt
from tests.campaigns.powercut.alone import run_alone, why_not
from tests.campaigns.powercut.campaign import Record, campaign, deck_of, report
from tests.campaigns.powercut.machine import FILE_SYSTEMS, MachineError, why_not_here
from tests.campaigns.subscriber import leaves

#: Of one round, with all that it waits for; nothing comes near.
ROUND_SECONDS_MAX: Final = 300.0
SETTLE_SECONDS_MAX: Final = 240.0
#: Of a sentence that names every table, the beginning says enough.
BROKEN_CHARACTERS_MAX: Final = 3000
STOPPED, MACHINE_BROKE = 130, 3


class Plant(NamedTuple):
    """A bug that is put in, to see that it is found."""

    what: str
    #: The troubles that bring it out.
    troubles: tuple[str, ...]
    #: What the campaign ends with where it is found.
    found: tuple[type[BaseException], ...] = (AssertionError, SpoolError)


#: The first three are parts of `tests.world.sabotage`, and are broken in the relay and in every command that writes.
PLANTS: Final = {
    "no-fdatasync": Plant("the log's batches are not synced", ("under_load",)),
    "no-fsync": Plant(
        "files that are written once are not synced", ("in_a_backup", "in_an_enrolment", "in_an_init")
    ),
    "no-directory-sync": Plant("names are not synced", ("in_a_backup", "in_a_restore")),
    # Most often it is the file system that does not survive this.
    "no-flush": Plant(
        "the disk says that it has flushed, and has not",
        ("under_load",),
        (AssertionError, SpoolError, MachineError),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.powercut",
        description="Cuts the power under a real relay, on a real file system. Only for root.",
    )
    parser.add_argument("--rounds", type=at_least_one, default=12)
    parser.add_argument("--fs", choices=FILE_SYSTEMS, default="ext4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(set(deck_of())))
    parser.add_argument("--plant", choices=PLANTS)
    options = parser.parse_args()
    reason = why_not() or why_not_here(options.fs)
    if reason is not None:
        print(f"No power is cut: {reason}.")
        return
    limit = options.rounds * ROUND_SECONDS_MAX + SETTLE_SECONDS_MAX
    with tempfile.TemporaryDirectory(prefix="powercut-") as place:
        status = run_alone(partial(run, options, Path(place)), seconds_max=limit)
    sys.exit(status)


def run(options: argparse.Namespace, place: Path) -> int:
    """In the namespaces of `alone`; returns the exit status."""
    signal.signal(signal.SIGTERM, interrupt)
    record = Record(options.fs, options.seed)
    plant = PLANTS[options.plant] if options.plant else None
    cut = partial(
        campaign,
        place,
        record,
        rounds=options.rounds,
        deck=list(plant.troubles) if plant else deck_of(options.only),
        plant=options.plant if plant and options.plant != "no-flush" else None,
        lies=options.plant == "no-flush",
    )
    begun = time.monotonic()
    found: list[BaseException] = []
    try:
        trio.run(cut)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the summary comes
        found = leaves(BaseExceptionGroup("", [error]))
    # From here on a second signal has nothing to stop.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status = status_of(found)
    is_found = plant is not None and status != STOPPED and any(isinstance(end, plant.found) for end in found)
    if status in (1, MACHINE_BROKE) and not is_found:
        for end in found:
            traceback.print_exception(end)
    sys.stderr.flush()
    print(f"\nSeed {options.seed}, {options.fs}: {said_of(status, record, options.rounds, begun)}")
    if status in (1, MACHINE_BROKE):
        broken = "; ".join(str(end) or repr(end) for end in found)[:BROKEN_CHARACTERS_MAX]
        print(f"In round {record.rounds.total()} ({record.name}): {broken}")
        print(f"To repeat it: {' '.join(sys.orig_argv)}")
    if plant is not None and status != STOPPED:
        said = f"FOUND, in round {record.rounds.total()}" if is_found else "NOT FOUND"
        print(f"Planted: {plant.what}. {said}.")
    print(report(record))
    if status == 1 and plant is None:
        print(f"\nWhat is left of it: {keep(place)}")
    if plant is not None and status != STOPPED:
        return 0 if is_found else 1
    return status


def status_of(found: list[BaseException]) -> int:
    if not found:
        return 0
    if any(is_interrupt(error) for error in found):
        return STOPPED
    return MACHINE_BROKE if any(isinstance(error, MachineError) for error in found) else 1


def said_of(status: int, record: Record, rounds: int, begun: float) -> str:
    seconds, load = time.monotonic() - begun, os.getloadavg()[0]
    said = {
        0: "No violation.",
        1: "VIOLATION.",
        MACHINE_BROKE: "THE MACHINE BROKE, which says nothing of the relay.",
        STOPPED: "Stopped. No violation until then.",
    }[status]
    done = record.rounds.total()
    return f"{done} of {rounds} rounds in {seconds:,.0f} s, load {load:.1f} on {os.cpu_count()} cores. {said}"


def keep(place: Path) -> str:
    """The relay's words; the disk itself is memory, and gone."""
    kept = Path(tempfile.mkdtemp(prefix="powercut-kept-"))
    for file in (place / "beside").glob("*.stderr"):
        shutil.copy(file, kept)
    return str(kept)


if __name__ == "__main__":
    main()
