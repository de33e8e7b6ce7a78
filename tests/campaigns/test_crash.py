"""A slice of the crash campaign, and its judge: what it must notice."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from relay.codec import Recorded
from relay.events import (
    Event,
    LogStripped,
    PayloadErased,
    RecipientSuppressed,
    SendAccepted,
    SuppressedRecipient,
)
from tests.campaigns import crash_troubles
from tests.campaigns.crash import (
    DESCRIPTIONS,
    TROUBLES,
    Record,
    campaign,
    can_mount,
    deck_of,
    draw,
    fill_the_disk,
    report,
)
from tests.campaigns.life import Life, open_life
from tests.campaigns.served import IN_A_CHANGE
from tests.campaigns.tally import Violation
from tests.world.checker import half_accepted
from tests.world.internet import Internet
from tests.world.payloads import Payloads, without_payload
from tests.world.sabotage import file_of_failure


# Real processes, killed under load and started again, once for each trouble.
@pytest.mark.timeout(900)
def test_a_round_of_each_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter ones than in a campaign."""
    monkeypatch.setattr(crash_troubles, "ANSWERS_MAX", 12)
    deck = deck_of(may_mount=False, each=True)
    record = Record(1)
    trio.run(lambda: campaign(tmp_path, record, rounds=len(deck), deck=deck))
    assert record.rounds == dict.fromkeys(deck, 1)
    assert record.rounds_with_kill >= 4
    assert record.total.kills[IN_A_CHANGE] >= 1
    assert record.total.events["message.sent"] > 0
    assert record.total.frames > 0


def test_a_round_on_a_full_disk(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("only root can mount a small disk")
    record = Record(1)
    trio.run(lambda: fill_the_disk(tmp_path / "small", record, 1))
    assert record.total.refusals["QUEUE_FULL"] > 0


def test_every_trouble_comes_up() -> None:
    """Within as many rounds as the deck has cards, and so in any campaign of 50."""
    deck = deck_of(may_mount=True)
    cards = draw(random.Random(1), deck)
    first = [next(cards) for _ in deck]
    assert set(first) == {trouble.__name__ for trouble in (*TROUBLES, fill_the_disk)}
    assert len(first) == sum(TROUBLES.values()) + 1 <= 50
    assert sorted(deck_of(may_mount=True, each=True)) == sorted(set(first))


def test_a_campaign_of_no_rounds_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.crash", "--rounds", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "argument --rounds: 0: a campaign of no rounds proves nothing" in done.stderr


def test_what_the_judge_must_notice(tmp_path: Path) -> None:
    """Of a log that is as it should be, and then of what a client might have been told instead."""

    async def main() -> None:
        async with open_life(tmp_path / "data", 2) as life:
            async with life.load():
                await life.wait_answers(5)
            await life.settle()
            events = life.erasures.read().events
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
            check_what_is_half_accepted(events)
            check_what_streams_must_show(life, events)
            check_what_may_be_gone(events)

    trio.run(main)


def check_what_is_half_accepted(events: list[Recorded]) -> None:
    first = next(number for number, item in enumerate(events) if isinstance(item.event, SendAccepted))
    assert half_accepted(events) == []
    assert "that is not before it" in half_accepted(events[:first] + events[first + 1 :])[0]
    (sentence, *_) = half_accepted(events[: first + 1] + events[first + 2 :])
    assert "recipient 1" in sentence or "recipient 2 is queued" in sentence
    assert "is not there" in half_accepted(events[: first + 1])[0]


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


def check_what_may_be_gone(events: list[Recorded]) -> None:
    """Of a log to which an erasure of its first send's first message is added, by hand."""
    send, first = next(
        (send, queued)
        for send, queued in pairwise(events)
        if isinstance(send.event, SendAccepted) and send.event.recipients > 1
    )
    story = {first.seq} | {
        item.seq for item in events if getattr(item.event, "message_id", None) == first.seq
    }
    last, did = events[-1], "did:plc:x"

    def after(count: int, event: Event) -> Recorded:
        return Recorded(last.seq + count, last.time_us, event)

    in_force = after(
        1,
        RecipientSuppressed(
            did=did,
            reason="manual",
            message_id=first.seq,
            personal=SuppressedRecipient(address="a@b.example"),
        ),
    )
    before = [*events, in_force]
    admitted = [*before, after(2, PayloadErased(did=did, because="operator", message_ids=[first.seq]))]
    answered = [*admitted, after(3, LogStripped(until=last.seq + 2, segments=1, payloads=1, bytes_freed=1))]

    def found(log: list[Recorded], gone: set[int], *, late: bool = False) -> str:
        held = [without_payload(item) if item.seq in gone else item for item in log]
        payloads = Payloads()
        payloads.see(held if late else log, late=gone if late else ())
        payloads.compare(held)
        return "".join(payloads.found)

    for late in (False, True):
        assert found(admitted, set(), late=late) == found(admitted, story, late=late) == ""
        assert found(answered, story, late=late) == ""
        assert "no payload.erased admits" in found(before, story, late=late)
        # Its content is the other recipients' as well, and who is suppressed stays suppressed.
        for other in (send, in_force):
            assert "no payload.erased admits" in found(answered, story | {other.seq}, late=late)
        assert "log.stripped says that it is not" in found(answered, story - {first.seq}, late=late)


def test_what_a_sync_that_failed_must_be_followed_by(tmp_path: Path) -> None:
    """Nothing. A send that was begun before it may still have been answered, one that was begun after it may not."""
    life = Life(tmp_path / "data", Internet(), 1)
    failed = file_of_failure(life.faults / "sync")
    failed.write_text("100.5")
    life._accepted_begun = 100.4
    life.judge_silence("sync")
    failed.write_text("100.5")
    life._accepted_begun = 100.6
    with pytest.raises(Violation, match=r"began 0\.100 s after a sync had failed"):
        life.judge_silence("sync")


def test_the_summary_is_for_strangers() -> None:
    """After nothing has happened it still says so, and does not break."""
    assert "0  rounds in which the relay was killed" in report(Record(1))
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
