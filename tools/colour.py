"""Colour on a terminal: it repeats what the words say, and says nothing by itself.

There is none in a pipe or a file, none where NO_COLOR is set (no-color.org), where CLICOLOR is 0, or on a terminal that
has none or does not say what it is (TERM). Nothing asks for colour elsewhere.
"""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO

_BOLD, _RED, _GREEN, _YELLOW = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"
_PLAIN = "\x1b[0m"

#: Words that say how something is, wherever they stand alone.
_OF_WORD: Final = {
    **dict.fromkeys(("active", "met", "ok", "sent", "verified"), _GREEN),
    **dict.fromkeys(("deferred", "held", "paused", "scheduled", "unverified", "UNKNOWN"), _YELLOW),
    **dict.fromkeys(("bounced", "disabled", "not met", "PROBLEM", "revoked", "suspended"), _RED),
}


def is_wanted(stream: TextIO | None = None) -> bool:
    """Whether colour is for whoever reads this stream; standard output, where none is named."""
    environment = os.environ
    return (
        (stream or sys.stdout).isatty()
        and not environment.get("NO_COLOR")
        and environment.get("CLICOLOR") != "0"
        and environment.get("TERM", "dumb") != "dumb"
    )


def painted(word: str, shown: str | None = None) -> str:
    """A word in the colour of what it says, or as it is. `shown` stands in its place: the word with padding, say."""
    colour = _OF_WORD.get(word)
    text = word if shown is None else shown
    return text if colour is None else f"{colour}{text}{_PLAIN}"


def bold(text: str) -> str:
    return f"{_BOLD}{text}{_PLAIN}"


def verdict(word: str, width: int) -> str:
    """At the beginning of a line: the word in its colour, where that is wanted, and filled up to `width`."""
    padded = f"{word:<{width}}"
    return painted(word, padded) if is_wanted() else padded
