"""The simulated campaign's processes: whatever becomes of one, every other seed is run, and somebody says what was."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.simulate import print_breaches, run_seed
from tests.campaigns.story import Run
from tests.campaigns.workers import run_in_processes

CHECKOUT = Path(__file__).parent.parent.parent
SIMULATE = (sys.executable, "-m", "tests.campaigns.simulate")


def dies_at_two(seed: int, directory: Path) -> Run:
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return Run(seed)


def raises_at_two(seed: int, directory: Path) -> Run:
    if seed == 2:
        raise KeyError("a mistake of the campaign")
    return Run(seed)


def hangs_at_two(seed: int, directory: Path) -> Run:
    if seed == 2:
        signal.pause()
    return Run(seed)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (dies_at_two, "the process that ran it died of SIGKILL"),
        (raises_at_two, "the process that ran it died with status 1"),
        (hangs_at_two, "it had not ended after 5 s"),
    ],
)
def test_a_process_that_is_lost_costs_its_own_seed_and_names_it(work: object, said: str) -> None:
    runs = run_in_processes(work, range(1, 6), jobs=2, seconds_max=5.0)  # type: ignore[arg-type]
    assert {run.seed: run.breaches for run in runs} == {1: [], 2: [said], 3: [], 4: [], 5: []}


def tells_what_it_is_deaf_to(seed: int, directory: Path) -> Run:
    return Run(
        seed,
        breaches=sorted(
            signal.Signals(number).name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        ),
    )


def test_ctrl_c_in_a_terminal_and_timeout_reach_the_parent_alone() -> None:
    for run in run_in_processes(tells_what_it_is_deaf_to, range(1, 4), jobs=2):
        assert run.breaches == ["SIGINT", "SIGTERM"]


def test_a_mistake_of_the_campaign_is_one_of_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.campaigns.faults.SPOOL", "{no_such_setting}")
    assert run_seed(7, tmp_path).breaches == ["the campaign ended with KeyError('no_such_setting')"]


@pytest.fixture
def endless() -> Iterator[subprocess.Popen[str]]:
    """A campaign that has begun, in a group of its own."""
    with subprocess.Popen(
        [*SIMULATE, "--seeds", "100000", "--jobs", "2"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_campaign_that_is_stopped_says_what_has_run(
    endless: subprocess.Popen[str], number: signal.Signals, status: int
) -> None:
    assert endless.stdout is not None
    assert endless.stdout.readline() == "100,000 seeds, from 1 on\n"
    os.killpg(endless.pid, number)  # as a terminal, and `timeout`, do it
    said = endless.stdout.read()
    assert endless.wait() == status
    assert "Traceback" not in said
    assert said.startswith("stopped before the end\n")
    assert re.search(r"^[\d,]+ seeds in [\d.]+ s, 0 with a broken promise$", said, re.MULTILINE)
    assert "answers to posts" in said


@pytest.mark.parametrize(
    "wrong", [("--seeds", "0"), ("--jobs", "0"), ("--keep", "x"), ("--seed", "1", "--keep", ".")]
)
def test_what_would_find_nothing_is_refused(wrong: tuple[str, ...]) -> None:
    refused = subprocess.run([*SIMULATE, *wrong], cwd=CHECKOUT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert wrong[-2] in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_broken_promise_is_printed_with_a_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_breaches(Run(4711, breaches=["the view due is no fold of the log"]))
    again = capsys.readouterr().out.splitlines()[-1]
    command = again.removeprefix("    again: ").removesuffix(" --seed 4711 --keep DIR")
    asked = subprocess.run([*command.split(), "--help"], cwd=CHECKOUT, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
