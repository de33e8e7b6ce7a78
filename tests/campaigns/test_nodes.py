"""Slices of the campaigns of three relays on one log; `make simulate WORLD=nodes` and `make nodes` run more."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.campaigns.bugs_of_nodes import (
    denies_what_it_has_not_heard_of,
    mark_before_sync,
    webhooks_begin_anew,
    webhooks_begin_at_the_end,
    webhooks_do_not_ask_who_leads,
)
from tests.campaigns.node_story import simulate_nodes
from tests.campaigns.nodes import live
from tests.campaigns.simulate import Totals

SEEDS = (4, 5, 9)
pytestmark = pytest.mark.timeout(600)


def test_no_promise_is_broken_in_a_slice_of_the_campaign() -> None:
    totals = Totals()
    for seed in SEEDS:
        run = simulate_nodes(seed)
        assert run.breaches == [], f"seed {seed}"
        totals.add(run)
    assert totals.happened["times that somebody took the lead"] > len(SEEDS)
    assert totals.answers["POST 200"] > 20 * len(SEEDS)


def test_a_seed_replays_exactly() -> None:
    first, again = simulate_nodes(3), simulate_nodes(3)
    assert first.breaches == []
    assert first.log == again.log
    assert first.answers == again.answers


@pytest.mark.parametrize(
    ("plant", "faults", "seed", "words"),
    [
        (denies_what_it_has_not_heard_of, None, 9, "beyond the last event|it is 404"),
        (webhooks_do_not_ask_who_leads, ("partition", "hooks", "crowd"), 3, r"told \[.*\] while .* led"),
        (webhooks_begin_at_the_end, ("kill", "hooks"), 1, "should have come before"),
        (webhooks_begin_anew, ("stop", "hooks"), 3, "the log says that it has got to"),
        (mark_before_sync, ("power",), 1, "CorruptionError"),
    ],
)
def test_a_bug_that_is_planted_is_found(
    plant: Callable[[ExitStack], None], faults: Sequence[str] | None, seed: int, words: str
) -> None:
    with ExitStack() as stack:
        plant(stack)
        breaches = simulate_nodes(seed, faults=faults).breaches
    assert any(re.search(words, breach) for breach in breaches), breaches


def test_two_rounds_of_real_relays_and_servers(tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    trio.run(lambda: live(tmp_path, rounds=2, seed=1, only=None, told=told))
    assert told["logs of all nodes compared"] == 3
    assert told["messages told of"] > 0


def test_two_rounds_of_a_network_that_is_cut(tmp_path: Path) -> None:
    told: Counter[str] = Counter()
    trio.run(lambda: live(tmp_path, rounds=2, seed=1, only="leader_cut_in_an_append", told=told))
    assert sum(count for what, count in told.items() if what.startswith("appends whose connection was cut"))
    assert told["messages told of"] > 0
