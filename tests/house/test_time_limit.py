"""A test that hangs is planted in a run of its own: it fails after its time, says where, and the others go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

#: Those that matter here; others take seconds to import.
PLUGINS = ("-p", "pytest_timeout", "-p", "xdist.plugin")
CONFTEST = """
from tests import conftest
from tests.house import time_limit

time_limit.GRACE_SECONDS = 1.0
for name in conftest.__all__:
    globals()[name] = getattr(conftest, name)
"""
HANGS = {
    "a task that is never woken": """
        event = trio.Event()

        async def wait_for_what_never_comes():
            await event.wait()

        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_what_never_comes)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    """,
    "tasks that keep each other busy": """
        async def main():
            while True:
                await trio.lowlevel.checkpoint()

        trio.run(main)
    """,
    "a program that does not end": """
        subprocess.run(["sleep", "1000"])
    """,
    "an expression that backtracks": """
        re.match("(a+)+$", "a" * 60 + "b")
    """,
    "an example of hypothesis": """
        from hypothesis import given, strategies as st

        @given(st.integers())
        def example(number):
            trio.run(trio.sleep_forever)

        example()
    """,
}
#: These take no notice of a Ctrl-C.
STUBBORN = {
    "a task that shields itself": """
        async def wait_for_what_never_comes():
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()

        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_what_never_comes)

        trio.run(main)
    """,
    "a thread that is waited for": """
        trio.run(trio.to_thread.run_sync, time.sleep, 1000)
    """,
}


def run_tests(directory: Path, hang: str, *options: str) -> tuple[int, str]:
    """A run of three tests of which the second hangs, with a second for each. Exit status, and what it printed."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "pytest.ini").write_text("[pytest]\ntimeout = 1\nfilterwarnings = error\n")
    (directory / "test_hang.py").write_text(
        "import re, subprocess, time\n"
        "import trio, trio.testing\n"
        "def test_before():\n    pass\n"
        f"def test_that_hangs():{hang}\n"
        "def test_after():\n    pass\n"
    )
    (directory / "test_more.py").write_text("def test_of_another_file():\n    pass\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *PLUGINS, *options],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


@pytest.mark.parametrize("what", HANGS)
def test_it_fails_and_says_where_it_hung(tmp_path: Path, what: str) -> None:
    status, said = run_tests(tmp_path, HANGS[what])
    assert status == 1
    assert "the test did not end within 1 s" in said
    assert "1 failed, 3 passed" in said
    assert "in test_that_hangs" in said
    if what == "a task that is never woken":
        assert "in wait_for_what_never_comes\n" in said


def test_a_fixture_that_hangs_is_an_error_of_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_fixture.py").write_text(
        "import pytest, trio\n"
        "@pytest.fixture\ndef opening():\n    trio.run(trio.sleep_forever)\n"
        "def test_with_it(opening):\n    pass\n"
    )
    status, said = run_tests(tmp_path, "    pass\n")
    assert (status, "4 passed, 1 error" in said) == (1, True), said
    assert "the test did not end within 1 s" in said


def test_a_search_for_the_smallest_example_has_more_time(tmp_path: Path) -> None:
    """And what it has found is told, in the end."""
    (tmp_path / "test_example.py").write_text(
        "import time\n"
        "from hypothesis import given, strategies as st\n"
        "@given(st.integers())\n"
        "def test_slow_to_fail(number):\n    time.sleep(0.15)\n    assert number == 0, 'found it'\n"
    )
    status, said = run_tests(tmp_path, "\n    pass\n", "-p", "_hypothesis_pytestplugin")
    assert (status, "4 passed" in said, "found it" in said) == (1, True, True), said


@pytest.mark.parametrize("what", STUBBORN)
def test_one_that_takes_no_notice_ends_its_process(tmp_path: Path, what: str) -> None:
    status, said = run_tests(tmp_path, STUBBORN[what], "-n2", "--dist=loadfile", "--max-worker-restart=0")
    assert status == 1
    assert "Timeout (0:00:02)!" in said
    assert "in test_that_hangs" in said  # in the stacks
    assert "crashed while running 'test_hang.py::test_that_hangs'" in said
    assert "1 failed, 2 passed" in said
