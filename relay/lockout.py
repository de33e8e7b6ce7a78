"""Who guesses passwords: after so many wrong ones an address is not let in for a while. No clock: it is told the time.

The invariant: **an address that guesses has FAILURES_MAX guesses in WINDOW_SECONDS, and nobody else pays for it.** One
from which a right password has come lately (an office whose one machine has an old key), and one that stands for many
(a trusted proxy, this machine), is not shut out for the wrong ones: each of those is answered a second later than the
one before.

An address is an IPv4 address or an IPv6 /64. All of it is in memory and bounded: of more addresses than ADDRESSES_MAX
the one that failed first is forgotten, which costs whoever has that many addresses less than it gains him.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, TypeVar

FAILURES_MAX: Final = 10
WINDOW_SECONDS: Final = 600.0
LOCKED_SECONDS: Final = 600.0
TRUSTED_SECONDS: Final = 24 * 3600.0
#: However many were wrong, this much later.
SLOWED_SECONDS_MAX: Final = 30
ADDRESSES_MAX: Final = 10_000


_Value = TypeVar("_Value")


class Lockout:
    """`who` is what an address is counted under; `now` is any clock that does not jump."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._locked_until: OrderedDict[str, float] = OrderedDict()
        self._succeeded_at: OrderedDict[str, float] = OrderedDict()

    def refuses(self, who: str, now: float) -> bool:
        until = self._locked_until.get(who)
        if until is not None and now >= until:
            del self._locked_until[who]
            until = None
        return until is not None

    def succeeded(self, who: str, now: float) -> None:
        _put(self._succeeded_at, who, now)

    def failed(self, who: str, now: float, *, is_trusted: bool) -> float:
        """Count one; so many seconds later than usual it is to be answered."""
        times = self._failures.get(who) or deque(maxlen=SLOWED_SECONDS_MAX + 1)
        while times and times[0] <= now - WINDOW_SECONDS:
            times.popleft()
        times.append(now)
        _put(self._failures, who, times)
        if is_trusted or self._succeeded_at.get(who, float("-inf")) > now - TRUSTED_SECONDS:
            return float(len(times) - 1)
        if len(times) >= FAILURES_MAX:
            _put(self._locked_until, who, now + LOCKED_SECONDS)
            del self._failures[who]
        return 0.0


def _put(table: OrderedDict[str, _Value], who: str, value: _Value) -> None:
    table[who] = value
    table.move_to_end(who)
    if len(table) > ADDRESSES_MAX:
        table.popitem(last=False)
