"""A message's timeline as a picture, to scale: when it was tried, what came of it, and how long it waited between.

The time runs from left to right, from when it was accepted to what happened last, or to now where it still waits. What
happened is a mark: a filled circle where it was taken, a cross where it failed for good, an open diamond where it was
not taken yet, a bar for all else; so no colour says anything alone. The waits that have room say how long they were.
The list beside it says the same in words, and more: the picture is for those who see.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from relay.console.rendering import duration
from relay.story_in_words import Step

WIDTH: Final = 860
HEIGHT: Final = 72
_LEFT: Final = 14
_LINE_Y: Final = 26
#: A wait that is drawn narrower says nothing.
_LABEL_WIDTH: Final = 46
#: Marks: of more only so many are drawn, evenly.
_MARKS_MAX: Final = 200


class Mark(NamedTuple):
    x: float
    kind: str
    what: str


class Wait(NamedTuple):
    x1: float
    x2: float
    #: How long; "" where there is no room to say so.
    told: str

    @property
    def middle(self) -> float:
        return (self.x1 + self.x2) / 2


class Picture(NamedTuple):
    width: int
    height: int
    y: int
    marks: list[Mark]
    waits: list[Wait]
    #: Where the present is; None: it is over.
    now_x: float | None
    #: All of it, for who does not see it.
    told: str


def picture_of(steps: Sequence[Step], now_us: int | None) -> Picture | None:
    """`now_us`: it still waits. None: there is nothing to see, since all happened at once."""
    begin = steps[0].time_us
    end = max(steps[-1].time_us, now_us or 0)
    span = end - begin
    if span <= 0:
        return None
    scale = (WIDTH - 2 * _LEFT) / span

    def x_of(time_us: int) -> float:
        return round(_LEFT + (time_us - begin) * scale, 1)

    every = -(-len(steps) // _MARKS_MAX)
    drawn = [step for at, step in enumerate(steps) if at % every == 0 or at == len(steps) - 1]
    marks = [Mark(x_of(step.time_us), step.kind, step.what) for step in drawn]
    times = [step.time_us for step in drawn] + ([now_us] if now_us is not None else [])
    waits = [
        Wait(x_of(one), x_of(other), duration(other - one) if (other - one) * scale >= _LABEL_WIDTH else "")
        for one, other in pairwise(times)
        if other > one
    ]
    attempts = sum(step.entry.status in ("sent", "deferred", "bounced") for step in steps)
    told = f"{duration(span)} from the first event to {'now' if now_us is not None else 'the last'}"
    return Picture(
        WIDTH,
        HEIGHT,
        _LINE_Y,
        marks,
        waits,
        None if now_us is None else x_of(now_us),
        f"{told}; {attempts or 'no'} {'attempt has' if attempts == 1 else 'attempts have'} ended",
    )
