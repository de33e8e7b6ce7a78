"""What was found of one thing that receivers look at: what they expect, what there is, and what to do."""

from __future__ import annotations

from typing import Any, NamedTuple


class NetworkFinding(NamedTuple):
    check: str
    #: The address, name or port that it is about.
    about: str
    #: None: it cannot be told from here, so it is neither right nor wrong.
    ok: bool | None
    expected: str
    found: str
    #: What to do; None where there is nothing to do.
    fix: str | None = None

    @property
    def says(self) -> str:
        if self.ok:
            return f"{self.about}: {self.found}"
        fix = "" if self.fix is None else f"; {self.fix}"
        return f"{self.about}: expected {self.expected}; found {self.found}{fix}"

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "says": self.says}


#: More of it would not be read.
LISTED_MAX = 5


def listed(values: list[str], nothing: str = "nothing") -> str:
    """What the DNS has, for a sentence."""
    more = len(values) - LISTED_MAX
    return (", ".join(values[:LISTED_MAX]) + (f" and {more} more" if more > 0 else "")) or nothing
