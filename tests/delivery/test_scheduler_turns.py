"""The scheduler: turns between members and between sites, shares, and rates."""

from collections.abc import Callable
from typing import Any

import pytest

from relay.delivery.scheduler import (
    Scheduler,
    SchedulerLimits,
    Start,
)
from relay.delivery.sites import (
    WINDOW_AT_FIRST,
    Feedback,
)
from relay.views.due import Lane
from tests.world.scheduling import OTHER_SITE, SITE, begin_all, lane, limits

# ------------------------------------------------------------------------------------------------ turns


def order_of(scheduler: Scheduler, count: int, name: Callable[[Lane], object]) -> list[object]:
    """What `count` messages are tried, each after the one before."""
    order = []
    for _ in range(count):
        start = scheduler.next_start(0)
        assert start is not None
        order.append(name(start.lane))
        scheduler.ended(scheduler.begin(start, 0), 0, Feedback.ANSWERED)
    return order


def test_members_take_turns_however_many_domains_they_write_to() -> None:
    scheduler = Scheduler(limits(per_site=1))
    alice, bob = lane("alice", "a.example"), lane("bob", "a.example")
    scheduler.add(SITE, alice)
    for domain in ("b.example", "c.example", "d.example"):
        scheduler.add(SITE, lane("alice", domain))
    scheduler.add(SITE, bob)
    order = order_of(scheduler, 8, lambda one: (one.member == bob.member, one.domain))
    assert [is_bob for is_bob, _ in order] == [False, True] * 4
    assert [domain for is_bob, domain in order if not is_bob] == [f"{letter}.example" for letter in "abcd"]


def test_transactional_mail_comes_before_bulk_mail() -> None:
    scheduler = Scheduler(limits(per_site=1))
    digest = lane("alice", category="bulk")
    scheduler.add(SITE, digest)
    assert order_of(scheduler, 2, lambda one: one.bulk) == [True, True]
    scheduler.add(SITE, lane("bob", category="password-reset"))
    assert order_of(scheduler, 2, lambda one: one.bulk) == [False, False]
    scheduler.drop(lane("bob", category="password-reset"))
    assert order_of(scheduler, 1, lambda one: one.bulk) == [True]


def test_bulk_mail_leaves_a_connection_to_transactional_mail() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane("alice", category="bulk"))
    assert len(begin_all(scheduler)) == WINDOW_AT_FIRST - 1
    scheduler.add(SITE, lane("bob"))
    ((_, start),) = begin_all(scheduler)
    assert start.lane == lane("bob")


def test_sites_take_turns() -> None:
    scheduler = Scheduler(limits())
    for number in range(5):
        scheduler.add(f"mx{number}.example", lane(domain=f"{number}.example"))
    sites = [start.site for _, start in begin_all(scheduler)]
    assert sites == [f"mx{number}.example" for _ in range(WINDOW_AT_FIRST) for number in range(5)]


def test_where_all_connections_are_taken_a_resting_one_is_given_up() -> None:
    scheduler = Scheduler(limits(connections_max=2))
    scheduler.add(SITE, lane())
    (first, _), (second, _) = begin_all(scheduler)
    scheduler.drop(lane())
    assert scheduler.ended(second, 1, Feedback.ANSWERED)
    assert scheduler.ended(first, 2, Feedback.ANSWERED)
    scheduler.add(OTHER_SITE, lane(domain="example.net"))
    assert scheduler.next_start(3) is None
    assert scheduler.to_close(3) == [second]  # the one that has rested longest
    assert scheduler.next_start(3) is None  # it counts until it is closed
    scheduler.closed(second)
    start = scheduler.next_start(3)
    assert start is not None
    assert start.site == OTHER_SITE


def test_a_site_that_waits_only_for_itself_keeps_its_connections() -> None:
    """It has work for more connections than there are. Nobody else waits: closing one to open it again helps nobody."""
    scheduler = Scheduler(limits(connections_max=2))
    scheduler.add(SITE, lane())
    begun = begin_all(scheduler)
    assert len(begun) == 2  # and would have more: its window is wider
    number, _ = begun[0]
    assert scheduler.ended(number, 0, Feedback.ANSWERED)
    ((again, start),) = begin_all(scheduler)
    assert (again, start.connection) == (number, number)


