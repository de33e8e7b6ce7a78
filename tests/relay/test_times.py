"""A time that a client writes is RFC 3339 with its zone, or it is refused with what is wrong with it."""

from __future__ import annotations

import pytest

from relay.times import parse_rfc3339, rfc3339


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00.000000Z"),
        ("2026-12-24t18:00:00z", "2026-12-24T18:00:00.000000Z"),
        ("2026-12-24T18:00:00.5Z", "2026-12-24T18:00:00.500000Z"),
        # What is beyond microseconds is cut off.
        ("2026-12-24T18:00:00.123456789-00:30", "2026-12-24T18:30:00.123456Z"),
        ("2028-02-29T23:59:59+23:59", "2028-02-29T00:00:59.000000Z"),
    ],
)
def test_a_time_with_its_zone(text: str, moment: str) -> None:
    assert rfc3339(parse_rfc3339(text)) == moment


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-12-24T18:00:00", "names no zone"),
        ("2026-12-24T18:00:00.25", "names no zone"),
        ("in 1 hour", "no RFC 3339 time"),
        ("tomorrow at 9am", "no RFC 3339 time"),
        ("", "no RFC 3339 time"),
        ("1766595600", "no RFC 3339 time"),
        ("2026-12-24", "no RFC 3339 time"),
        ("2026-12-24 18:00:00Z", "no RFC 3339 time"),
        # ISO 8601, which RFC 3339 is only a part of.
        ("20261224T180000Z", "no RFC 3339 time"),
        ("2026-W52-4T18:00:00Z", "no RFC 3339 time"),
        ("2026-12-24T18:00Z", "no RFC 3339 time"),
        ("2026-12-24T18:00:00+01", "no RFC 3339 time"),
        ("2026-12-24T24:00:00Z", "no RFC 3339 time"),
        ("2026-12-24T18:00:60Z", "no RFC 3339 time"),
        ("2026-12-24T18:00:00Z\n", "no RFC 3339 time"),
        ("٢٠٢٦-12-24T18:00:00Z", "no RFC 3339 time"),
        ("2026-12-24T18:00:00." + "0" * 100 + "Z", "no RFC 3339 time"),
        ("2026-02-29T18:00:00Z", "no day of the calendar"),
        ("2026-13-01T18:00:00Z", "no day of the calendar"),
        ("0000-01-01T00:00:00Z", "no day of the calendar"),
    ],
)
def test_everything_else_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_rfc3339(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar_are_times_like_others(text: str) -> None:
    """Whoever asks for them is told that they are too early or too late, and nothing breaks."""
    assert parse_rfc3339(text) != 0
