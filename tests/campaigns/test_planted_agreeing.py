"""Bugs planted in how machines agree on one log: the campaign of three logs finds each within a few seeds.

As `test_planted_bugs`: each is what a careful person might write on a bad day, and is caught in the words of the judge
that is meant to find it. `python -m tests.campaigns.test_planted_agreeing 50 [NAME]` shows how many seeds of fifty do.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.campaigns.bugs_of_agreeing import (
    absent_without_taking_the_head,
    answered_whatever_became_of_it,
    deposed_and_goes_on,
    failover_to_any_standby,
    fence_by_the_lease,
    found_without_taking_the_head,
    no_witness,
    no_witness_and_no_look_at_warnings,
    rows_dropped_that_one_machine_needs,
    unwitnessed_rows_applied,
)
from tests.campaigns.log_story import simulate_logs


class Bug(NamedTuple):
    plant: Callable[[ExitStack], None]
    #: Kinds of trouble that bring it out.
    faults: tuple[str, ...]
    #: What the judge that is meant to find it says, a regular expression.
    words: str
    #: A seed that does.
    seed: int


OTHER_SEEDS = 10
LOST = r"was acknowledged by \S+ \d+, and is lost|had acknowledged sequence|are not what became of them"
AGAIN = "appended again after another process had|"
GONE = "this machine's log ends with sequence"
BUGS = (
    Bug(answered_whatever_became_of_it, ("cuts", "failover"), LOST, 1),
    Bug(no_witness, ("settings", "failover"), LOST, 2),
    Bug(no_witness_and_no_look_at_warnings, ("hung", "failover"), LOST, 1),
    Bug(failover_to_any_standby, ("failover", "lagging"), LOST, 2),
    Bug(deposed_and_goes_on, ("usurpers", "freeze"), LOST, 1),
    Bug(fence_by_the_lease, ("usurpers", "slow", "freeze"), AGAIN + LOST, 3),
    Bug(unwitnessed_rows_applied, ("failover", "old-primary", "hung"), "are not what became of them", 1),
    Bug(rows_dropped_that_one_machine_needs, ("tail", "power", "partition"), GONE, 1),
    Bug(found_without_taking_the_head, ("old-primary",), LOST, 1),
    Bug(absent_without_taking_the_head, ("late", "hung", "impatient"), "was refused by|" + LOST, 1),
)


def is_caught(bug: Bug, seed: int) -> bool:
    """By the judge that is meant to."""
    with ExitStack() as stack:
        bug.plant(stack)
        breaches = simulate_logs(seed, faults=bug.faults).breaches
    return any(re.search(bug.words, breach) for breach in breaches)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_it_is_caught(bug: Bug) -> None:
    assert any(is_caught(bug, seed) for seed in (bug.seed, *range(101, 101 + OTHER_SEEDS)))


def main() -> None:
    logging.disable(logging.CRITICAL)
    count, names = int(sys.argv[1]), sys.argv[2:]
    for bug in BUGS:
        if names and bug.plant.__name__ not in names:
            continue
        caught = [seed for seed in range(1, count + 1) if is_caught(bug, seed)]
        print(f"{bug.plant.__name__}: {len(caught)} of {count} seeds, the first are {caught[:3]}", flush=True)


if __name__ == "__main__":
    main()
