"""`/metrics` of a relay of several processes: one page, with their sums.

The invariant: **the page shows one relay, and its counters never go back while it runs.** Each process counts for
itself; when the page is wanted the core asks all others, adds up what they say, and waits for a second at most. Of one
that does not answer in time the gauges are left out (nobody knows how it is), and its counters are what it said last.
So is it with one that has ended: what it had counted since it was last asked is lost, and nothing else. (A sum that
fell would look to Prometheus like a restart, and rates would be wrong.)

A certificate's expiry is no sum but the earliest of all, and so is the time at which a counter was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec
import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

ANSWER_SECONDS_MAX: Final = 1.0
#: Gauges of which the earliest counts that is there at all.
_EARLIEST: Final = frozenset({"atmos_tls_certificate_expires_seconds"})
_GAUGE: Final = "gauge"


class Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """Samples of one kind, as they go from one process to another."""

    name: str
    kind: str
    documentation: str
    samples: list[Sample]


def families_of(registry: CollectorRegistry) -> list[Family]:
    """What is counted there at this moment."""
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            [Sample(sample.name, sample.labels, float(sample.value)) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def added_up(told: Iterable[Family]) -> list[Family]:
    """One family for all of a name, and in it one sample for all of the same labels."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in told:
        families.setdefault(family.name, family)
        of_family = values.setdefault(family.name, {})
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            before = of_family.get(key)
            of_family[key] = sample.value if before is None else _both(sample.name, before, sample.value)
    return [
        Family(
            name,
            family.kind,
            family.documentation,
            [Sample(sample, dict(labels), value) for (sample, labels), value in values[name].items()],
        )
        for name, family in families.items()
    ]


def _both(name: str, one: float, other: float) -> float:
    if name in _EARLIEST or name.endswith("_created"):
        return min(one, other) or max(one, other)  # 0: there is none
    return one + other


def _without_gauges(families: Iterable[Family]) -> list[Family]:
    return [family for family in families if family.kind != _GAUGE]


class _Worker:
    def __init__(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        #: What it said last.
        self.told: Sequence[Family] = ()
        #: It was asked, and has not answered yet.
        self.asked: trio.Event | None = None

    def answer(self) -> None:
        if self.asked is not None:
            self.asked.set()
            self.asked = None


class MetricsPage:
    """Of one relay. `own`: what the core's process counts. `count_unanswered`: so many did not answer in time."""

    def __init__(
        self,
        own: Callable[[], Iterable[Family]],
        count_unanswered: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._own = own
        self._count_unanswered = count_unanswered
        self._workers: dict[str, _Worker] = {}
        #: Counters of those that have ended.
        self._gone: Sequence[Family] = ()

    def add(self, worker: str, ask: Callable[[], None]) -> None:
        """Another process counts from now on. `ask` sends it the question, and never waits: the answer comes by `told`.
        None is asked again before it has answered."""
        assert worker not in self._workers
        self._workers[worker] = _Worker(ask)

    def told(self, worker: str, families: Sequence[Family]) -> None:
        """The answer of a worker."""
        asked = self._workers[worker]
        asked.told = families
        asked.answer()

    def lose(self, worker: str) -> None:
        """It has ended."""
        gone = self._workers.pop(worker)
        self._gone = added_up([*self._gone, *_without_gauges(gone.told)])
        gone.answer()

    async def text(self) -> bytes:
        """The page. Takes ANSWER_SECONDS_MAX at most."""
        asked = [(worker, self._ask(worker)) for worker in self._workers.values()]
        with trio.move_on_after(ANSWER_SECONDS_MAX):
            for _, answered in asked:
                await answered.wait()
        late = [worker for worker, answered in asked if not answered.is_set()]
        if late:
            self._count_unanswered(len(late))
        told = [*self._own(), *self._gone]
        for worker in self._workers.values():
            told += _without_gauges(worker.told) if worker in late else worker.told
        return _written(told)

    def own_text(self) -> bytes:
        """Of this process alone."""
        return _written(self._own())

    def _ask(self, worker: _Worker) -> trio.Event:
        if worker.asked is None:
            worker.asked = trio.Event()
            worker.ask()
        return worker.asked


def _written(told: Iterable[Family]) -> bytes:
    return generate_latest(_AddedUp(told))


class _AddedUp(Collector):
    def __init__(self, told: Iterable[Family]) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        for family in added_up(self._told):
            metric = Metric(family.name, family.documentation, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric
