"""What waits, in memory, against what is due in the view: never late, and no more of it in memory than is due soon."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.codec import Recorded
from relay.delivery import waiting as waiting_module
from relay.delivery.waiting import LOOK_AHEAD_US, Waiting
from relay.events import Event, MessageDeferred, MessageQueued, MessageSent, Recipient
from relay.views import due
from relay.views.due import Lane
from spool.views import Views
from tests.world.history_views import opened, records_of

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
SECOND_US = 1_000_000


def queued(domain: str, at: int) -> MessageQueued:
    return MessageQueued(
        did=DID,
        domain="member.example",
        category="bulk",
        index=1,
        next_attempt_at=at,
        give_up_at=1 << 60,
        personal=Recipient(given=f"a@{domain}", address=f"a@{domain}"),
    )


def lane(domain: str) -> Lane:
    return due.lane_of(did=DID, category="bulk", address=f"a@{domain}")


class Queue:
    """A view, and what is told of it."""

    def __init__(self, views: Views[Recorded]) -> None:
        self.views = views
        self.waiting = Waiting()
        self.events: list[Event] = []

    def append(self, events: Sequence[Event]) -> None:
        """Without a word to `waiting`."""
        first = len(self.events)
        self.events += events
        self.views.apply(records_of(self.events)[first:])

    def take(self, now: int) -> list[Lane]:
        """As the deliverer's loop does: until it would sleep."""
        taken = []
        while (at := self.waiting.next_at()) is not None and at <= now:
            if self.waiting.is_to_look(now):
                with self.views.read() as view:
                    self.waiting.look(view, now)
            taken += self.waiting.take(now)
        return taken


@contextmanager
def queue(directory: Path) -> Iterator[Queue]:
    with opened(directory) as views:
        yield Queue(views)


def test_what_is_due_later_is_found_in_time_and_held_no_earlier(tmp_path: Path) -> None:
    hour = 3600 * SECOND_US
    with queue(tmp_path) as q:
        q.append([queued("now.example", 5), *(queued(f"later{n}.example", hour + n) for n in range(100))])
        assert q.take(10) == [lane("now.example")]
        assert len(q.waiting) == 0
        assert q.waiting.next_at() == hour
        assert q.take(hour - 1) == []
        assert q.take(hour) == [lane("later0.example")]
        assert q.take(hour + 50) == [lane(f"later{n}.example") for n in range(1, 51)]


def test_what_is_told_is_known_at_once_however_far_away(tmp_path: Path) -> None:
    with queue(tmp_path) as q:
        assert q.take(1) == []
        assert q.waiting.next_at() is None
        far = 10 * LOOK_AHEAD_US
        q.append([queued("far.example", far), queued("near.example", 7)])
        q.waiting.add(lane("far.example"), far)
        assert q.waiting.next_at() == far
        q.waiting.add(lane("near.example"), 7)
        assert q.waiting.next_at() == 7
        assert q.take(7) == [lane("near.example")]
        assert q.take(far) == [lane("far.example")]


def test_more_than_is_read_in_one_go_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "LOOK_ROWS_MAX", 3)
    with queue(tmp_path) as q:
        q.append([queued(f"r{n}.example", 5) for n in range(10)])
        assert sorted(q.take(5)) == sorted(lane(f"r{n}.example") for n in range(10))


@pytest.mark.parametrize("seed", range(8))
def test_never_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Random histories: whenever the loop would sleep, nothing in the view is due that has not been taken."""
    monkeypatch.setattr(waiting_module, "LOOK_ROWS_MAX", 5)
    dice = random.Random(seed)
    now = 1000 * SECOND_US
    with queue(tmp_path) as q:
        for _ in range(60):
            told = dice.random() < 0.8
            events, domains = [], []
            for _ in range(dice.randrange(4)):
                domains.append(f"r{dice.randrange(12)}.example")
                events.append(queued(domains[-1], now + dice.randrange(4 * LOOK_AHEAD_US)))
            if events:
                q.append(events)
                for domain, event in zip(domains, events, strict=True):
                    if told:
                        q.waiting.add(lane(domain), event.next_attempt_at)
            if not told:  # as where a domain is resumed
                q.waiting.forget_what_is_known()
            now += dice.randrange(2 * LOOK_AHEAD_US)
            taken = set(q.take(now))
            with q.views.read() as view:
                rows = list(due.due_from(view, 0, 0))
            overdue = {found for at, _, found in rows if at <= now}
            assert overdue <= taken
            # Of the lanes that were taken, whoever took them tells when they are due again.
            later = [at for at, _, found in rows if at > now and found not in taken]
            if later:
                next_at = q.waiting.next_at()
                assert next_at is not None
                assert next_at <= min(later)
            assert len(q.waiting) <= len({found for at, _, found in rows if at <= now + LOOK_AHEAD_US})
            for at, message_id, found in rows:
                if at > now:
                    if found in taken:  # the deliverer finds it, and tells when it is due
                        q.waiting.add(found, at)
                elif dice.random() < 0.5:
                    q.append([MessageSent(did=DID, message_id=message_id, attempt=1)])
                else:
                    later_at = now + dice.randrange(1, 3 * LOOK_AHEAD_US)
                    q.append(
                        [MessageDeferred(did=DID, message_id=message_id, attempt=1, next_attempt_at=later_at)]
                    )
                    q.waiting.add(found, later_at)
