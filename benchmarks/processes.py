"""What do more cores bring? The relay with edges and couriers of its own, and without, beside Postfix in one run.

    python -m benchmarks.processes

A *form* says how many edges and couriers there are beside the core: 0+0 is one process. For each case all forms and
Postfix take turns, round by round, and who begins changes; the ratio is to Postfix, of the same round. Each case has
relays and a Postfix of its own, warmed first, so that none is measured with the queue that another case left.

*Accepting*: each message is durable before it is answered, and delivery rests, as in `benchmarks.postfix`. The relay is
asked over HTTP, and in a case of its own over SMTP with a login on each connection; Postfix is always asked over SMTP,
and asks nobody who he is. *End to end*: from the first request to the last message at the receiver, a process that
takes all and does nothing with it (`benchmarks.receiver`), on 20 connections. The relay signs each message four times,
Postfix signs nothing. Postfix is a new instance in each round of this case: older ones are slower.

*Processor time* is that of all processes of a server: those below its first process, and those that have ended. The
load generator (`benchmarks.dialogues`; the same for all, and cheaper than smtp-source), the receiver and this process
share the two cores with what is measured. What they take of all processor time used is in the table: by the clock it
is missing to the relay and to Postfix, by processor time it is in neither.

*Memory* is PSS of all processes, the most that was seen while messages go end to end, with one server at a time: what
two relays share would count half for each. It has the pages of the views' file in it that were touched, though they are
the page cache's; a row says what it is without them.

The ceilings: the bare application under the relay's server (`benchmarks.bare`) with 32 connections kept, and
smtp-source straight to the receiver. Without Postfix, or not as root, there is nothing to measure, and a line says so.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.accept import BODY_BYTES, Bare, bare_server, send_request
from benchmarks.command import Effort, run
from benchmarks.deliver import SECONDS_MAX, SMTP_CONNECTIONS
from benchmarks.load import Load, run_load
from benchmarks.postfix import WARM_PART, Postfix, postfix
from benchmarks.receiver import PATH, Receiver, bare_client_rate, receiver
from benchmarks.report import Comparison, Demand, Row
from benchmarks.smtp_load import SmtpLoad, run_smtp_load
from benchmarks.submission import address_of, listen, login_of
from benchmarks.world import WORKERS, BenchedRelay, pss_bytes, relay_process, silent_receiver
from tests.world.process import configure

QUESTION = "processes"
PER_SECOND = "messages/s"
CPU = "processor time of all processes, ms a message"
SHARE = "% of the processor time used that was the load's and the receiver's"
#: Of `CPU`.
CPU_OF = {
    "core": "ms a message of it by the core",
    **{role: f"ms a message of it by {role}s" for role in WORKERS},
}
MEMORY = "memory, end to end"
_MB = 1_000_000


class Form(NamedTuple):
    edges: int
    couriers: int

    def __str__(self) -> str:
        return f"{self.edges}+{self.couriers}"

    def settings(self) -> str:
        """Lines of `[service]`. One process is the default, and is measured as such."""
        return f"edges = {self.edges}\ncouriers = {self.couriers}\n" if any(self) else ""


FORMS = (Form(0, 0), Form(1, 1), Form(2, 1), Form(1, 2))
#: What `auto` is on two cores: the form that demands on speed speak of.
USUAL_FORM = Form(1, 1)


class Case(NamedTuple):
    name: str
    connections: int
    #: Of Postfix's messages/s, by `USUAL_FORM`.
    asked: float
    keeps: bool = True
    over_smtp: bool = False
    messages: int = 3000


ACCEPT_USUAL = Case("accept, 32 connections kept", 32, 2.0)
ACCEPTING = (
    ACCEPT_USUAL,
    Case("accept, 8 connections kept", 8, 1.5),
    Case("accept, 1 connection kept", 1, 1.5, messages=1000),
    Case("accept, a new connection each, 8 at a time", 8, 1.2, keeps=False),
    Case("accept, a new connection each, 32 at a time", 32, 1.2, keeps=False),
    Case("accept over SMTP, 32 connections kept", 32, 1.2, over_smtp=True),
)
END_TO_END = Case("end to end, four signatures against none", 32, 1.0, messages=2000)
#: Of Postfix's processor time a message end to end, in one process and in `USUAL_FORM`; 1 / 0.75.
CPU_RATIO_ASKED = 1.33
MEMORY_BYTES_ASKED = 160 * _MB


class Figure(NamedTuple):
    per_second: float
    #: Of the server, for each message.
    cpu_ms: float
    #: Of all processor time used, what was not the server's.
    load_percent: float
    #: Of `cpu_ms`, by role; nothing where there are none.
    cpu_ms_of: Mapping[str, float]


#: One round of one server: given how many messages.
Program = Callable[[int], Figure]


def measure(effort: Effort) -> Iterator[Row]:
    return measure_forms(effort, FORMS)


def measure_forms(
    effort: Effort, forms: Sequence[Form], cases: Sequence[Case] = (*ACCEPTING, END_TO_END)
) -> Iterator[Row]:
    if shutil.which("postfix", path=PATH) is None or os.geteuid():
        print("         Postfix is not installed, or this is not root: left out", file=sys.stderr)
        return
    for case in cases:
        yield from (_deliver if case is END_TO_END else _accept)(case, forms, effort)
    yield from measure_memory(effort, forms)


@contextmanager
def relay_in(form: Form, route: str) -> Iterator[BenchedRelay]:
    def fill(directory: Path) -> None:
        listen(directory)
        configure(directory, service=form.settings())

    with relay_process(route=route, fill=fill) as relay:
        # Or another form is measured than the one that is named.
        relay.wait_until(
            lambda: form == Form(*(len(relay.workers(role)) for role in WORKERS)), f"has {form} workers"
        )
        yield relay


# ------------------------------------------------------------------------------------------------ one round


def _figure(
    messages: int,
    work: Callable[[], tuple[Load | SmtpLoad, float]],
    server: Callable[[], float],
    others: Callable[[], float] = time.process_time,
    by_role: Callable[[], Mapping[str, float]] = dict,
) -> Figure:
    """`work` says what was its load, and how many seconds it took in all. `server`, `others` and `by_role` say how much
    processor time they have used so far."""
    used, used_by_others, used_by_role = server(), others(), by_role()
    load, seconds = work()
    used, used_by_others = server() - used, others() - used_by_others + load.cpu_seconds
    return Figure(
        messages / seconds,
        used / messages * 1000,
        used_by_others / (used + used_by_others) * 100,
        {role: (now - used_by_role[role]) / messages * 1000 for role, now in by_role().items()},
    )


def _post(relay: BenchedRelay, case: Case, messages: int) -> Load | SmtpLoad:
    if case.over_smtp:
        return _hand_in(address_of(relay), case, messages, login_of(relay))
    load = run_load(
        relay.address,
        send_request(relay.credentials),
        connections=case.connections,
        seconds=SECONDS_MAX,
        requests=messages,
        keeps=case.keeps,
    )
    if load.requests < messages:
        raise RuntimeError(f"{load.requests} of {messages} requests were answered")
    return load


def _hand_in(address: str, case: Case, messages: int, login: tuple[str, str] | None = None) -> SmtpLoad:
    return run_smtp_load(
        address,
        connections=case.connections,
        messages=messages,
        body_bytes=BODY_BYTES,
        login=login,
        keeps=case.keeps,
    )


def _timed(load: Load | SmtpLoad) -> tuple[Load | SmtpLoad, float]:
    return load, load.seconds


def _until_received(
    sink: Receiver, messages: int, send: Callable[[], Load | SmtpLoad]
) -> tuple[Load | SmtpLoad, float]:
    target = sink.count + messages
    load = send()
    answered_at = time.perf_counter()
    # From the first request, and not from the start of the process that sends it.
    return load, load.seconds + max(0.0, sink.wait_for(target, seconds=SECONDS_MAX) - answered_at)


# ------------------------------------------------------------------------------------------------ the cases


def _accept(case: Case, forms: Sequence[Form], effort: Effort) -> Iterator[Row]:
    with ExitStack() as stack:
        nobody = stack.enter_context(silent_receiver())
        holding = stack.enter_context(postfix(nobody))
        programs: dict[str, Program] = {"Postfix": partial(_accepted_by_postfix, holding, case)}
        for form in forms:
            relay = stack.enter_context(relay_in(form, nobody))
            programs[str(form)] = partial(_accepted, relay, case)
        if case is ACCEPT_USUAL:
            bare = stack.enter_context(bare_server("own-server"))
            request = send_request({"Authorization": "Bearer " + "x" * 43})
            programs["ceiling"] = partial(_answered_by_bare, bare, request, case)
        yield from _rows(
            case, forms, _take_turns(programs, effort, case), "bare application under the relay's server"
        )


def _accepted(relay: BenchedRelay, case: Case, messages: int) -> Figure:
    return _figure(
        messages,
        lambda: _timed(_post(relay, case, messages)),
        relay.cpu_seconds,
        by_role=relay.cpu_seconds_by_role,
    )


def _accepted_by_postfix(holding: Postfix, case: Case, messages: int) -> Figure:
    return _figure(messages, lambda: _timed(_hand_in(holding.holding, case, messages)), holding.cpu_seconds)


def _answered_by_bare(bare: Bare, request: bytes, case: Case, messages: int) -> Figure:
    load = partial(run_load, bare.address, request, connections=case.connections, seconds=SECONDS_MAX)
    return _figure(messages, lambda: _timed(load(requests=messages)), bare.cpu_seconds)


def _deliver(case: Case, forms: Sequence[Form], effort: Effort) -> Iterator[Row]:
    with ExitStack() as stack:
        sink = stack.enter_context(receiver())
        programs: dict[str, Program] = {"Postfix": partial(_delivered_by_postfix, sink, case)}
        for form in forms:
            relay = stack.enter_context(relay_in(form, sink.address))
            programs[str(form)] = partial(_delivered, relay, sink, case)
        programs["ceiling"] = partial(_received, sink)
        yield from _rows(
            case, forms, _take_turns(programs, effort, case), "smtp-source straight to the receiver"
        )


def _delivered(relay: BenchedRelay, sink: Receiver, case: Case, messages: int) -> Figure:
    return _figure(
        messages,
        lambda: _until_received(sink, messages, lambda: _post(relay, case, messages)),
        relay.cpu_seconds,
        lambda: time.process_time() + sink.cpu_seconds(),
        relay.cpu_seconds_by_role,
    )


def _delivered_by_postfix(sink: Receiver, case: Case, messages: int) -> Figure:
    with postfix(sink.address) as other:

        def send(count: int) -> Figure:
            return _figure(
                count,
                lambda: _until_received(sink, count, lambda: _hand_in(other.passing, case, count)),
                other.cpu_seconds,
                lambda: time.process_time() + sink.cpu_seconds(),
            )

        send(max(case.connections, messages // WARM_PART))
        return send(messages)


def _received(sink: Receiver, messages: int) -> Figure:
    per_second = bare_client_rate(sink, messages=messages, connections=SMTP_CONNECTIONS, size=BODY_BYTES)
    return Figure(per_second, 0.0, 100.0, {})


def _take_turns(programs: dict[str, Program], effort: Effort, case: Case) -> dict[str, list[Figure]]:
    messages = effort.scaled(case.messages)
    for program in programs.values():
        program(max(10, messages // WARM_PART))
    figures: dict[str, list[Figure]] = {name: [] for name in programs}
    names = list(programs)
    for number in range(effort.many_rounds):
        begins = number % len(names)
        turns = names[begins:] + names[:begins]
        for name in turns if number % 2 else reversed(turns):
            figures[name].append(programs[name](messages))
    return figures


def _rows(case: Case, forms: Sequence[Form], figures: dict[str, list[Figure]], ceiling: str) -> Iterator[Row]:
    theirs = figures["Postfix"]
    is_whole = case is END_TO_END
    for form in forms:
        ours = figures[str(form)]
        is_usual = form == USUAL_FORM
        row = partial(Row, question=QUESTION, case=case_of(case.name, form))
        speeds = [figure.per_second for figure in ours]
        yield row(
            what=PER_SECOND,
            values=speeds,
            against=Comparison("Postfix", [figure.per_second for figure in theirs]),
            asked=Demand("ratio", at_least=case.asked) if is_usual else None,
            is_headline=is_usual,
        )
        yield row(
            what=CPU,
            values=[figure.cpu_ms for figure in ours],
            against=Comparison("Postfix", [figure.cpu_ms for figure in theirs]),
            lower_is_better=True,
            asked=Demand("ratio", at_least=CPU_RATIO_ASKED)
            if is_whole and form in (Form(0, 0), USUAL_FORM)
            else None,
            is_headline=is_whole and is_usual,
        )
        yield row(what=SHARE, values=[figure.load_percent for figure in ours], lower_is_better=True)
        for role in CPU_OF if any(form) else ():
            yield row(
                what=CPU_OF[role],
                values=[figure.cpu_ms_of[role] for figure in ours],
                lower_is_better=True,
            )
        if is_usual and "ceiling" in figures:
            yield row(
                what=f"{PER_SECOND}, the same",
                values=speeds,
                against=Comparison(ceiling, [figure.per_second for figure in figures["ceiling"]]),
            )
    yield Row(
        question=QUESTION,
        case=case_of(case.name, "Postfix"),
        what=SHARE,
        values=[figure.load_percent for figure in theirs],
        lower_is_better=True,
    )


def case_of(name: str, server: object) -> str:
    """A row's case; `benchmarks.cores_page` takes it apart."""
    return f"{name}; {server}"


