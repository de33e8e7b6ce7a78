"""The scheduler alone: its rules one by one, then all of them under any course of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.delivery.replies import Failure, FailureKind
from relay.delivery.scheduler import (
    MEMORY_SECONDS,
    Scheduler,
    SiteState,
    Start,
)
from relay.delivery.sites import (
    DOWN_SECONDS,
    DOWN_SECONDS_MAX,
    WINDOW_AT_FIRST,
    Feedback,
)
from relay.views.due import Lane
from tests.world.scheduling import OTHER_SITE, SITE, begin_all, lane, limits


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


AnyCourse.TestCase.settings = settings(max_examples=200, stateful_step_count=60)
TestAnyCourse = AnyCourse.TestCase
