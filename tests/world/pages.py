"""Examples in documentation: blocks of `$ command` with what it prints, `...` standing for what differs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent.parent.parent / "docs"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    command: str
    output: str


def examples(page: str) -> Iterator[Example]:
    """In the order of the page."""
    for block in _BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Example(command, output)


def says(page: str, output: str) -> bool:
    """Whether it is what was printed."""
    pattern = ".*".join(re.escape(part) for part in page.strip().split("..."))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None
