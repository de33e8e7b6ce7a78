"""A slice of the campaign of simulated lives; `make simulate` runs as many seeds as one likes."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from tests.campaigns.faults import FAULTS
from tests.campaigns.simulate import Totals
from tests.campaigns.story import simulate
from tests.world.deterministic import log_bytes

SEEDS = range(1, 41)
#: Seeds in which relays are killed, lose power and fail, and are started again.
RESTARTED = (4, 101, 102)

# Each seed is a relay's whole life; forty of them are a minute of work.
pytestmark = pytest.mark.timeout(1800)


def test_no_promise_is_broken_in_a_slice_of_the_campaign() -> None:
    totals, queued = Totals(), list[int]()
    for seed in SEEDS:
        run = simulate(seed)
        assert run.breaches == [], f"seed {seed}"
        totals.add(run)
        queued.append(run.events["message.queued"])
    # A calm world would prove nothing; nor would one in which little is accepted.
    assert set(totals.faults) == set(FAULTS)
    assert min(totals.ends[end] for end in ("stopped", "kill", "power", "poisoned")) > 20
    assert totals.events["attempt.interrupted"] > 10
    assert median(queued) >= 12


@pytest.mark.parametrize("seed", RESTARTED)
def test_a_seed_replays_exactly_crashes_and_all(seed: int) -> None:
    first = simulate(seed)
    assert first.ends["kill"] + first.ends["power"] + first.ends["poisoned"] > 1
    again = simulate(seed)
    assert first.log == again.log
    assert first.ends == again.ends
    assert first.log != simulate(seed + 1).log


def test_another_process_replays_it_as_well(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.campaigns.simulate", "--seed", "102", "--keep", str(tmp_path / "kept")],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert log_bytes(tmp_path / "kept") == simulate(102).log
