"""A campaign of crashes with processes finds what is planted between them, in the words of the judge meant for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.campaigns import crash_troubles, life
from tests.campaigns.crash import Record, campaign
from tests.campaigns.tally import Violation

PROCESSES = {"edge": 1, "courier": 1}
ROUNDS_MAX = 4


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("bug", "trouble", "words"),
    [
        ("hasty-edge", "kill_under_load", "was given twice|told of these, and the log does not have them"),
        ("silent-death", "kill_a_courier", "after their courier was killed, attempts have no outcome"),
        ("two-couriers", "stop_in_order", "was received"),
    ],
)
def test_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str, trouble: str, words: str
) -> None:
    monkeypatch.setattr(crash_troubles, "ANSWERS_MAX", 12)
    monkeypatch.setattr(life, "NAMED_SECONDS_MAX", 3.0)
    record = Record(1)
    with pytest.RaisesGroup(
        pytest.RaisesExc(Violation, match=words), flatten_subgroups=True, allow_unwrapped=True
    ):
        trio.run(
            lambda: campaign(
                tmp_path, record, rounds=ROUNDS_MAX, deck=[trouble], processes=PROCESSES, bug=bug
            )
        )


def test_a_slice_without_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of each trouble that only a relay with processes has."""
    monkeypatch.setattr(crash_troubles, "ANSWERS_MAX", 12)
    record = Record(2)
    deck = ["kill_an_edge", "kill_a_courier", "stop_a_worker"]
    trio.run(lambda: campaign(tmp_path, record, rounds=len(deck), deck=deck, processes=PROCESSES))
    assert record.total.worker_signals.total() == len(deck)
    assert record.total.checks["the attempts of couriers that were killed held against the log"] == 1
