"""A slice of the campaign of three machines that have a log together; `make simulate WORLD=logs` runs more."""

from __future__ import annotations

import pytest

from tests.campaigns.log_story import LOG_FAULTS, simulate_logs
from tests.campaigns.simulate import Totals

SEEDS = range(1, 17)
pytestmark = pytest.mark.timeout(600)


def test_no_promise_is_broken_in_a_slice_of_the_campaign() -> None:
    totals = Totals()
    for seed in SEEDS:
        run = simulate_logs(seed)
        assert run.breaches == [], f"seed {seed}"
        totals.add(run)
    # A calm world would prove nothing; nor would one in which nobody is deposed.
    assert set(totals.faults) == set(LOG_FAULTS)
    assert min(totals.ends[end] for end in ("stopped", "kill", "power", "deposed")) > 10
    assert totals.answers["acknowledged"] > 1000
    assert totals.answers["LogDeposedError"] > 10


def test_a_seed_replays_exactly() -> None:
    first, again = simulate_logs(2), simulate_logs(2)
    assert first.log == again.log
    assert (first.ends, first.answers) == (again.ends, again.answers)
    assert first.log != simulate_logs(3).log
