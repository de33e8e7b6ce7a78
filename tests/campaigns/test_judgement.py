"""Whatever keeps the simulated campaign from judging a seed is a broken promise of that seed: none passes unseen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.config import load_config
from tests.campaigns import story
from tests.campaigns.listeners import Listeners
from tests.campaigns.story import _Story, simulate
from tests.world.ledger import Entry, Ledger
from tests.world.promises import broken_promises
from tests.world.relay import make_directory


def test_a_damaged_log_is_reported_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge_what_is_damaged(found: _Story) -> None:
        write_out = found.machine.write_out

        def write_damaged() -> Path:
            log = write_out()
            first = min(log.glob("*.seg"))
            content = bytearray(first.read_bytes())
            content[len(content) // 2] ^= 1
            first.write_bytes(content)
            return log

        found.machine.write_out = write_damaged  # type: ignore[method-assign]
        judge(found)

    judge = _Story.judge
    monkeypatch.setattr(_Story, "judge", judge_what_is_damaged)
    run = simulate(2)
    assert run.breaches
    assert all(breach.startswith("log verify: ") for breach in run.breaches)


def test_a_judge_that_fails_is_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> list[str]:
        raise KeyError("what is this")

    monkeypatch.setattr(story, "broken_promises", fail)
    assert simulate(2).breaches == [
        "the judgement ended with KeyError('what is this') in test_judgement.fail"
    ]


def test_a_last_life_that_never_ends_well_is_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(found: _Story, world: Any) -> None:
        found.machine.die("kill")

    monkeypatch.setattr(_Story, "_last_life", die)
    run = simulate(2, faults=())
    assert run.ends["kill"] == 3
    assert "no last life came to its end" in run.breaches
    assert "nobody has read the events until their end" in run.breaches


async def nobody_listens(listeners: Listeners, seq: int) -> None:
    pass


async def nobody_ever_listens(listeners: Listeners) -> None:
    pass


@pytest.mark.parametrize(("name", "instead"), [("hear_until", nobody_listens), ("live", nobody_ever_listens)])
def test_a_stream_that_nobody_listens_to_is_a_broken_promise(
    monkeypatch: pytest.MonkeyPatch, name: str, instead: Callable[..., Any]
) -> None:
    monkeypatch.setattr(Listeners, name, instead)
    found = simulate(2, faults=("streams",)).breaches
    assert [breach.partition(" was ")[2] for breach in found] == ["not listened to until the end"] * 2


def test_pages_that_no_member_has_read_are_no_promise_kept(tmp_path: Path) -> None:
    config = load_config(make_directory(tmp_path / "data"))
    run = simulate(2, faults=())
    log = [Entry(item, item.seq) for item in run.recorded]
    found = broken_promises(log, config, Ledger(followed_until=len(log)), [])
    assert sum("was not shown exactly its events" in breach for breach in found) == 2
