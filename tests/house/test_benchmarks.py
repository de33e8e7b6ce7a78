"""Benchmarks are no tests: nothing here looks at a figure. That each question can still be asked, and that pages say
what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from benchmarks import policy, postfix, queue_length
from benchmarks.accept import BODY_BYTES, USUAL, bare_server, measure_case
from benchmarks.command import Effort
from benchmarks.pages import PAGES, newest_results, with_figures
from benchmarks.report import Comparison, Demand, Row, closing_line, decode, table
from benchmarks.world import relay_process, silent_receiver
from relay.core import open_core
from relay.views.due import due_from
from tests.world.daemon import require_daemon
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
    by_clock, per_core = "durable sends/s by the clock", "durable sends for each second of a core"
    busy = "% of a core that bare hypercorn was busy"
    assert [row.what for row in many] == [by_clock, "durable recipients/s", per_core, "p99, ms"]
    assert many[1].values[0] == many[0].values[0] * 50
    assert [row.what for row in simple] == [by_clock, per_core, per_core, busy, "p99, ms"]
    # By the clock and by processor time: the harsher of the two must be seen.
    assert [row.what for row in simple if row.asked == Demand("ratio", at_least=0.65)] == [by_clock, per_core]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_figures_of_a_page_are_those_of_a_run_that_is_kept(page: Path) -> None:
    text = page.read_text()
    assert "<!-- figures:" in text
    assert text == with_figures(text, decode(newest_results().read_bytes())), (
        "run: python -m benchmarks.pages"
    )


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
