"""A small genetic search for the input that takes longest.

An input is a *shape*: some pieces of an alphabet, each repeated some number of times, the whole repeated until it is as
long as it may be, in one of several frames. Doubling and halving a count, exchanging a piece and crossing two shapes
find what a person would not guess: which run, in which place, at which length. In a piece, `#` becomes a number that is
different each time, for what must be distinct (names, addresses).

The same seed gives the same candidates; which of them is the slowest is measured, in processor time of this thread.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

POPULATION = 12
SEGMENTS_MAX = 6
#: Counts are powers of two, to this one.
DOUBLINGS_MAX = 20


class Frame(NamedTuple):
    """What stands before and behind, and of what the middle is made."""

    before: str
    pieces: Sequence[str]
    behind: str


class Segment(NamedTuple):
    piece: int
    doublings: int


class Shape(NamedTuple):
    frame: int
    segments: tuple[Segment, ...]
    doublings: int
    """Of the whole."""

    def text(self, frames: Sequence[Frame], octets_max: int) -> str:
        frame = frames[self.frame]
        room = octets_max - len((frame.before + frame.behind).encode())
        numbers = count()
        made: list[str] = []
        size = 0
        for _ in range(1 << self.doublings):
            for segment in self.segments:
                piece = frame.pieces[segment.piece % len(frame.pieces)]
                octets = len(piece.encode())
                for _ in range(min(1 << segment.doublings, 1 + room // octets)):
                    part = piece.replace("#", str(next(numbers))) if "#" in piece else piece
                    size += len(part.encode()) if "#" in piece else octets
                    if size > room:
                        return "".join([frame.before, *made, frame.behind])
                    made.append(part)
        return "".join([frame.before, *made, frame.behind])

    def described(self, frames: Sequence[Frame]) -> str:
        """As a regular expression would have it, about."""
        frame = frames[self.frame]
        parts = [
            f"({frame.pieces[segment.piece % len(frame.pieces)]!r}){{{1 << segment.doublings}}}"
            for segment in self.segments
        ]
        return f"{frame.before[-24:]!r} ({' '.join(parts)}){{{1 << self.doublings}}}"


class Found(NamedTuple):
    text: str
    seconds: float
    shape: str


def slowest(
    work: Callable[[str], float | None],
    frames: Sequence[Frame],
    *,
    octets_max: int,
    seed: int,
    candidates: int,
) -> Found:
    """The slowest of so many candidates, by processor time, or by what `work` returns. It raises nothing."""
    dice = random.Random(seed)
    known: dict[Shape, float] = {}

    def cost(shape: Shape) -> float:
        if shape not in known:
            known[shape] = seconds_of(work, shape.text(frames, octets_max))
        return known[shape]

    population = [_random_shape(dice, frames, number) for number in range(2 * POPULATION)]
    for frame in range(len(frames)):  # each piece alone, as long as it gets
        population += [
            Shape(frame, (Segment(piece, DOUBLINGS_MAX),), 0) for piece in range(len(frames[frame].pieces))
        ]
    while True:
        population = sorted(set(population), key=lambda shape: (-cost(shape), shape))[:POPULATION]
        if len(known) >= candidates:
            break
        population += [_child(dice, population, frames) for _ in range(POPULATION)]
    # Chance made some of them slow: the best are measured again.
    again = {
        shape: min(seconds_of(work, shape.text(frames, octets_max)), known[shape]) for shape in population
    }
    best = max(again, key=lambda shape: (again[shape], shape))
    return Found(best.text(frames, octets_max), again[best], best.described(frames))


def seconds_of(work: Callable[[str], float | None], text: str) -> float:
    begun = time.thread_time()
    said = work(text)
    return time.thread_time() - begun if said is None else said


def _random_shape(dice: random.Random, frames: Sequence[Frame], number: int) -> Shape:
    frame = number % len(frames)
    segments = tuple(_random_segment(dice, frames[frame]) for _ in range(dice.randint(1, SEGMENTS_MAX)))
    return Shape(frame, segments, dice.randint(0, DOUBLINGS_MAX))


def _random_segment(dice: random.Random, frame: Frame) -> Segment:
    return Segment(dice.randrange(len(frame.pieces)), dice.randint(0, 12))


def _child(dice: random.Random, population: Sequence[Shape], frames: Sequence[Frame]) -> Shape:
    parent = min(dice.sample(population, min(3, len(population))), key=population.index)
    frame, segments, doublings = parent.frame, list(parent.segments), parent.doublings
    at = dice.randrange(len(segments))
    match dice.randrange(6):
        case 0:
            segments[at] = _random_segment(dice, frames[frame])
        case 1:
            change = dice.choice([-3, -1, 1, 3])
            segments[at] = segments[at]._replace(
                doublings=min(DOUBLINGS_MAX, max(0, segments[at].doublings + change))
            )
        case 2:
            segments.insert(at, _random_segment(dice, frames[frame]))
        case 3 if len(segments) > 1:
            del segments[at]
        case 4:
            other = dice.choice(population)
            segments = segments[:at] + list(other.segments[dice.randrange(len(other.segments)) :])
        case _:
            doublings = min(DOUBLINGS_MAX, max(0, doublings + dice.choice([-4, -1, 1, 4])))
    return Shape(frame, tuple(segments[:SEGMENTS_MAX]), doublings)
