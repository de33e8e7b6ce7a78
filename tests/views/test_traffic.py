"""What is counted of mail, by hour and day, compared with a recount that reads the whole history for every question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from relay.events import (
    Event,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageQueued,
    MessageSent,
    Outcome,
    PayloadErased,
    RecipientSuppressed,
    RemoteSide,
)
from relay.times import DAY_US, HOUR_US
from relay.views import receivers, traffic
from relay.views.counting import BUCKET_SECONDS, Traffic, bucket_of
from relay.views.traffic import Period
from spool.views import Snapshot
from tests.world.drafts import DIDS
from tests.world.folding import STORY, queued_of, status_of
from tests.world.histories import histories, repeatable
from tests.world.history_views import SECOND_US, START_US, History, fold

#: Between two events: some forty of them are three days.
STEP_US = 1_700 * SECOND_US


def at(seq: int) -> int:
    return START_US + seq * STEP_US


class Recount:
    """All of it by hour; a day is the sum of its hours."""

    def __init__(self, history: History, erased: frozenset[int] = frozenset()) -> None:
        self.traffic: defaultdict[Any, Traffic] = defaultdict(Traffic)
        self.receivers: defaultdict[Any, Traffic] = defaultdict(Traffic)
        self.history, self.erased = history, erased
        for message_id, queued in queued_of(history).items():
            if isinstance(queued, MessageQueued):
                self.count(message_id, queued)

    def own(self, message_id: int) -> Iterator[tuple[int, Any]]:
        for seq, event in enumerate(self.history, 1):
            if getattr(event, "message_id", None) == message_id:
                yield seq, event

    def count(self, message_id: int, queued: MessageQueued) -> None:
        assert queued.personal is not None
        site = queued.personal.address.rpartition("@")[2]
        known, mx, accepted = None, None, False
        complained = reported = False
        begun = max(at(message_id), queued.next_attempt_at if queued.scheduled else 0)
        for seq, event in self.own(message_id):
            more = Traffic()
            match event:
                case MessageBounced(reason="cancelled"):
                    continue
                case Outcome():
                    if event.provider and known is None and not accepted:
                        more.accepted, accepted = 1, True
                    known = event.provider or known
                    if not isinstance(event, MessageDeferred) and not accepted:
                        more.accepted, accepted = 1, True
                    if isinstance(event, MessageSent):
                        more.sent, more.tls = 1, int(event.tls_version is not None)
                        more.waits = {str(bucket_of(at(seq) - begun)): 1}
                    elif isinstance(event, MessageBounced):
                        more.bounced = {event.bounce_class or "unknown": 1}
                    else:
                        more.deferred = {event.bounce_class or "unknown": 1}
                    mx = (event.personal.mx or "") if event.personal else mx
                case MessageBounceReported(is_failure=True) if event.counts and not reported:
                    reported = True
                    more.reported = {event.bounce_class: 1}
                case MessageComplained(authenticated=True) if not complained:
                    complained = True
                    more.complaints = 1
                case RecipientSuppressed(reason="unsubscribe"):
                    more.unsubscribes = 1
                case _:
                    continue
            if (
                isinstance(event, MessageBounceReported)
                and status_of(self.history[: seq - 1], message_id) == "bounced"
            ):
                continue
            hour = at(seq) // HOUR_US
            self.traffic[hour, queued.did, queued.domain, known or "unknown"].add(more)
            if (
                mx is not None
                and message_id not in self.erased
                and (not isinstance(event, Outcome) or event.personal is not None)
            ):
                more.accepted = 0
                self.receivers[hour, mx, site].add(more)


def in_table(rows: Any, view: Snapshot, history: History, is_hour: bool) -> dict[Any, Traffic]:
    unit = HOUR_US if is_hour else DAY_US
    return {
        (number, *msgspec.to_builtins(row)[:-1]): row.traffic
        for number in range(at(0) // unit, at(len(history)) // unit + 1)
        for _, row in rows(view, Period(is_hour, number))
    }


def by_day(hours: dict[Any, Traffic]) -> dict[Any, Traffic]:
    days: defaultdict[Any, Traffic] = defaultdict(Traffic)
    for (hour, *rest), counted in hours.items():
        days[(hour // 24, *rest)].add(counted)
    return dict(days)


@repeatable
@given(histories(), st.sets(st.integers(0, 60)))
def test_every_outcome_is_in_its_hour_and_in_its_day(history: History, erased: set[int]) -> None:
    over = [
        message_id
        for message_id in queued_of(history)
        if status_of(history, message_id) in ("sent", "bounced") and message_id in erased
    ]
    orders: list[Event] = [
        PayloadErased(did=did, because="retention", message_ids=ids)
        for did in DIDS
        for ids in [[message_id for message_id in over if queued_of(history)[message_id].did == did]]
        if ids
    ]
    recount = Recount(history, frozenset(over))
    with fold([*history, *orders], step_us=STEP_US) as view:
        for rows, counted in ((traffic.rows_of, recount.traffic), (receivers.rows_of, recount.receivers)):
            assert in_table(rows, view, history, True) == dict(counted)
            assert in_table(rows, view, history, False) == by_day(counted)


def test_a_host_finds_what_was_tried_there_until_that_is_erased() -> None:
    told = RemoteSide(mx="MX1.example.com")
    history: History = [
        *STORY[:4],
        MessageDeferred(did=DIDS[0], message_id=4, attempt=1, next_attempt_at=START_US, personal=told),
        MessageSent(did=DIDS[0], message_id=4, attempt=2, personal=RemoteSide(mx="mx2.example.com")),
    ]
    hosts = ("mx1.example.com", "mx2.example.com", "mx")
    with fold(history) as view:
        assert [list(receivers.tried_at(view, host)) for host in hosts] == [[4], [4], []]
        assert list(receivers.tried_at(view, hosts[0], before=4)) == []
    with fold([*history, PayloadErased(did=DIDS[0], because="retention", message_ids=[4])]) as view:
        assert not any(view.count(table) for table in receivers.TABLES)


def test_hours_go_when_they_can_be_asked_for_no_more() -> None:
    """Some old rows for each new one, so that the table does not grow; days stay."""
    sent = [
        event
        for number in range(40)
        for event in (
            *STORY[2:4],
            MessageSent(did=DIDS[0], message_id=4 + 3 * number, attempt=1, provider="google"),
        )
    ]
    with fold([*STORY[:2], *sent], step_us=DAY_US // 3) as view:
        days = view.count("traffic_days")
        hours = view.count("traffic_hours")
    assert (days, hours) == (40, 4)


def test_a_time_is_made_of_days_and_at_its_ends_of_hours() -> None:
    now = 20_000 * DAY_US + 5 * HOUR_US + 1
    day, hour = (lambda number: Period(False, number)), (lambda number: Period(True, number))
    hours_of = lambda number, first, end: [hour(number * 24 + each) for each in range(first, end)]  # noqa: E731
    # From three hours ago: the rest of today has nothing in it yet.
    assert traffic.periods(now - 3 * HOUR_US, now, now) == hours_of(20_000, 2, 24)
    assert traffic.periods(20_000 * DAY_US, now, now) == [day(20_000)]
    assert traffic.periods(now - 2 * DAY_US, now, now) == [
        *hours_of(19_998, 5, 24),
        day(19_999),
        day(20_000),
    ]
    assert traffic.periods(now - 2 * DAY_US, now - DAY_US, now) == [
        *hours_of(19_998, 5, 24),
        *hours_of(19_999, 0, 6),
    ]
    # Longer ago than hours are kept.
    assert traffic.periods(now - 30 * DAY_US, now - 29 * DAY_US, now) == [day(19_970), day(19_971)]


def test_medians_are_told_to_within_a_bucket() -> None:
    told = Traffic()
    assert told.median_seconds() is None
    for seconds in (0.05, 2.5, 2.6, 2.7, 900_000):
        told.waits[str(bucket_of(int(seconds * SECOND_US)))] = 1 + told.waits.get(
            str(bucket_of(int(seconds * SECOND_US))), 0
        )
    assert 2 < (told.median_seconds() or 0) <= 3
    last = Traffic(waits={str(len(BUCKET_SECONDS)): 1})
    assert last.median_seconds() == BUCKET_SECONDS[-1]