# ------------------------------------------------------------------------------------------------ memory


class Weight(NamedTuple):
    """Bytes: PSS of all processes, and without the pages of the views' file."""

    all: int
    without_views: int


def measure_memory(effort: Effort, forms: Sequence[Form]) -> Iterator[Row]:
    messages = effort.scaled(END_TO_END.messages)
    theirs: list[Weight] = []
    ours: dict[Form, list[Weight]] = {form: [] for form in forms}
    with receiver() as sink:
        for _ in range(max(1, effort.rounds)):
            with postfix(sink.address) as other:
                theirs.append(
                    _heaviest(
                        lambda: Weight(pss_bytes(other.pid), pss_bytes(other.pid)),
                        lambda: _until_received(
                            sink, messages, lambda: _hand_in(other.passing, END_TO_END, messages)
                        ),
                    )
                )
            for form in forms:
                with relay_in(form, sink.address) as relay:
                    ours[form].append(
                        _heaviest(
                            lambda: Weight(pss_bytes(relay.pid), relay.pss_without_views()),
                            lambda: _until_received(
                                sink, messages, lambda: _post(relay, END_TO_END, messages)
                            ),
                        )
                    )
    for form, weights in ours.items():
        is_usual = form == USUAL_FORM
        yield Row(
            question=QUESTION,
            case=case_of(MEMORY, form),
            what="MB (PSS) of all processes",
            values=[weight.all / _MB for weight in weights],
            against=Comparison("Postfix", [weight.all / _MB for weight in theirs]),
            lower_is_better=True,
            asked=Demand("median", at_most=MEMORY_BYTES_ASKED / _MB) if is_usual else None,
            is_headline=is_usual,
        )
        yield Row(
            question=QUESTION,
            case=case_of(MEMORY, form),
            what="MB of it that are not the views' file",
            values=[weight.without_views / _MB for weight in weights],
            lower_is_better=True,
        )


def _heaviest(weigh: Callable[[], Weight], work: Callable[[], object]) -> Weight:
    """The most that was seen while `work` was done, a few times a second, and when it was over."""
    over = threading.Event()
    seen: list[Weight] = []

    def watch() -> None:
        while not over.wait(0.2):
            seen.append(weigh())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        work()
    finally:
        over.set()
        watching.join()
    seen.append(weigh())
    return Weight(max(each.all for each in seen), max(each.without_views for each in seen))


if __name__ == "__main__":
    run({QUESTION: measure})
