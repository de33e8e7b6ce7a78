"""Scheduled mail and limits: it counts around its own time, and no window ever has more than its limit."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codec import Recorded
from relay.config import Config, WarmingConfig, WarmingTier
from relay.decisions import limits
from relay.decisions.limits import check_limits, phases
from relay.events import MessageBounced, MessageQueued, MessageRescheduled, SendAccepted
from relay.refusals import Refusal
from relay.reservations import Reservations
from relay.times import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from relay.views import warming
from relay.views.members import DomainState, MemberState
from spool.views import Snapshot, Transaction, Views
from tests.world.relay import DOMAIN, World, open_world, run
from tests.world.scheduled import DAY, HOUR, cancel, in_seconds, move

TIERS = "\n[warming]\ntiers = [ { hour = 5, day = 12 } ]\n"
HOURLY, DAILY = 5, 12


async def post(world: World, recipients: int, at: str | None = None) -> tuple[int, Any, dict[str, str]]:
    body: dict[str, Any] = {
        "from": f"you@{DOMAIN}",
        "to": [f"friend{number}@example.com" for number in range(recipients)],
        "subject": "Hello",
        "text": "Hi",
    }
    if at is not None:
        body["scheduledAt"] = at
    return await world.request("POST", "/v1/send", json=body)


async def ids_of(world: World, recipients: int, at: str) -> list[int]:
    status, answer, _ = await post(world, recipients, at)
    assert status == 200, answer
    return [accepted["messageId"] for accepted in answer["accepted"]]


def test_it_counts_at_its_time_and_not_when_it_was_accepted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            at = in_seconds(world, 10 * DAY)
            assert (await post(world, 5, at))[0] == 200
            # Then there is no room any more, a minute before and after neither; and now there is.
            for seconds in (0, -60, 60, -3599, 3599):
                status, answer, _ = await post(world, 1, in_seconds(world, 10 * DAY + seconds))
                assert (status, answer["code"]) == (429, "RATE_LIMITED")
                assert "5 recipients an hour and 12 a day around 20" in answer["error"]
                assert " has room" in answer["error"]
            assert (await post(world, 5))[0] == 200
            assert (await post(world, 1, in_seconds(world, 10 * DAY + HOUR + 120)))[0] == 200

    run(main)


def test_what_was_promised_a_place_has_it(tmp_path: Path) -> None:
    """Who sends at once must leave room for what comes within the hour."""

    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            assert (await post(world, 3, in_seconds(world, 30 * 60)))[0] == 200
            status, answer, headers = await post(world, 3)
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            assert "beside what is scheduled" in answer["error"]
            assert (await post(world, 2))[0] == 200
            wait = int(headers["retry-after"])
            await trio.sleep(wait - 1)
            assert (await post(world, 3))[0] == 429
            # Two went out since the first was refused.
            await trio.sleep(HOUR)
            assert (await post(world, 3))[0] == 200

    run(main)


def test_moved_it_counts_where_it_is_moved_and_must_fit_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            first = in_seconds(world, 2 * DAY)
            (message_id,) = await ids_of(world, 1, first)
            full = in_seconds(world, 10 * DAY)
            assert (await post(world, 5, full))[0] == 200
            status, answer = await move(world, message_id, full)
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            assert (await world.message(message_id))["nextAttemptAt"] == first
            # It leaves its own place: moved by a minute it does not stand in its own way.
            ids = await ids_of(world, 4, first)
            assert (await post(world, 1, first))[0] == 429
            assert (await move(world, ids[0], in_seconds(world, 2 * DAY + 60)))[0] == 200
            assert (await move(world, message_id, in_seconds(world, 5 * DAY)))[0] == 200
            assert (await post(world, 1, first))[0] == 200
            assert (await post(world, 5, in_seconds(world, 5 * DAY)))[0] == 429
            # Cancelled it has none.
            assert (await cancel(world, message_id))[0] == 200
            assert (await post(world, 5, in_seconds(world, 5 * DAY)))[0] == 200

    run(main)


def test_a_hundred_at_once_for_one_time_and_a_hundred_moved_to_it(tmp_path: Path) -> None:
    async def main() -> None:
        tiers = "\n[warming]\ntiers = [ { hour = 10, day = 1000000 } ]\n"
        async with open_world(tmp_path / "data", settings=tiers) as world:
            at, other = in_seconds(world, DAY), in_seconds(world, 3 * DAY)
            statuses = await all_at_once([lambda: post(world, 1, at)] * 100)
            assert sorted(status for status, *_ in statuses) == [200] * 10 + [429] * 90
            ids = [(await ids_of(world, 1, in_seconds(world, (5 + n) * DAY)))[0] for n in range(20)]

            def to_other(message_id: int) -> Callable[[], Awaitable[Any]]:
                return lambda: move(world, message_id, other)

            both = [to_other(message_id) for message_id in ids] + [lambda: post(world, 1, other)] * 20
            random.Random(1).shuffle(both)
            statuses = await all_at_once(both)
            assert sorted(status for status, *_ in statuses) == [200] * 10 + [429] * 30
            assert world.core.reservations.scheduled(DOMAIN) == {}

    run(main)


async def all_at_once(questions: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    answers: list[Any] = []

    async def ask(question: Callable[[], Awaitable[Any]]) -> None:
        answers.append(await question())

    async with trio.open_nursery() as nursery:
        for question in questions:
            nursery.start_soon(ask, question)
    return answers


# ------------------------------------------------------------------------------------------------ against a recount


class Sent(NamedTuple):
    """Recipients, their time, and whether they were scheduled for it."""

    at_us: int
    recipients: int
    scheduled: bool


NOW = 40 * DAY_US
#: Times about now that are dense where windows begin and end.
times = st.one_of(
    st.integers(-DAY_US - 2 * MINUTE_US, 2 * DAY_US),
    st.builds(
        lambda window, minutes, rest: window + minutes * MINUTE_US + rest,
        st.sampled_from([-DAY_US, -HOUR_US, 0, HOUR_US, DAY_US]),
        st.integers(-3, 3),
        st.sampled_from([0, 1, MINUTE_US - 1]),
    ),
)


@given(
    sent=st.lists(st.builds(Sent, times, st.integers(1, 4), st.booleans()), max_size=12),
    asked=st.lists(st.tuples(times, st.integers(1, HOURLY), st.booleans()), min_size=1, max_size=4),
)
@settings(derandomize=True, max_examples=400)
def test_no_window_has_too_many_and_nobody_is_refused_without_need(
    tmp_path_factory: pytest.TempPathFactory, sent: list[Sent], asked: list[tuple[int, int, bool]]
) -> None:
    """Each is accepted where a plain recount allows it, and refused where the recount does when every scheduled one may
    be anywhere in its minute. What is said of when it will pass is true, to the second."""
    accepted: list[Sent] = []
    with opened(tmp_path_factory.mktemp("views")) as tables:
        # What is there already came by the same rule: it is accepted in order of its time of acceptance.
        at_once = sorted(one for one in sent if not one.scheduled and one.at_us <= 0)
        for one in [*at_once, *(one for one in sent if one.scheduled)]:
            now = NOW + one.at_us if not one.scheduled else NOW
            if one.scheduled and one.at_us <= 0:
                continue
            judge(tables, accepted, Sent(NOW + one.at_us, one.recipients, one.scheduled), now)
        for at, recipients, scheduled in asked:
            wanted = Sent(NOW + max(at, 1) if scheduled else NOW, recipients, scheduled)
            judge(tables, accepted, wanted, NOW)


def judge(tables: Tables, accepted: list[Sent], wanted: Sent, now: int) -> None:
    wait = tables.wait(wanted, now)
    if not fits([*accepted, wanted], wanted):
        assert wait is not None, "more than the limit were accepted"
    if fits([*accepted, wanted], wanted, spread=MINUTE_US):
        assert wait is None, "it was refused, and would have fitted wherever in its minute it is"
    if wait is None:
        accepted.append(wanted)
        tables.add(wanted, now)
        return
    # Sent at once when it is said to pass, it passes, and a second before it does not. (Farther ahead than two days
    # nobody has looked.)
    passes_at = now + wait * SECOND_US
    if passes_at < max(wanted.at_us, now) + DAY_US:
        assert tables.wait(Sent(passes_at, wanted.recipients, False), passes_at) is None
    if wait > 1 and not wanted.scheduled:
        before = passes_at - SECOND_US
        assert tables.wait(Sent(before, wanted.recipients, False), before) is not None


def fits(all_of_them: Sequence[Sent], new: Sent, *, spread: int = 0) -> bool:
    """Whether, of every window that ends with one of them and has the new one, none has too many. `spread`: windows
    have so much more before and behind, as far as what is scheduled goes."""
    for end in all_of_them:
        for window, limit in ((HOUR_US, HOURLY), (DAY_US, DAILY)):
            more = spread if end.scheduled else 0
            inside = [
                one
                for one in all_of_them
                if end.at_us - window - (spread if one.scheduled or more else 0)
                < one.at_us
                <= end.at_us + (spread if one.scheduled else 0)
            ]
            if new in inside and sum(one.recipients for one in inside) > limit:
                return False
    return True


class Tables:
    """The warming view, filled by its projector."""

    def __init__(self, views: Views[Recorded]) -> None:
        self._views = views
        self._seq = 0

    def add(self, one: Sent, now: int) -> None:
        events: list[Any] = [
            SendAccepted(
                did="d",
                domain="d.example",
                category="bulk",
                recipients=one.recipients,
                key_id="k",
                selector_stem="s",
                operator_domain="o",
                operator_stem="s",
                message_id_entropy="e",
                scheduled_at=one.at_us if one.scheduled else None,
            )
        ]
        for index in range(1, one.recipients + 1):
            events.append(
                MessageQueued(
                    did="d",
                    domain="d.example",
                    category="bulk",
                    index=index,
                    next_attempt_at=one.at_us,
                    give_up_at=one.at_us,
                    scheduled=one.scheduled,
                )
            )
        self.apply(events, now)

    def apply(self, events: Sequence[Any], now: int) -> None:
        with self._views._env.begin(write=True) as txn:
            tx = Transaction(txn, self._views._tables)
            for event in events:
                self._seq += 1
                self._views._projectors[0].apply(tx, Recorded(self._seq, now, event))
            tx.write()

    def read(self) -> Any:
        return self._views.read()

    def wait(self, wanted: Sent, now: int) -> int | None:
        """For how many seconds it is refused; None: it is not."""
        with self._views.read() as view:
            return refused_for(view, wanted, now)


def refused_for(view: Snapshot, wanted: Sent, now: int) -> int | None:
    config = Config(
        operator_domain="relay.example",
        public_url="https://relay.example",
        require_verified_domains=False,
        warming=WarmingConfig(tiers=(WarmingTier(hour=HOURLY, day=DAILY),)),
    )
    member, domain = MemberState("d", "active", 0), DomainState("d.example", "d", "s", "", "", 0)
    try:
        check_limits(
            view,
            config,
            member,
            domain,
            recipients=wanted.recipients,
            reserved=0,
            now_us=now,
            at_us=wanted.at_us if wanted.scheduled else None,
        )
    except Refusal as refusal:
        return refusal.retry_after_seconds
    return None


@contextmanager
def opened(directory: Path) -> Iterator[Tables]:
    views: Views[Recorded] = Views(directory / "v", (warming.WarmingProjector(),), lambda record: record)
    views.open()
    try:
        yield Tables(views)
    finally:
        views.close()


def test_minutes_are_forgotten_and_what_is_withdrawn_late_takes_nothing_from_others(tmp_path: Path) -> None:
    def counted(tables: Tables) -> list[tuple[int, int]]:
        with tables.read() as view:
            return list(warming.scheduled_minutes(view, "d.example", 0, 100 * DAY_US))

    with opened(tmp_path) as tables:
        tables.add(Sent(NOW, 2, True), NOW - HOUR_US)
        first = tables._seq
        # A pause has held both beyond the longest window; another send lets their minute be forgotten.
        later = NOW + 3 * DAY_US
        tables.add(Sent(later, 1, True), later - MINUTE_US)
        assert counted(tables) == [(later, 1)]
        moved = MessageRescheduled(did="d", message_id=first, next_attempt_at=later, key_id="k")
        ended = MessageBounced(did="d", message_id=first - 1, attempt=0, reason="cancelled")
        tables.apply([moved, ended], later)
        assert counted(tables) == [(later, 2)]


def test_a_reservation_of_a_time_ends_as_others_do() -> None:
    reservations = Reservations()
    at = NOW + 90 * SECOND_US
    send = SendAccepted(
        did="d",
        domain="d.example",
        category="bulk",
        recipients=3,
        key_id="k",
        selector_stem="s",
        operator_domain="o",
        operator_stem="s",
        message_id_entropy="e",
        scheduled_at=at,
    )
    with reservations.hold([send]):
        assert reservations.recipients("d.example") == 0
        assert reservations.scheduled("d.example") == {NOW + MINUTE_US: 3}
        reservations.observe([Recorded(1, 1, send)])
        assert reservations.scheduled("d.example") == {}
    with pytest.raises(KeyError), reservations.hold([send]):
        raise KeyError
    moved = MessageRescheduled(did="d", message_id=2, next_attempt_at=at, key_id="k")
    reservations.move("d.example", [moved])
    assert reservations.scheduled("d.example") == {NOW + MINUTE_US: 1}
    reservations.observe([Recorded(2, 2, moved)])
    assert reservations.scheduled("d.example") == {}
    reservations.move("d.example", [moved])
    reservations.give_up_move(2)
    assert reservations.scheduled("d.example") == {}


def test_limits_are_looked_up_once_a_phase_and_not_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has scheduled something for each minute pays for it with every send, and so does everybody who waits."""
    asked = 0

    def counted(*arguments: Any) -> Iterator[Any]:
        nonlocal asked
        asked += 1
        return phases(*arguments)

    monkeypatch.setattr(limits, "phases", counted)
    with opened(tmp_path) as tables:
        for minute in range(0, 2 * DAY_US, 10 * MINUTE_US):
            tables.add(Sent(NOW + minute, 1, True), NOW)
        assert tables.wait(Sent(NOW, 1, False), NOW) is not None
    assert asked < 20
