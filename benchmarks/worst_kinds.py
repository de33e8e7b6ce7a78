"""What a kind of input of `benchmarks.worst_inputs` is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.search import Frame
from tests.world.lateness import Lateness

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Kind:
    name: str
    frames: Sequence[Frame]
    octets_max: int
    #: All that is done with it, in one go: by this the search goes, by its processor time, or by what it returns.
    cost: Callable[[str], float | None]
    #: What a running relay does with it. What only this benchmark needs is done before.
    prepare: Callable[[str], Work] | None = None
    #: In the place of `prepare`, where that cannot be told apart.
    late: Callable[[str], Awaitable[Lateness]] | None = None
    #: So many at the same time.
    crowd: int = 1
    #: Of the candidates of others, where one takes long to try.
    candidates: float = 1.0


def at_once(cost: Callable[[str], None]) -> Callable[[str], Work]:
    """What is done on the loop in one go."""

    def prepare(text: str) -> Work:
        async def work() -> None:
            cost(text)

        return work

    return prepare
