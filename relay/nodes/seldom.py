"""Log lines that others can cause, strangers or a database that is away: one of a kind in SECONDS, however many there
would be. The next one says how many were left out (`left_out`); metrics count them all."""

from __future__ import annotations

import logging
from typing import Final

import trio

SECONDS: Final = 60.0
#: So many are remembered, the last ones.
KINDS_MAX: Final = 100


class Seldom:
    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        #: Kind -> when it was said last, and how often it was left out since. A kind may be a sentence with numbers.
        self._said: dict[str, tuple[float, int]] = {}

    def say(self, level: int, event: str, *, kind: str = "", **extra: object) -> None:
        """`kind`: of what it is one, where an event has several, so that none of them hides another."""
        said_at, left_out = self._said.get(event + kind, (float("-inf"), 0))
        now = trio.current_time()
        if now - said_at < SECONDS:
            self._said[event + kind] = (said_at, left_out + 1)
            return
        self._said.pop(event + kind, None)
        self._said[event + kind] = (now, 0)
        while len(self._said) > KINDS_MAX:
            del self._said[next(iter(self._said))]
        self._logger.log(level, event, extra=extra | ({"left_out": left_out} if left_out else {}))
