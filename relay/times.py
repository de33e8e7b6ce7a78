"""Times as the relay keeps them: whole microseconds since the epoch, in UTC.

A name that ends in `_us` or `_US` is such a time, or so many microseconds. A duration that people set or read is in
seconds, and its name ends in `_seconds`. `relay.surroundings` has the clock; here is only arithmetic.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: RFC 3339 section 5.6, but for the second 60: no clock here shows it.
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(?P<zone>[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)
#: More than any client writes.
_RFC3339_CHARACTERS_MAX = 64


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


def parse_rfc3339(text: str) -> int:
    """Of an RFC 3339 time with its zone, and of nothing else: no words, no date alone, no other form of ISO 8601. What
    is beyond microseconds is cut off. Raises ValueError, which says what is wrong with it, in words for who wrote it.
    """
    found = _RFC3339.fullmatch(text) if len(text) <= _RFC3339_CHARACTERS_MAX else None
    if found is None:
        raise ValueError("is no RFC 3339 time; write it like 2026-12-24T18:00:00+01:00, or with Z for UTC")
    if found["zone"] is None:
        raise ValueError("names no zone; write +01:00 behind it, or Z for UTC")
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise ValueError("is no day of the calendar") from error


_AGO = re.compile(r"(\d{1,9})\s*(s|m|h|d|w)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_UNITS_US: Final = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}


def parse_moment(text: str, now_us: int, *, end: bool = False) -> int:
    """Of what people write for a time that has been: `2h` (s, m, h, d or w ago), `now`, `today`, `yesterday`, a day as
    `2026-11-30`, or an RFC 3339 time. Days are UTC, and mean their beginning, or their end with `end`. Raises
    ValueError, which says what is wrong with it.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0, now_us - int(ago[1]) * _UNITS_US[ago[2]])
    if text == "now":
        return now_us
    today = now_us - now_us % DAY_US
    if text in ("today", "yesterday"):
        day = today if text == "today" else today - DAY_US
    elif _DAY.fullmatch(text):
        found = time_in(f"{text}T00:00:00Z")
        if found is None:
            raise ValueError("is no day of the calendar")
        day = found
    else:
        try:
            return max(0, parse_rfc3339(text))
        except ValueError:
            raise ValueError(
                "is no time; write 2h or 7d (ago), today, yesterday, a day like 2026-11-30, or a time like "
                "2026-11-30T18:00:00Z"
            ) from None
    return max(0, day + (DAY_US if end else 0))