def test_sites_that_crowd_each_other_out_take_turns() -> None:
    scheduler = Scheduler(limits(connections_max=2))
    scheduler.add(SITE, lane())
    begun = begin_all(scheduler)
    scheduler.add(OTHER_SITE, lane(domain="example.net"))
    assert scheduler.next_start(0) is None
    sites = []
    for _ in range(10):
        number, _start = begun.pop(0)
        # It is not kept for the next message of its own site, as it would be if nobody else waited.
        assert not scheduler.ended(number, 0, Feedback.ANSWERED)
        scheduler.closed(number)
        ((number, start),) = begin_all(scheduler)
        begun.append((number, start))
        sites.append(start.site)
    assert sites == [SITE, OTHER_SITE] * 5


# ------------------------------------------------------------------------------------------------ members' shares


def test_a_member_has_no_more_connections_than_its_share() -> None:
    scheduler = Scheduler(limits(connections_max=100, per_member=12))
    for number in range(10):
        scheduler.add(f"mx.silent{number}.example", lane("mallory", f"silent{number}.example"))
    assert len(begin_all(scheduler)) == 12
    scheduler.add(SITE, lane("alice"))
    begun = begin_all(scheduler)
    assert [start.lane.member for _, start in begun] == [lane("alice").member] * WINDOW_AT_FIRST


def test_who_has_no_share_left_keeps_nobody_from_the_same_site() -> None:
    scheduler = Scheduler(limits(per_member=2))
    scheduler.add(SITE, lane("mallory"))
    assert len(begin_all(scheduler)) == 2
    scheduler.add(SITE, lane("bob", category="bulk"))
    assert order_of_members(begin_all(scheduler)) == ["bob"] * 2  # bulk leaves one
    scheduler.add(SITE, lane("alice"))
    assert order_of_members(begin_all(scheduler)) == ["alice"]


def test_what_waits_for_a_members_share_is_begun_when_it_is_free_again() -> None:
    """One site for each connection that is closed or rests, in turn."""
    scheduler = Scheduler(limits(per_member=2))
    names = [f"mx{number}.example" for number in range(6)]
    for name in names:
        scheduler.add(name, lane("mallory", name))
    begun, sites = [], []
    while True:
        while (start := scheduler.next_start(0)) is not None:
            begun.append(scheduler.begin(start, 0))
            sites.append(start.site)
            scheduler.drop(start.lane)
        if not begun:
            break
        assert len(begun) <= 2
        number = begun.pop(0)
        if not scheduler.ended(number, 0, Feedback.ANSWERED, usable=number % 2 == 0):
            assert scheduler.next_start(0) is None  # it is the member's until it is closed
            scheduler.closed(number)
    assert sites == names


def order_of_members(begun: list[tuple[int, Start]]) -> list[str]:
    names = {lane(name).member: name for name in ("alice", "bob", "mallory")}
    return [names[start.lane.member] for _, start in begun]


# ------------------------------------------------------------------------------------------------ rates


def test_a_sites_rate_is_kept_by_spacing() -> None:
    scheduler = Scheduler(limits(site_per_minute=60))
    scheduler.add(SITE, lane())
    begun = [now / 10 for now in range(100) if begin_all(scheduler, now / 10)]
    assert begun == [0, 1, 2, 3, 4]  # and then its window is full


def test_the_whole_relays_rate_is_shared() -> None:
    scheduler = Scheduler(limits(per_minute=60))
    scheduler.add(SITE, lane())
    scheduler.add(OTHER_SITE, lane(domain="example.net"))
    now, sites = 0.0, []
    for _ in range(6):
        ((number, start),) = begin_all(scheduler, now)
        sites.append(start.site)
        scheduler.ended(number, now, Feedback.ANSWERED)
        assert scheduler.next_start(now) is None
        wake_at = scheduler.wake_at()
        assert wake_at == now + 1
        now = wake_at
    assert sites == [SITE, OTHER_SITE] * 3


# ------------------------------------------------------------------------------------------------ many sites


