"""Each fence is seen to hold, and to fall when it is broken: in a copy of the tree, something is planted, and whoever
guards it says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the fences look at."""
    copy = tmp_path_factory.mktemp("house")
    for package in ("relay", "spool", "tools", "benchmarks", "tests"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


Plant = Callable[[str, str], None]


@pytest.fixture
def plant(whole: Path, request: pytest.FixtureRequest) -> Plant:
    """Add lines to a file of the copy, or a new file; all is as it was afterwards."""

    def add(name: str, lines: str) -> None:
        path = whole / name
        before = path.read_text() if path.exists() else None
        is_new_room = not path.parent.exists()

        def undo() -> None:
            if before is not None:
                path.write_text(before)
            else:
                path.unlink()
            if is_new_room:
                shutil.rmtree(path.parent)

        path.parent.mkdir(exist_ok=True)
        path.write_text((before or "") + lines)
        request.addfinalizer(undo)

    return add


def guard(whole: Path, *command: str | Path) -> tuple[int, str]:
    """Exit status and what was said, run in the copy."""
    result = subprocess.run(
        command,
        cwd=whole,
        env={**os.environ, "PYTHONPATH": str(whole), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def imports(whole: Path) -> tuple[int, str]:
    return guard(whole, LINT_IMPORTS, "--no-cache", "--no-logo")


def house(whole: Path) -> tuple[int, str]:
    return guard(whole, sys.executable, "-m", "tests.house")


# ------------------------------------------------------------------------------------------------ imports


def test_imports_are_as_they_have_to_be(whole: Path) -> None:
    status, said = imports(whole)
    assert status == 0, said


@pytest.mark.parametrize(
    ("name", "lines", "complaint"),
    [
        pytest.param(
            "relay/views/due.py",
            "from relay.delivery import scheduler\n",
            "relay.views.due -> relay.delivery.scheduler",
            id="up the floors",
        ),
        pytest.param(
            "relay/delivery/replies.py",
            "def later():\n    from relay.api import openapi\n",
            "relay.delivery.replies -> relay.api.openapi",
            id="up the floors, in a function",
        ),
        pytest.param(
            "relay/message/compose.py",
            "from relay.store import LOG_DIRECTORY\n",
            "relay.message.compose -> relay.store",
            id="beside, on one floor",
        ),
        pytest.param(
            "relay/helpers.py", '"""Whatever."""\n', "relay.helpers", id="a module that stands on no floor"
        ),
        pytest.param(
            "relay/api/member.py",
            "from relay.core import Core\n",
            "relay.api.member -> relay.core",
            id="an edge that helps itself",
        ),
        pytest.param(
            "spool/reader.py",
            "from relay.events import Event\n",
            "spool.reader -> relay.events",
            id="the log learns of mail",
        ),
    ],
)
def test_an_import_that_must_not_be_is_seen(
    whole: Path, plant: Plant, name: str, lines: str, complaint: str
) -> None:
    plant(name, lines)
    status, said = imports(whole)
    assert status == 1
    assert complaint in said


# ------------------------------------------------------------------------------------------------ the house


def test_the_house_is_as_it_has_to_be(whole: Path) -> None:
    assert house(whole) == (0, "")


@pytest.mark.parametrize(
    ("name", "lines", "complaint"),
    [
        pytest.param(
            "relay/delivery/scheduler.py",
            "import time\n\nNOW = time.time()\n",
            "import time: relay.delivery.scheduler has to be pure",
            id="a clock in the scheduler",
        ),
        pytest.param(
            "relay/decisions/quota.py",
            '"""New."""\n\nimport trio\n',
            "relay/decisions/quota.py:3: import trio",
            id="a new decision that waits",
        ),
        pytest.param(
            "relay/views/members.py",
            "from relay.surroundings import wall_clock_us\n",
            "from relay.surroundings import wall_clock_us",
            id="a fold that knows what time it is",
        ),
        pytest.param(
            "relay/clocks.py", "import time\n", "relay.clocks has to be pure", id="a new word that has hands"
        ),
        pytest.param(
            "spool/recovery.py",
            "x = open('x')\n",
            "open: spool.recovery has to be pure",
            id="a file that is opened by the table of recovery",
        ),
        pytest.param(
            "relay/annex/__init__.py",
            '"""It may import nothing. It must never be."""\n',
            "relay.annex: say in tests/house/purity.py",
            id="a new room of which nobody said whether it is pure",
        ),
        pytest.param(
            "relay/routes.py", "# one more\n" * 500, "relay/routes.py has more than 500", id="a long file"
        ),
        pytest.param(
            "relay/past/rows/__init__.py",
            '"""Rows."""\n',
            "relay/past/rows/__init__.py: say what the room may import",
            id="a room that does not say what it may not",
        ),
        pytest.param(
            "tests/new/__init__.py", "", "tests/new/__init__.py has no docstring", id="a room without a word"
        ),
    ],
)
def test_a_breach_in_the_house_is_seen(
    whole: Path, plant: Plant, name: str, lines: str, complaint: str
) -> None:
    plant(name, lines)
    status, said = house(whole)
    assert status == 1
    assert complaint in said
