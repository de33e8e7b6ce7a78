"""The scheduler alone: its rules one by one, then all of them under any course of events."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.delivery.replies import Failure, FailureKind
from relay.delivery.scheduler import (
    MEMORY_SECONDS,
    Scheduler,
    SchedulerLimits,
    SiteState,
    Start,
)
from relay.delivery.sites import (
    DOWN_SECONDS,
    DOWN_SECONDS_MAX,
    WINDOW_AT_FIRST,
    Feedback,
    SiteLimits,
)
from relay.views.due import Lane, lane_of

SITE, OTHER_SITE = "mx.example", "mx.example.net"


def lane(member: str = "alice", domain: str = "example.com", *, category: str = "login-link") -> Lane:
    return lane_of(did=member, category=category, address=f"friend@{domain}")


def limits(
    *,
    connections_max: int = 100,
    per_site: int = 20,
    per_member: int = 100,
    per_minute: int | None = None,
    site_per_minute: int | None = None,
    messages: int = 100,
    seconds: float = 300,
    idle: float = 5,
) -> SchedulerLimits:
    return SchedulerLimits(
        connections_max=connections_max,
        member_connections_max=per_member,
        messages_per_minute_max=per_minute,
        messages_per_connection_max=messages,
        connection_seconds_max=seconds,
        idle_seconds_max=idle,
        of_site=lambda name: SiteLimits(per_site, site_per_minute),
    )


def begin_all(scheduler: Scheduler, now: float = 0) -> list[tuple[int, Start]]:
    """Start whatever is to be started, as if every lane had no end of messages."""
    begun = []
    while (start := scheduler.next_start(now)) is not None:
        begun.append((scheduler.begin(start, now), start))
        assert len(begun) < 10_000
    return begun


def state_of(scheduler: Scheduler, site: str = SITE) -> SiteState:
    (state,) = [state for state in scheduler.states() if state.name == site]
    return state


def fail(scheduler: Scheduler, number: int, now: float, because: str = "no connection") -> None:
    scheduler.ended(number, now, Feedback.DOWN, because)
    scheduler.closed(number)


# ------------------------------------------------------------------------------------------------ windows


def test_a_new_site_gets_a_few_connections() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    assert len(begin_all(scheduler)) == WINDOW_AT_FIRST
    assert scheduler.next_start(0) is None


def test_good_answers_widen_the_window_to_its_limit() -> None:
    scheduler = Scheduler(limits(per_site=8, messages=1_000_000))
    scheduler.add(SITE, lane())
    begun = begin_all(scheduler)
    widths = []
    for _ in range(100):
        number, _start = begun.pop(0)
        assert scheduler.ended(number, 0, Feedback.ANSWERED)
        begun += begin_all(scheduler)
        widths.append(len(begun))
    assert widths == sorted(widths)
    assert widths[-1] == 8
    # One over the window each: from 5 to 6 it takes about five.
    assert 4 <= widths.index(6) <= 6


def test_throttling_narrows_the_window_and_never_to_nothing() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    begun = begin_all(scheduler)
    for _ in range(100):
        number, _ = begun.pop(0)
        if not scheduler.ended(number, 0, Feedback.THROTTLED):
            scheduler.closed(number)
        begun += begin_all(scheduler)
    assert len(begun) == 1
    assert state_of(scheduler).window == 1


def test_connections_that_a_narrower_window_has_no_room_for_do_not_rest() -> None:
    """Else a site that asks for less of us keeps all that it had, as long as there is mail."""
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    begun = [number for number, _ in begin_all(scheduler)]
    assert len(begun) == WINDOW_AT_FIRST
    # Two are told "not so many": the window is 4.6 wide, then 4.3, then 4.0.
    closed = []
    for number in begun[:2]:
        if not scheduler.ended(number, 0, Feedback.THROTTLED):
            scheduler.closed(number)
            closed.append(number)
    window = state_of(scheduler).window
    assert int(window) == WINDOW_AT_FIRST - 1
    # One is too many, and only one; whoever ends first goes.
    assert closed == begun[:1]
    assert state_of(scheduler).connections == WINDOW_AT_FIRST - 1


def test_a_site_that_goes_down_keeps_no_connection_that_ends_well_by_chance() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    *failing, last = [number for number, _ in begin_all(scheduler)]
    for number in failing:
        fail(scheduler, number, 0)
    assert scheduler.ended(last, 0, Feedback.THROTTLED)  # it is alone: the window is never below 1
    assert state_of(scheduler).resting == 1


def test_domains_at_one_provider_share_its_window() -> None:
    scheduler = Scheduler(limits())
    for number in range(20):
        scheduler.add(SITE, lane(domain=f"customer{number}.example"))
    begun = begin_all(scheduler)
    assert len(begun) == WINDOW_AT_FIRST
    assert len({start.lane.domain for _, start in begun}) == WINDOW_AT_FIRST


# ------------------------------------------------------------------------------------------------ down


def test_a_site_where_nobody_is_at_home_goes_down_and_its_mail_is_put_off() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    scheduler.add(OTHER_SITE, lane(domain="example.net"))
    begun = begin_all(scheduler)
    assert len(begun) == 2 * WINDOW_AT_FIRST
    for number, start in begun:
        if start.site == SITE:
            fail(scheduler, number, 0, "connection refused")
    down = scheduler.next_start(0)
    assert down is not None
    assert down.instead == Failure(
        FailureKind.SITE_DOWN, "not tried, because it failed just now: connection refused"
    )
    # One after the other, so that it costs the others nothing.
    number = scheduler.begin(down, 0)
    assert scheduler.next_start(0) is None
    assert not scheduler.ended(number, 0, Feedback.NOTHING)
    scheduler.closed(number)
    assert scheduler.next_start(0) == down
    assert state_of(scheduler, OTHER_SITE).down_until is None


def test_one_probe_goes_ahead_and_each_that_fails_doubles_the_time() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    for number, _ in begin_all(scheduler):
        fail(scheduler, number, 0)
    now = 0.0
    pauses = []
    for _ in range(6):
        until = state_of(scheduler).down_until
        assert until is not None
        pauses.append(until - now)
        now = until
        ((probe, start),) = begin_all(scheduler, now)
        assert start.instead is None
        fail(scheduler, probe, now)
    assert pauses == [DOWN_SECONDS, 120, 240, DOWN_SECONDS_MAX, DOWN_SECONDS_MAX, DOWN_SECONDS_MAX]


def test_a_probe_that_succeeds_opens_the_site_step_by_step() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    for number, _ in begin_all(scheduler):
        fail(scheduler, number, 0)
    ((probe, _),) = begin_all(scheduler, DOWN_SECONDS)
    assert scheduler.ended(probe, DOWN_SECONDS, Feedback.ANSWERED)
    assert state_of(scheduler).down_until is None
    assert len(begin_all(scheduler, DOWN_SECONDS)) == 2


def test_a_site_that_is_forgiven_is_probed_at_once() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    for number, _ in begin_all(scheduler):
        fail(scheduler, number, 0)
    scheduler.forgive(SITE)
    ((_, start),) = begin_all(scheduler)  # one probe, not a crowd
    assert start.instead is None
    scheduler.forgive("mx.nobody.example")


def test_single_failures_between_good_answers_take_nothing_down() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    for _ in range(50):
        for feedback in (Feedback.DOWN, Feedback.ANSWERED):
            start = scheduler.next_start(0)
            assert start is not None
            assert start.instead is None
            number = scheduler.begin(start, 0)
            scheduler.ended(number, 0, feedback, usable=False)
            scheduler.closed(number)


def test_mail_to_nowhere_is_ended_without_a_connection() -> None:
    scheduler = Scheduler(limits())
    nowhere = Failure(FailureKind.NO_SUCH_DOMAIN, "no such domain")
    scheduler.add("unroutable example.com", lane(), unroutable=nowhere)
    start = scheduler.next_start(0)
    assert start is not None
    assert (start.instead, start.connection) == (nowhere, None)
    number = scheduler.begin(start, 0)
    assert not scheduler.ended(number, 0, Feedback.NOTHING)
    scheduler.closed(number)
    scheduler.add("unroutable example.com", lane())  # the domain is back
    start = scheduler.next_start(0)
    assert start is not None
    assert start.instead is None


def test_trouble_is_forgotten_after_a_while() -> None:
    scheduler = Scheduler(limits())
    scheduler.add(SITE, lane())
    start = scheduler.next_start(0)
    assert start is not None
    fail(scheduler, scheduler.begin(start, 0), 10)
    scheduler.drop(lane())
    scheduler.to_close(MEMORY_SECONDS)
    assert [state.name for state in scheduler.states()] == [SITE]
    scheduler.to_close(2 * MEMORY_SECONDS)
    assert scheduler.states() == []


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


# ------------------------------------------------------------------------------------------------ connections


def test_a_connection_is_used_again_and_again_up_to_a_count() -> None:
    scheduler = Scheduler(limits(per_site=1, messages=3))
    scheduler.add(SITE, lane())
    start = scheduler.next_start(0)
    assert start is not None
    number = scheduler.begin(start, 0)
    for _ in range(2):
        assert scheduler.ended(number, 0, Feedback.ANSWERED)
        start = scheduler.next_start(0)
        assert start is not None
        assert start.connection == number
        assert scheduler.begin(start, 0) == number
    assert not scheduler.ended(number, 0, Feedback.ANSWERED)


def test_a_connection_grows_only_so_old() -> None:
    scheduler = Scheduler(limits(per_site=1, seconds=300))
    scheduler.add(SITE, lane())
    start = scheduler.next_start(0)
    assert start is not None
    number = scheduler.begin(start, 0)
    assert scheduler.ended(number, 299, Feedback.ANSWERED)
    start = scheduler.next_start(299)
    assert start is not None
    scheduler.begin(start, 299)
    assert not scheduler.ended(number, 300, Feedback.ANSWERED)


def test_a_connection_rests_only_so_long() -> None:
    scheduler = Scheduler(limits(idle=5))
    scheduler.add(SITE, lane())
    start = scheduler.next_start(0)
    assert start is not None
    number = scheduler.begin(start, 0)
    scheduler.drop(lane())
    assert scheduler.ended(number, 10, Feedback.ANSWERED)
    assert scheduler.wake_at() == 15
    assert scheduler.to_close(14.9) == []
    assert scheduler.to_close(15) == [number]
    assert scheduler.to_close(16) == []
    assert scheduler.wake_at() is None
    scheduler.closed(number)
    assert scheduler.states() == []


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


# ------------------------------------------------------------------------------------------------ any course


class AnyCourse(RuleBasedStateMachine):
    """Whatever happens in whatever order: no limit is passed, and nothing that could start is left waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.scheduler = Scheduler(limits(connections_max=6, per_site=4, per_member=3, messages=5, idle=5))
        self.lanes: dict[Lane, str] = {}
        self.working: dict[int, Start] = {}
        self.resting: dict[int, str] = {}
        #: Of those that are no member's any more the member is None.
        self.closing: dict[int, tuple[str, bytes | None]] = {}

    @rule(
        member=st.sampled_from("abc"),
        domain=st.integers(0, 5),
        category=st.sampled_from(["bulk", "mfa-otp"]),
    )
    def add(self, member: str, domain: int, category: str) -> None:
        one = lane(member, f"{domain}.example", category=category)
        self.lanes[one] = f"mx{domain % 3}.example"
        self.scheduler.add(self.lanes[one], one)

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(list(self.lanes)))
        del self.lanes[one]
        self.scheduler.drop(one)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), feedback=st.sampled_from(list(Feedback)), usable=st.booleans())
    def end(self, data: st.DataObject, feedback: Feedback, usable: bool) -> None:
        number = data.draw(st.sampled_from(list(self.working)))
        start = self.working.pop(number)
        if start.instead is not None:
            feedback = Feedback.NOTHING
        if self.scheduler.ended(number, self.now, feedback, "trouble", usable=usable):
            self.resting[number] = start.site
        elif start.instead is None:
            self.closing[number] = start.site, start.lane.member
        else:
            self.scheduler.closed(number)

    @precondition(lambda self: self.closing)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(list(self.closing)))
        del self.closing[number]
        self.scheduler.closed(number)

    @rule(seconds=st.sampled_from([0.5, 5, 61, 1000]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def give_up_what_rests_too_long(self) -> None:
        for number in self.scheduler.to_close(self.now):
            self.closing[number] = self.resting.pop(number), None

    @rule()
    def start_all(self) -> None:
        while (start := self.scheduler.next_start(self.now)) is not None:
            assert self.lanes[start.lane] == start.site
            if start.connection is not None:
                assert self.resting.pop(start.connection) == start.site
            number = self.scheduler.begin(start, self.now)
            assert number not in self.working
            self.working[number] = start
            self.check_limits()
        for number in self.scheduler.to_close(self.now):  # given up for those who are crowded out
            self.closing[number] = self.resting.pop(number), None
        self.check_that_nothing_is_left_waiting()

    def open_at(self, site: str) -> int:
        working = [one for one in self.working.values() if one.instead is None and one.site == site]
        others = [*self.resting.values(), *(closing for closing, _ in self.closing.values())]
        return len(working) + others.count(site)

    def share_of(self, member: bytes) -> int:
        working = [one.lane.member for one in self.working.values() if one.instead is None]
        return [*working, *(owner for _, owner in self.closing.values())].count(member)

    def all_open(self) -> int:
        return sum(self.open_at(f"mx{number}.example") for number in range(3))

    @invariant()
    def check_limits(self) -> None:
        assert self.all_open() <= 6
        assert all(self.share_of(lane(name).member) <= 3 for name in "abc")
        for state in self.scheduler.states():
            assert 1 <= state.window <= 4
            assert state.connections == self.open_at(state.name) <= 4

    def check_that_nothing_is_left_waiting(self) -> None:
        for state in self.scheduler.states():
            mine = [one for one, site in self.lanes.items() if site == state.name]
            assert state.lanes == len(mine)
            if not mine:
                continue
            putting_off = any(one.instead and one.site == state.name for one in self.working.values())
            if state.down_until is not None and self.now < state.down_until:
                assert putting_off
                continue
            mine = [one for one in mine if self.share_of(one.member) < 3]
            if not mine:
                continue
            busy = state.connections - state.resting
            free = int(state.window) if any(not one.bulk for one in mine) else max(1, int(state.window) - 1)
            crowded = self.all_open() >= 6
            assert busy >= free or (state.connections >= int(state.window) and not state.resting) or crowded


AnyCourse.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=60)
TestAnyCourse = AnyCourse.TestCase
