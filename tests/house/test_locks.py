"""The three locks agree, hold what they should and nothing else, and what is reached into privately is bounded."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Reached into by name of what is not promised, beside those whose modules say so by an underscore.
REACHED_INTO = {"click", "hypercorn", "quart", "quart-trio", "dkimpy", "pyspf"}


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """The version and the hashes of each package."""
    text = (ROOT / "locks" / f"{name}.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pinned = re.fullmatch(
                r"([a-z0-9-]+)==([^ ;]+)( ; [^-]+)?((?: +--hash=sha256:[0-9a-f]{64})+) *", line
            )
            assert pinned is not None, line
            found[pinned[1]] = pinned[2], frozenset(pinned[4].split())
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}  # type: ignore[index]


RUN, DEVELOP, BUILD = locked("run"), locked("develop"), locked("build")
EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize("smaller", [RUN, BUILD], ids=["run", "build"])
def test_what_stands_in_two_locks_is_the_same(smaller: dict[str, tuple[str, frozenset[str]]]) -> None:
    assert smaller
    assert smaller == {name: DEVELOP[name] for name in smaller}


def test_each_lock_has_what_is_asked_of_it() -> None:
    assert names(PROJECT["dependencies"]) | names(EXTRAS["demo"]) <= RUN.keys()
    assert names(EXTRAS["dev"]) | names(EXTRAS["nodes"]) <= DEVELOP.keys()


def test_who_runs_a_relay_gets_neither_test_tools_nor_what_builds() -> None:
    assert not RUN.keys() & (names(EXTRAS["dev"]) | BUILD.keys())


def test_one_machine_needs_no_database() -> None:
    assert names(EXTRAS["nodes"])
    assert not RUN.keys() & names(EXTRAS["nodes"])


def test_what_is_reached_into_has_an_upper_bound() -> None:
    """A module whose name begins with an underscore is promised to nobody."""
    distributions = packages_distributions()
    reached = set(REACHED_INTO)
    ours = ("spool", "relay", "tools")
    for room in ours:
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    top, *below = node.module.split(".")
                    imported = [*below, *(alias.name for alias in node.names)]
                    if top not in ours and any(re.match(r"_[a-z]", name) for name in imported):
                        reached |= {name.lower() for name in distributions.get(top, [])}
    bounded = {requirement.partition(">")[0] for requirement in PROJECT["dependencies"] if "<" in requirement}
    assert reached == bounded
    assert "dnspython" in reached
