"""Days of traffic as a picture: a column for each day, what was sent below and what bounced on top of it.

Bounced is hatched and has a line around it, so that it is seen without its colour. The numbers of each day stand in a
table beside the picture, which is for those who see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.times import DAY_US, utc
from relay.views.counting import Traffic

WIDTH: Final = 860
HEIGHT: Final = 170
_TOP: Final = 18
_BOTTOM: Final = 24
_GAP: Final = 0.35
#: What there is any of can be seen.
_LEAST: Final = 2.0


class Day(NamedTuple):
    #: `7 Nov`
    name: str
    traffic: Traffic
    #: Of the column: its left edge and width, then top and height of what was sent and of what bounced.
    x: float
    width: float
    sent_y: float
    sent_height: float
    bounced_y: float
    bounced_height: float

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)


class Days(NamedTuple):
    width: int
    height: int
    #: Where the ground is.
    ground: int
    days: list[Day]
    #: Of the highest column.
    most: int

    @property
    def sent(self) -> int:
        return sum(day.traffic.sent for day in self.days)

    @property
    def bounced(self) -> int:
        return sum(day.traffic.bounced_count for day in self.days)


def days_picture(traffic: Sequence[Traffic], now_us: int) -> Days:
    """The oldest day first, today last."""
    most = max((each.sent + each.bounced_count for each in traffic), default=0)
    ground = HEIGHT - _BOTTOM
    scale = (ground - _TOP) / max(1, most)
    pitch = WIDTH / max(1, len(traffic))
    days = []
    for at, each in enumerate(traffic):
        day_us = (now_us // DAY_US - len(traffic) + 1 + at) * DAY_US
        sent, bounced = _height(each.sent * scale), _height(each.bounced_count * scale)
        days.append(
            Day(
                f"{utc(day_us).day} {utc(day_us):%b}",
                each,
                round(at * pitch + pitch * _GAP / 2, 1),
                round(pitch * (1 - _GAP), 1),
                round(ground - sent, 1),
                round(sent, 1),
                round(ground - sent - bounced, 1),
                round(bounced, 1),
            )
        )
    return Days(WIDTH, HEIGHT, ground, days, most)


def _height(height: float) -> float:
    return max(_LEAST, height) if height else 0.0
