"""What `top` may be asked for."""

from __future__ import annotations

import pytest

from relay.finding.totals import Totals
from relay.refusals import Refusal
from relay.times import DAY_US, rfc3339

NOW = 20_000 * DAY_US + DAY_US // 3
YEARS = 10_000 * DAY_US


def test_until_a_time_that_has_not_come_is_until_now() -> None:
    answers = [
        Totals("member", since_us=NOW - 7 * DAY_US, until_us=until, now_us=NOW).answer()
        for until in (NOW + 1, NOW + DAY_US, NOW + YEARS)
    ]
    assert answers[0].since == rfc3339(19_993 * DAY_US)
    assert answers[1:] == answers[:1] * 2


def test_since_a_time_that_has_not_come_there_is_nothing_to_count() -> None:
    with pytest.raises(Refusal, match="has not been yet"):
        Totals("member", since_us=NOW + DAY_US, until_us=NOW + YEARS, now_us=NOW)
