"""Times as the relay keeps them: whole microseconds since the epoch, in UTC.

A name that ends in `_us` or `_US` is such a time, or so many microseconds. A duration that people set or read is in
seconds, and its name ends in `_seconds`. `relay.surroundings` has the clock; here is only arithmetic.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time_us: int) -> datetime:
    """The same moment as Python has it. Exact: a float of seconds would lose the last digits."""
    return _EPOCH + timedelta(microseconds=time_us)


def rfc3339(time_us: int) -> str:
    """RFC 3339 in UTC with microseconds and `Z`."""
    moment = utc(time_us)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


def rfc3339_or_none(time_us: int | None) -> str | None:
    return None if time_us is None else rfc3339(time_us)


def time_in(text: str) -> int | None:
    """Of an RFC 3339 time with its offset, as `2025-01-07T10:11:12Z`; None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None
