"""Benchmarks are no tests: nothing here looks at a figure. That each question can still be asked, and that pages say
what was measured."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trio

from benchmarks import (
    cores_page,
    cores_plot,
    nodes,
    open_loop,
    policy,
    postfix,
    processes,
    queue_length,
    webhooks,
)
from benchmarks.accept import BODY_BYTES, USUAL, bare_server, measure_case, measure_new_connections
from benchmarks.command import Effort
from benchmarks.pages import PAGES, PROCESSES, newest_results, plots, with_figures
from benchmarks.processes import FORMS, USUAL_FORM
from benchmarks.report import Comparison, Demand, Row, Run, closing_line, decode, see_environment, table
from benchmarks.search import Segment, Shape
from benchmarks.world import relay_process, silent_receiver
from benchmarks.worst_inputs import open_kinds
from relay.core import open_core
from relay.views.due import due_from
from tests.world.daemon import require_daemon
from tests.world.postgres import require_postgres
from tests.world.process import make_process_directory

#: Those that take no time when little is asked of them.
QUICK = ["append", "command_start", "compose_sign", "deliver", "replay", "hostile", "stream", "submission"]
#: Of questions that ask in many rounds only: a single one.
SMALLEST = Effort(rounds=0, seconds=0.05, scale=0.001)


def test_the_accept_path_can_be_measured() -> None:
    effort = Effort(rounds=1, seconds=0.05)
    with (
        silent_receiver() as nobody,
        relay_process(route=nobody) as relay,
        bare_server() as bare,
        bare_server("own-server") as own,
    ):
        many = list(measure_case(relay, bare, own, effort, BODY_BYTES, 50, USUAL))
        simple = list(measure_case(relay, bare, own, effort, BODY_BYTES, 1, USUAL))
        new = list(measure_new_connections(relay, bare, effort, 8))
    by_clock, per_core = "durable sends/s by the clock", "durable sends for each second of a core"
    busy = "% of a core that bare hypercorn was busy"
    assert [row.what for row in many] == [by_clock, "durable recipients/s", per_core, "p99, ms"]
    assert many[1].values[0] == many[0].values[0] * 50
    assert [row.what for row in simple] == [by_clock, per_core, per_core, busy, "p99, ms"]
    # By the clock and by processor time: the harsher of the two must be seen.
    assert [row.what for row in simple if row.asked == Demand("ratio", at_least=0.65)] == [by_clock, per_core]
    assert [row.what for row in new] == [by_clock, per_core]
    assert all(row.ratio for row in new)


def test_the_questions_can_be_asked(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    effort = ["--rounds", "1", "--seconds", "0.05", "--scale", "0.001", "--json", str(results)]
    command = [sys.executable, "-m", "benchmarks", *QUICK, *effort]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = decode(results.read_bytes())
    assert {row.question for row in run.rows} == set(QUICK)
    assert table(run.rows) in done.stdout
    assert run.environment.commit
    for row in json.loads(results.read_bytes())["rows"]:
        assert row["min"] <= row["median"] <= row["max"]


def test_whether_limits_slow_the_accept_path_can_be_asked() -> None:
    rows = list(policy.measure(SMALLEST))
    assert [row.what for row in rows] == ["durable sends/s"] * 2 + ["µs of CPU a send"] * 2
    assert all(row.ratio for row in rows)


def test_what_a_long_queue_costs_can_be_asked(tmp_path: Path) -> None:
    queued, due = queue_length.Queue(50), queue_length.Queue(50, worst=True, due=True)
    for queue, expected in ((queued, 0), (due, 50)):
        directory = tmp_path / str(queue) / "data"
        make_process_directory(directory, route="127.0.0.1:25")
        trio.run(queue_length.queue_messages, directory, queue)
        assert trio.run(count_due, directory) == (expected, 50)
    rows = list(queue_length.measure_queues(Effort(rounds=1, seconds=0.05), [due]))
    assert {row.case for row in rows} == {"nothing queued", "50 all due, a domain each"}
    assert [row.what for row in rows[-4:]] == [
        "memory, MiB",
        "of it its own, MiB",
        "the views' mapped pages besides, MiB",
        "peak of resident memory, MiB",
    ]
    memory, own, views, peak = (row.values[0] for row in rows[-4:])
    assert own < memory <= peak
    assert 0 < views < peak


def test_whether_dead_endpoints_slow_the_others_can_be_asked() -> None:
    rows = list(webhooks.measure(Effort(rounds=1, seconds=0.05, scale=0.001)))
    assert [row.what for row in rows] == ["events/s", "µs of CPU an event"] * 2 + [
        *["events/s, to those that live"] * 2,
        "µs of CPU an event",
    ]
    assert [row.asked for row in rows if row.asked] == [Demand("ratio", at_least=0.9)]
    # So few events may take less of the processor than the kernel counts in.
    assert all(value > 0 or "CPU" in row.what for row in rows for value in row.values)


async def count_due(directory: Path) -> tuple[int, int]:
    """How many are due now, and how many there are."""
    async with open_core(directory) as core:
        now = core.store.now_us()
        with core.store.read() as view:
            times = [at for at, *_ in due_from(view, 0, 0)]
    return sum(at <= now for at in times), len(times)


def test_the_relay_can_be_measured_beside_postfix() -> None:
    require_daemon("postfix")
    rows = list(postfix.measure(SMALLEST))
    assert [row.what for row in rows] == ["messages/s", "messages for each second of a core"] * 2
    assert all(row.ratio for row in rows)


def test_what_more_cores_bring_can_be_asked() -> None:
    require_daemon("postfix")
    # What is different about the others: over SMTP, and a new connection each.
    other = processes.ACCEPTING[-1]._replace(over_smtp=True, keeps=False)
    cases = (processes.ACCEPT_USUAL, other, processes.END_TO_END)
    rows = [
        *processes.measure_forms(SMALLEST, [USUAL_FORM], cases),
        *open_loop.measure_forms(SMALLEST, [USUAL_FORM]),
    ]
    compared = [row for row in rows if row.what in (processes.PER_SECOND, processes.CPU)]
    assert [row.case for row in compared] == [
        processes.case_of(case.name, USUAL_FORM) for case in cases for _ in range(2)
    ]
    assert all(row.ratio for row in compared)
    ceilings = [row for row in rows if row.what == f"{processes.PER_SECOND}, the same"]
    assert len(ceilings) == 2
    assert all(0 < row.values[0] < 100 for row in rows if row.what == processes.SHARE)
    assert [row.question for row in rows if row.asked] == [processes.QUESTION] * 5 + [open_loop.QUESTION] * 2
    page = cores_page.tables(Run(see_environment(Path("/tmp")), rows))
    for case in cases:
        assert f"| {case.name} | ≥ {case.asked:g} |" in page


def test_what_several_machines_cost_can_be_asked() -> None:
    require_postgres()
    rows = list(nodes.measure(Effort(rounds=1, seconds=0.05, scale=0.001)))
    assert {row.case.partition(",")[0] for row in rows} == {
        "the table alone",
        "accept",
        "catching up",
        "kill -9 of the leader",
        "kill -9 of the database's primary",
    }
    assert len([row for row in rows if row.asked]) == 5


def made_up_run() -> Run:
    """Every case at 1.5 of Postfix's speed and half of its processor time, but for the last form's: no rows of it."""
    rows = []
    for case in cores_page.CASES:
        for form in FORMS[:-1]:
            named = {"question": processes.QUESTION, "case": processes.case_of(case.name, form)}
            speed, cost = Comparison("Postfix", [100, 200]), Comparison("Postfix", [4, 2])
            rows += [
                Row(**named, what=processes.PER_SECOND, values=[150, 300], against=speed),
                Row(**named, what=processes.CPU, values=[2, 1], against=cost, lower_is_better=True),
            ]
    return Run(see_environment(Path("/tmp")), rows)


def test_a_page_of_cores_says_ratios_to_postfix_and_leaves_out_what_was_not_measured() -> None:
    page = cores_page.tables(made_up_run())
    assert "| accept, 32 connections kept | ≥ 2 | 1.50 | 1.50 | 1.50 |  | 150 |" in page
    assert f"| {processes.END_TO_END.name} | ≤ 0.75 (0+0, 1+1) | 0.50 | 0.50 | 0.50 |  | 3.00 |" in page


def test_a_plot_has_a_bar_for_each_figure_and_none_for_what_is_missing() -> None:
    for palette in cores_plot.PALETTES.values():
        picture = ElementTree.fromstring(cores_plot.plot(made_up_run(), palette))
        bars = [
            shape for shape in picture.iter("{http://www.w3.org/2000/svg}rect") if shape.get("height") == "9"
        ]
        by_colour = Counter(bar.get("fill") for bar in bars)
        assert by_colour == {colour: 2 * len(cores_page.CASES) for colour in palette.forms[:-1]}
        widths = {float(bar.get("width") or 0) for bar in bars}
        # Of Postfix's: 1.5 where 2 is asked and fits into the panel, and half where Postfix is the most.
        assert widths == {1.5 * 230 / 2, 0.5 * 230}


def test_each_kind_of_worst_input_can_be_tried() -> None:
    with open_kinds() as kinds:
        for kind in kinds:
            text = Shape(0, (Segment(0, 2),), 0).text(kind.frames, 500)
            kind.cost(text)
            if kind.prepare is not None:
                trio.run(kind.prepare(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_figures_of_a_page_are_those_of_a_run_that_is_kept(page: Path) -> None:
    text = page.read_text()
    assert "<!-- figures:" in text
    assert text == with_figures(text, decode(newest_results().read_bytes())), (
        "run: python -m benchmarks.pages"
    )


def test_the_plots_are_those_of_a_run_that_is_kept() -> None:
    for path, plot in plots(decode(newest_results(PROCESSES).read_bytes())).items():
        assert path.read_text() == plot, f"{path}: run: python -m benchmarks.pages"


def test_a_sentence_whose_row_is_missing_is_no_sentence() -> None:
    run = decode(newest_results().read_bytes())
    page = "<!-- figures: three -->\n<!-- end of figures -->"
    assert with_figures(page, run).count("\n- **") == 3
    run.rows.clear()
    with pytest.raises(AssertionError, match="not one row of accept"):
        with_figures(page, run)


def row(values: list[float], against: list[float] | None = None, **more: object) -> Row:
    compared = None if against is None else Comparison("alone", against)
    return Row(question="q", case="c", what="w", values=values, against=compared, **more)  # type: ignore[arg-type]


def test_a_ratio_is_of_the_rounds_and_one_is_as_good_as_the_ceiling_whichever_way_is_better() -> None:
    assert row([50, 10], [100, 20]).ratio == 0.5
    assert row([20, 40], [10, 20], lower_is_better=True).ratio == 0.5
    # The machine was slow in the second round, and as slow for both: medians of each would not say 0.5.
    assert row([50, 1, 40], [100, 2, 80]).ratio == 0.5
    assert row([1]).ratio is None


def test_what_was_asked_is_met_or_said_not_to_be() -> None:
    met = row([3], asked=Demand("median", at_least=2))
    missed = row([1], [2], asked=Demand("ratio", at_least=0.65))
    assert met.is_met
    assert not missed.is_met
    assert not row([51], asked=Demand("median", at_most=50)).is_met
    assert "ratio ≥ 0.65: NOT MET" in table([missed])
    assert closing_line([met, missed, row([1])]) == "1 of 2 demands are met in this run"
