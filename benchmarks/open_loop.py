"""How long does a send wait for its 200 where others do not wait for it, and couriers are busy?

    python -m benchmarks.open_loop

500 sends a second are due, at even distances, on 128 connections for 20 seconds, whatever became of those before. A
send's time is from when it was due until its answer, so one that finds all connections waiting counts what it waited
for one of them, too. All mail goes on at once, signed four times, to a receiver that takes it. The forms of
`benchmarks.processes` take turns, each when the mail of the one before has arrived.

The load generator and the receiver share the machine's cores with the relay; the time that the generator itself was
late is in the figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from benchmarks.accept import send_request
from benchmarks.command import Effort, run
from benchmarks.load import Load, run_open_loop
from benchmarks.processes import FORMS, USUAL_FORM, Form, relay_in
from benchmarks.receiver import Receiver, receiver
from benchmarks.report import Demand, Row
from benchmarks.world import BenchedRelay

QUESTION = "open_loop"
PER_SECOND = 500
CONNECTIONS = 128
SENDS = 20 * PER_SECOND
P99_MS_ASKED = 50
#: For what is left to be delivered: a relay that delivers a tenth as fast as it accepts is still waited for.
_DRAINED_SECONDS_MAX = 200.0


class Figure(NamedTuple):
    load: Load
    #: Messages that had arrived when the last send was answered, for each second until then.
    delivered_per_second: float
    #: Of the relay's processor time, all its processes, in the same time: cores.
    cores: float


def measure(effort: Effort) -> Iterator[Row]:
    return measure_forms(effort, FORMS)


def measure_forms(effort: Effort, forms: Sequence[Form]) -> Iterator[Row]:
    sends = effort.scaled(SENDS)
    with ExitStack() as stack:
        sink = stack.enter_context(receiver())
        relays = {form: stack.enter_context(relay_in(form, sink.address)) for form in forms}
        figures: dict[Form, list[Figure]] = {form: [] for form in forms}
        for relay in relays.values():
            _round(relay, sink, max(10, sends // 10))  # warm
        for number in range(max(1, effort.rounds)):
            for form in forms if number % 2 else reversed(forms):
                figures[form].append(_round(relays[form], sink, sends))
    for form in forms:
        yield from _rows(form, figures[form])


def _round(relay: BenchedRelay, sink: Receiver, sends: int) -> Figure:
    before, used, begun = sink.count, relay.cpu_seconds(), time.perf_counter()
    load = run_open_loop(
        relay.address,
        send_request(relay.credentials),
        connections=CONNECTIONS,
        seconds=sends / PER_SECOND,
        per_second=PER_SECOND,
    )
    delivered, used = sink.count - before, relay.cpu_seconds() - used
    elapsed = time.perf_counter() - begun
    sink.wait_for(before + sends - sum(load.refused.values()), seconds=_DRAINED_SECONDS_MAX)
    return Figure(load, delivered / elapsed, used / elapsed)


def _rows(form: Form, figures: Sequence[Figure]) -> Iterator[Row]:
    case = f"{PER_SECOND} sends/s due, {CONNECTIONS} connections, delivering; {form}"
    row = partial(Row, question=QUESTION, case=case)
    is_usual = form == USUAL_FORM
    for name, index in (("p50", 0), ("p99", 1), ("p99.9", 2)):
        is_asked = is_usual and name == "p99"
        yield row(
            what=f"{name} from when it was due, ms",
            values=[(figure.load.p50, figure.load.p99, figure.load.p999)[index] * 1000 for figure in figures],
            lower_is_better=True,
            asked=Demand("median", at_most=P99_MS_ASKED) if is_asked else None,
            is_headline=is_asked,
        )
    yield row(
        what="sends not answered 200",
        values=[sum(figure.load.refused.values()) for figure in figures],
        lower_is_better=True,
        asked=Demand("median", at_most=0) if is_usual else None,
    )
    yield row(
        what="messages/s delivered meanwhile", values=[figure.delivered_per_second for figure in figures]
    )
    yield row(
        what="cores that the relay used", values=[figure.cores for figure in figures], lower_is_better=True
    )
    yield row(
        what="cores that the load generator used",
        values=[figure.load.cpu_seconds / figure.load.seconds for figure in figures],
        lower_is_better=True,
    )


if __name__ == "__main__":
    run({QUESTION: measure})
