"""The shape of the house: files that can be read in one sitting, and rooms that say what they are for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LINES_MAX = 500
#: Packages whose files are looked at.
PACKAGES = ("relay", "spool", "tools", "benchmarks", "tests")
#: Of which each room says what it is for, what it may import, and what it must never do.
ROOMS_OF = ("relay", "spool", "tools")
#: Tables of facts. Nothing is gained by dividing them.
DATA = frozenset({"relay/delivery/bounce_classes.py"})


def find_long_files() -> Iterator[str]:
    """A sentence for each file that is too long."""
    longer = {name for name, lines in _lengths() if lines > LINES_MAX}
    for name in sorted(longer - DATA):
        yield f"{name} has more than {LINES_MAX} lines: divide it by what its parts are about"


def _lengths() -> Iterator[tuple[str, int]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield str(path.relative_to(ROOT)), len(path.read_text().splitlines())


def find_silent_rooms() -> Iterator[str]:
    """A sentence for each package that does not say what it is for."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("__init__.py")):
            said = ast.get_docstring(ast.parse(path.read_text())) or ""
            name = path.relative_to(ROOT)
            if not said:
                yield f"{name} has no docstring: say what the room is for"
            elif package in ROOMS_OF and len(name.parts) > 2 and not _is_told(said):
                yield f"{name}: say what the room may import, and what it must never do"


def _is_told(said: str) -> bool:
    words = " ".join(said.split()).lower()
    return ("may import" in words or "imports" in words) and " never " in words
