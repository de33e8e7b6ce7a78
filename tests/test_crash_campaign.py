"""A slice of the crash campaign, and its judge: what it must notice."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from relay.codec import Recorded
from relay.events import LogStripped, PayloadErased, SendAccepted
from tests.campaigns import erasure
from tests.campaigns.crash import (
    DESCRIPTIONS,
    TROUBLES,
    Record,
    campaign,
    draw,
    fill_the_disk,
    kill_at_an_operation,
    report,
)
from tests.campaigns.erasure import Contents, read_contents
from tests.campaigns.life import Life, Violation, open_life


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
            check_what_streams_must_show(life, events)
            check_what_may_be_gone(contents)

    trio.run(main)


def check_what_streams_must_show(life: Life, events: list[Recorded]) -> None:
    subscriber = life.subscribers[0]
    seen = list(subscriber.seen)
    life._judge_streams(events, all_seen=True)
    for wrong, sentence in (
        (seen[:3] + seen[4:], "frame 4"),
        (seen[:4] + seen[3:], "frame 5"),
        (seen + seen[-1:], "which the log does not have"),
        (seen[:-1], "never showed"),
    ):
        subscriber.seen = wrong
        with pytest.raises(Violation, match=sentence):
            life._judge_streams(events, all_seen=True)
    life._judge_streams(events, all_seen=False)  # the last one may still be on its way


def check_what_may_be_gone(contents: Contents) -> None:
    """Of a log to which an erasure of its first send's first message is added, by hand."""
    last = contents.events[-1]
    send, first = next(
        (send, queued)
        for send, queued in pairwise(contents.events)
        if isinstance(send.event, SendAccepted) and send.event.recipients > 1
    )
    story = {item.seq for item in contents.events if getattr(item.event, "message_id", None) == first.seq}
    with_payload = contents.whole & {first.seq, *story}
    erased = PayloadErased(did="did:plc:x", because="operator", message_ids=[first.seq])
    stripped = LogStripped(until=last.seq + 1, segments=1, payloads=1, bytes_freed=1)
    admitted = [*contents.events, Recorded(last.seq + 1, last.time_us, erased)]
    answered = [*admitted, Recorded(last.seq + 2, last.time_us, stripped)]

    def found(events: list[Recorded], gone: set[int]) -> str:
        return "".join(erasure.breaches(Contents(events, contents.whole - gone, gone)))

    assert found(admitted, set()) == found(admitted, with_payload) == found(answered, with_payload) == ""
    assert "and they are there" in found(answered, with_payload - {first.seq})
    assert "no payload.erased admits" in found(contents.events, with_payload)
    # Its content is the other recipients' as well.
    assert "no payload.erased admits" in found(admitted, with_payload | {send.seq})


def test_the_summary_is_for_strangers() -> None:
    """After nothing has happened it still says so, and does not break."""
    assert "0  kills (-9) of the relay" in report(Record(1))
    assert all(DESCRIPTIONS.values())


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