@pytest.mark.parametrize("limit", ["connections", "share", "rate"])
def test_what_thousands_of_sites_wait_for_is_not_offered_to_all_of_them_each_time(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message costs the same work however many sites wait: otherwise 10,000 of them cost minutes, not a moment."""
    looked_at: list[object] = []
    start_at = Scheduler._start_at

    def counted(self: Scheduler, site: Any, now: float) -> Start | None:
        looked_at.append(site)
        return start_at(self, site, now)

    monkeypatch.setattr(Scheduler, "_start_at", counted)
    scheduler = Scheduler(
        limits(
            connections_max=20 if limit == "share" else 10,
            per_member=10 if limit == "share" else 100,
            per_minute=600 if limit == "rate" else None,
        )
    )
    names = [f"mx{number}.example" for number in range(500)]
    for name in names:
        scheduler.add(name, lane(domain=name))
    now, tried, open_now = 0.0, list[str](), list[int]()
    while len(tried) < len(names):
        while (start := scheduler.next_start(now)) is not None:
            open_now.append(scheduler.begin(start, now))
            tried.append(start.site)
            scheduler.drop(start.lane)
        number = open_now.pop(0)
        assert not scheduler.ended(number, now, Feedback.ANSWERED, usable=False)
        scheduler.closed(number)
        now = scheduler.wake_at() or now
    assert tried == names  # each in its turn
    assert len(looked_at) < 6 * len(names)


def test_a_full_site_costs_the_same_work_however_many_members_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []
    has_share = Scheduler._has_share

    def counted(self: Scheduler, member: bytes) -> bool:
        asked.append(member)
        return has_share(self, member)

    monkeypatch.setattr(Scheduler, "_has_share", counted)
    scheduler = Scheduler(limits(messages=1_000_000))
    members = [f"member{number}" for number in range(500)]
    for member in members:
        scheduler.add(SITE, lane(member))
        scheduler.add(SITE, lane(member, category="bulk"))
    begun = begin_all(scheduler)
    for _ in range(200):
        number, _start = begun.pop(0)
        assert scheduler.ended(number, 0, Feedback.ANSWERED)
        begun += begin_all(scheduler)
        assert scheduler._members_waiting == {}
    assert len(asked) < 5 * 200


# ------------------------------------------------------------------------------------------------ limits that change


def test_a_narrower_limit_holds_for_what_is_begun_and_for_what_rests() -> None:
    scheduler = Scheduler(limits(per_site=5))
    for number in range(8):
        scheduler.add(SITE, lane(f"member {number}"))
    begun = begin_all(scheduler)
    assert len(begun) == 5
    scheduler.change_limits(limits(per_site=2))
    kept = [number for number, _ in begun if scheduler.ended(number, 1, Feedback.ANSWERED)]
    assert kept == []  # there are more than two until three are closed
    for number, _ in begun[:3]:
        scheduler.closed(number)
    assert scheduler.next_start(1) is None
    scheduler.closed(begun[3][0])
    assert len(begin_all(scheduler, 1)) == 1


def test_a_wider_limit_is_used_at_once_by_those_that_wait() -> None:
    scheduler = Scheduler(limits(connections_max=1))
    scheduler.add(SITE, lane())
    scheduler.add(OTHER_SITE, lane(domain="other.example"))
    assert len(begin_all(scheduler)) == 1
    scheduler.change_limits(limits(connections_max=2))
    assert len(begin_all(scheduler)) == 1


def test_a_wider_share_of_a_member_is_used_at_once() -> None:
    scheduler = Scheduler(limits(per_member=1))
    scheduler.add(SITE, lane())
    scheduler.add(OTHER_SITE, lane(domain="other.example"))
    assert len(begin_all(scheduler)) == 1
    scheduler.change_limits(limits(per_member=2))
    assert len(begin_all(scheduler)) == 1


@pytest.mark.parametrize("of", ["per_minute", "site_per_minute"])
def test_a_rate_that_changes_spaces_from_the_last_start(of: str) -> None:
    def at(per_minute: int | None) -> SchedulerLimits:
        return limits(per_minute=per_minute) if of == "per_minute" else limits(site_per_minute=per_minute)

    scheduler = Scheduler(at(1))
    scheduler.add(SITE, lane())
    scheduler.add(SITE, lane("bob"))
    assert len(begin_all(scheduler, 0)) == 1
    assert scheduler.next_start(1) is None
    scheduler.change_limits(at(30))
    assert scheduler.next_start(1) is None
    assert scheduler.wake_at() == 2
    assert len(begin_all(scheduler, 2)) == 1
    scheduler.change_limits(at(None))
    scheduler.add(SITE, lane("carol"))
    assert len(begin_all(scheduler, 2)) == 3


def test_fewer_connections_of_all_are_reached_although_none_of_them_is_in_anothers_way() -> None:
    scheduler = Scheduler(limits(connections_max=5))
    for number in range(5):
        scheduler.add(f"{number}.example", lane(domain=f"{number}.example"))
    begun = begin_all(scheduler)
    for _, start in begun:
        scheduler.drop(start.lane)
    scheduler.change_limits(limits(connections_max=3))
    kept = []
    for number, _ in begun:
        if scheduler.ended(number, 1, Feedback.ANSWERED):
            kept.append(number)
        else:
            scheduler.closed(number)
    assert len(kept) == 3
