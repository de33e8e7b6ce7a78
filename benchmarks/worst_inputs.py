"""How late does the worst input of each kind make the loop?

    python -m benchmarks.worst_inputs [--scale 0.2]

For each kind of input that strangers or members choose, `benchmarks.search` looks for the one that takes longest, among
shapes of up to the kind's largest size. Then the relay's own code works at it, as it does in a running relay (on the
loop, or beside it: `relay.heavy_work`), while a heartbeat that wants to run every millisecond says how late it was.
Lateness is what everybody else waits. It is given by the clock, and as what the process used of the processors between
two beats: on a quiet machine that is the same, and on a shared one the demand can be made of it. `idle` is the
heartbeat with nothing beside it.

It ends with 1 where a kind makes the loop later than 50 ms (SPEC 13).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from benchmarks.command import Effort, run
from benchmarks.report import Demand, Row
from benchmarks.search import Found, slowest
from benchmarks.worst_answers import of_answers
from benchmarks.worst_kinds import Kind
from benchmarks.worst_mail import Mail, of_mail
from benchmarks.worst_requests import of_requests
from benchmarks.worst_retention import of_retention
from relay.heavy_work import HeavyWork
from relay.message.keys import KeyRing, load_peppers
from relay.message.outgoing import Composer
from relay.processes.tuning import SWITCH_SECONDS
from tests.world.lateness import Lateness, lateness
from tests.world.relay import OPERATOR_DOMAIN, make_directory

QUESTION = "worst_inputs"
SEED = 20261129
LATE_MS_MAX = 50
CANDIDATES = 150
_SHAPE_CHARACTERS_MAX = 110


@contextmanager
def open_kinds() -> Iterator[list[Kind]]:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        directory = make_directory(Path(name) / "data")
        heavy = HeavyWork(trio.to_thread.run_sync)
        composer = Composer.of(KeyRing(directory), load_peppers(directory), OPERATOR_DOMAIN, lambda _: 1)
        mail = Mail(composer, heavy)
        yield [*of_requests(heavy), *of_mail(mail), *of_answers(), mail.dsn(), *of_retention()]


def _late(kind: Kind, found: Found, rounds: int) -> list[Lateness]:
    async def main() -> list[Lateness]:
        if kind.late is not None:
            return [await kind.late(found.text) for _ in range(rounds)]
        assert kind.prepare is not None
        works = [kind.prepare(found.text) for _ in range(kind.crowd)]

        async def all_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for work in works:
                    nursery.start_soon(work)

        return [await lateness(all_at_once) for _ in range(rounds)]

    return trio.run(main)


def _rows(case: str, late: list[Lateness], *, at_most: float | None) -> Iterator[Row]:
    row = partial(Row, question=QUESTION, case=case, lower_is_better=True)
    yield row(
        what="the loop was held, ms of processor time",
        values=[each.processor for each in late],
        asked=None if at_most is None else Demand("median", at_most=at_most),
    )
    yield row(what="the loop was late, ms by the clock", values=[each.clock for each in late])


def measure(effort: Effort) -> Iterator[Row]:
    rounds = effort.many_rounds

    async def idle() -> None:
        await trio.sleep(0.3)

    yield from _rows("idle", [trio.run(lateness, idle) for _ in range(rounds)], at_most=None)
    with open_kinds() as kinds:
        for kind in kinds:
            found = slowest(
                kind.cost,
                kind.frames,
                octets_max=kind.octets_max,
                seed=SEED,
                candidates=int(effort.scaled(CANDIDATES) * kind.candidates),
            )
            print(
                f"         {found.seconds * 1000:7.1f} ms  {len(found.text.encode()):8} octets  "
                f"{found.shape[:_SHAPE_CHARACTERS_MAX]}",
                file=sys.stderr,
            )
            case = f"{kind.name}, {kind.crowd} at once" if kind.crowd > 1 else kind.name
            yield from _rows(case, _late(kind, found, rounds), at_most=LATE_MS_MAX)


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_SECONDS)
    if not run({QUESTION: measure}):
        sys.exit(1)
