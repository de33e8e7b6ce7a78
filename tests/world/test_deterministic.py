"""The same seed gives the same log, byte for byte: in one process, and in another with other hashes."""

import os
import subprocess
import sys
from pathlib import Path

from tests.campaigns.days import simulate
from tests.world.deterministic import log_bytes

MESSAGES = 200


def test_the_same_seed_gives_the_same_log_and_another_seed_another(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    for directory, seed in ((first, 3), (second, 3), (other, 4)):
        simulate(directory, messages=MESSAGES, seed=seed)
    assert log_bytes(first)
    assert log_bytes(first) == log_bytes(second)
    assert log_bytes(first) != log_bytes(other)


def test_another_process_gives_the_same_log(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    simulate(here, messages=MESSAGES, seed=5)
    subprocess.run(
        [
            *(sys.executable, "-m", "tests.campaigns.days"),
            *("--messages", str(MESSAGES), "--seed", "5", "--directory", str(there)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.DEVNULL,
        check=False,  # its exit status is about what it found
    )
    assert log_bytes(here) == log_bytes(there)
