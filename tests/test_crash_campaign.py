"""A slice of the crash campaign, and its judge: what it must notice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from relay.codec import Recorded
from relay.events import SendAccepted
from tests.campaigns.crash import TROUBLES, Record, campaign, draw, fill_the_disk, kill_at_an_operation
from tests.campaigns.erasure import read_contents
from tests.campaigns.life import Violation, open_life


def test_a_slice_of_the_campaign(tmp_path: Path) -> None:
    record = Record(1)
    trio.run(lambda: campaign(tmp_path, record, rounds=2, only=kill_at_an_operation.__name__))
    assert record.rounds == {"kill_at_an_operation": 2}
    assert record.total.kills >= 2
    assert record.total.events["message.sent"] > 0
    assert record.total.frames > 0


def test_every_trouble_comes_up() -> None:
    """Within as many rounds as the deck has cards, and so in any campaign of 50."""
    cards = draw(random.Random(1), None, may_mount=True)
    first = [next(cards) for _ in range(sum(TROUBLES.values()) + 1)]
    assert set(first) == {trouble.__name__ for trouble in (*TROUBLES, fill_the_disk)}
    assert len(first) <= 50


def test_what_the_judge_must_notice(tmp_path: Path) -> None:
    """Of a log that is as it should be, and then of what a client might have been told instead."""

    async def main() -> None:
        async with open_life(tmp_path / "data", 2) as life:
            async with life.load():
                await life.wait_answers(5)
            await life.settle()
            contents = read_contents(life.directory)
            events = contents.events
            life._judge_events(events, life.told)
            with pytest.raises(Violation, match="does not have them"):
                life._judge_events(events, {**life.told, 99_999: ("did:plc:x", "lost@plain.example")})
            doubled = repeat_the_first_send(events)
            with pytest.raises(Violation, match="more than once with one Idempotency-Key"):
                life._judge_events(doubled, life.told)
            with pytest.raises(Violation, match="a gap"):
                life._judge_events(events[1:], life.told)
            life._sends[0].refused = True
            with pytest.raises(Violation, match="refused, and accepted all the same"):
                life._judge_events(events, life.told)

    trio.run(main)


def repeat_the_first_send(events: list[Recorded]) -> list[Recorded]:
    """The log of a relay that took one send twice."""
    (first, *_) = (number for number, item in enumerate(events) if isinstance(item.event, SendAccepted))
    count = events[first].event.recipients  # type: ignore[attr-defined]
    last = events[-1]
    again = [item.event for item in events[first : first + count + 1]]
    return [
        *events,
        *(Recorded(last.seq + number, last.time_us, event) for number, event in enumerate(again, 1)),
    ]
