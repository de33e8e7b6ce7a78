"""Where a page names a test or a file of the tests, it is there: whoever doubts a sentence can run what holds it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(TESTS.glob("*.md")),
    *sorted(TESTS.glob("*/README.md")),
]
#: A file in its room, and perhaps a test of it. Pages in tests/ leave out the folder that they stand in.
_NAMED = re.compile(r"\b((?:[a-z_]+/)*test_\w+\.py)(?:::(\w+))?")
_PATH = re.compile(r"`(tests/[\w./-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    for name, test in _NAMED.findall(text):
        file = TESTS / name.removeprefix("tests/")
        assert file.is_file(), name
        assert not test or re.search(rf"^(?:async )?(?:def|class) {test}\b", file.read_text(), re.M), test
    for name in _PATH.findall(text):
        assert (ROOT / name).exists(), name


def test_the_track_record_names_many() -> None:
    """Or the check above would have nothing to look at."""
    assert len(_NAMED.findall((TESTS / "TRACK_RECORD.md").read_text())) > 50
