"""Warming and limits: exact in rolling windows, exact under concurrency, and a Retry-After that is true (SPEC 4)."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codec import Recorded
from relay.config import Config, WarmingConfig, WarmingTier
from relay.decisions.limits import check_limits
from relay.events import SendAccepted
from relay.refusals import Refusal
from relay.reservations import Reservations
from relay.times import DAY_US, HOUR_US
from relay.views import warming
from relay.views.members import DomainState, MemberState
from spool.errors import LogStalledError
from spool.views import Snapshot, Transaction, Views
from tests.world.relay import DID, make_directory, open_world, run

TIERS = "\n[warming]\ntiers = [ { until_day = 7, hour = 2, day = 10 }, { hour = 10, day = 50 } ]\n"
BODY = {"from": "you@yourdomain.com", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}


async def post(world: Any, recipients: int = 1) -> tuple[int, Any, dict[str, str]]:
    to = [f"friend{number}@example.com" for number in range(recipients)]
    answer: tuple[int, Any, dict[str, str]] = await world.request("POST", "/v1/send", json={**BODY, "to": to})
    return answer


def test_a_young_domain_is_limited_and_retry_after_is_true(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            assert (await post(world))[0] == 200
            await trio.sleep(600)
            assert (await post(world))[0] == 200
            status, answer, headers = await post(world)
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            wait = int(headers["retry-after"])
            assert wait == 3000
            await trio.sleep(wait - 1)
            assert (await post(world))[0] == 429
            await trio.sleep(1)
            assert (await post(world))[0] == 200

    run(main)


def test_a_request_counts_as_a_whole_and_refused_ones_count_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            status, answer, headers = await post(world, 11)
            assert (status, headers["retry-after"]) == (429, "3600")
            assert "11 recipients at 2 an hour" in answer["error"]
            assert "can never fit as it is; send to at most 2 at once" in answer["error"]
            # What the next tier has room for fits then, and not before; Retry-After says when.
            status, answer, headers = await post(world, 3)
            assert (status, headers["retry-after"]) == (429, str(7 * 24 * 3600))
            assert "3 recipients at 2 an hour" in answer["error"]
            assert "can never fit as it is before 20" in answer["error"]
            assert "send to at most 2 at once" in answer["error"]
            assert (await post(world, 2))[0] == 200
            for _ in range(5):
                assert (await post(world, 1))[0] == 429
            await trio.sleep(3600)
            assert (await post(world, 2))[0] == 200

    run(main)


def test_the_daily_limit_and_the_next_tier(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            for _ in range(5):
                assert (await post(world, 2))[0] == 200
                await trio.sleep(3600)
            status, _, headers = await post(world, 1)
            assert (status, int(headers["retry-after"])) == (429, 24 * 3600 - 5 * 3600)
            # A request that only the next tier has room for waits for that day, not for a window.
            await trio.sleep(2 * 24 * 3600)
            status, _, headers = await post(world, 8)
            assert (status, int(headers["retry-after"])) == (429, (5 * 24 - 5) * 3600)
            await trio.sleep(int(headers["retry-after"]))
            assert (await post(world, 8))[0] == 200

    run(main)


def test_the_operator_overrides_the_tiers(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=TIERS) as world:
            await world.command("member_limits", did=DID, hour=5, day=5)
            assert (await post(world, 5))[0] == 200
            assert (await post(world, 1))[0] == 429
            _, answer, _ = await world.request("GET", "/member/deliverability")
            assert (answer["hourly_limit"], answer["daily_limit"]) == (5, 5)
            await world.command("member_limits", did=DID)
            _, answer, _ = await world.request("GET", "/member/deliverability")
            assert (answer["hourly_limit"], answer["daily_limit"]) == (2, 10)

    run(main)


def test_a_send_to_nobody_passes_whatever_is_left_of_a_limit(tmp_path: Path) -> None:
    """All its recipients are suppressed: it is answered as it is, though the limit was lowered below what was sent."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.request("POST", "/v1/suppressions", json={"recipient": "friend0@example.com"})
            for _ in range(3):
                await world.send(to="friend@example.org")
            await world.command("member_limits", did=DID, hour=1, day=2)
            status, answer, _ = await post(world)
            assert (status, answer["accepted"]) == (200, [])
            assert [rejected["recipient"] for rejected in answer["rejected"]] == ["friend0@example.com"]
            assert (await post(world, 2))[0] == 429  # the other one counts

    run(main)


# Twenty thousand requests.
@pytest.mark.timeout(600)
def test_two_hundred_times_a_hundred_at_once_against_a_limit_of_ten(tmp_path: Path) -> None:
    """Each round is a new hour; a hundred requests come at once."""
    settings_text = "\n[warming]\ntiers = [ { hour = 10, day = 1000000 } ]\n"

    async def main() -> None:
        async with open_world(tmp_path / "data", settings=settings_text) as world:
            for _ in range(200):
                before = accepted_recipients(world)
                async with trio.open_nursery() as nursery:
                    for _ in range(100):
                        nursery.start_soon(post, world)
                assert accepted_recipients(world) - before == 10
                await trio.sleep(3600)

    run(main)


def test_a_reservation_ends_when_its_send_is_applied_or_failed_and_not_when_the_disk_stalls() -> None:
    reservations = Reservations()
    with reservations.hold([send(3)]):
        assert reservations.recipients("d.example") == 3
        reservations.observe([Recorded(1, 1, send(3))])
        assert reservations.recipients("d.example") == 0
    with pytest.raises(KeyError), reservations.hold([send(2)]):
        raise KeyError
    assert reservations.recipients("d.example") == 0
    with pytest.raises(LogStalledError), reservations.hold([send(2)]):
        raise LogStalledError
    assert reservations.recipients("d.example") == 2  # it may be applied yet
    reservations.observe([Recorded(2, 2, send(2))])
    assert reservations.recipients("d.example") == 0


@pytest.mark.parametrize("known_before", [False, True])
def test_a_reservation_ends_when_it_is_known_that_its_send_will_never_be_applied(known_before: bool) -> None:
    reservations, stalled = Reservations(), LogStalledError()
    if known_before:
        stalled.tell_absent()
    with pytest.raises(LogStalledError), reservations.hold([send(2)]):
        raise stalled
    if not known_before:
        assert reservations.recipients("d.example") == 2
        stalled.tell_absent()
    assert reservations.recipients("d.example") == 0
    stalled.tell_absent()
    assert reservations.recipients("d.example") == 0


def test_the_limit_holds_across_a_restart_and_a_rebuild(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data", TIERS)
        async with open_world(directory) as world:
            credentials = world.credentials
            assert (await post(world, 2))[0] == 200
        shutil.rmtree(directory / "views")
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            assert (await post(world, 1))[0] == 429

    run(main)


def accepted_recipients(world: Any) -> int:
    with world.core.store.read() as view:
        return warming.total_until(view, "yourdomain.com", 1 << 62)


@given(
    st.lists(st.tuples(st.integers(0, 3 * DAY_US), st.integers(1, 4)), max_size=40),
    st.integers(1, 6),
    st.integers(0, 5),
)
@settings(derandomize=True, max_examples=150)
def test_retry_after_is_the_earliest_moment(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[tuple[int, int]], wanted: int, later: int
) -> None:
    """Against a naive recount: at `Retry-After` the same request passes, a second before it does not."""
    events, now = [], DAY_US
    for gap, recipients in sorted(gaps):
        now = DAY_US + gap
        events.append((now, recipients))
    now += later * 600_000_000
    config = Config(
        operator_domain="relay.example",
        public_url="https://relay.example",
        require_verified_domains=False,
        warming=WarmingConfig(tiers=(WarmingTier(hour=5, day=12),)),
    )
    member, domain = MemberState("d", "active", 0), DomainState("d.example", "d", "s", "", "", 0)
    views: Views[Recorded] = Views(
        tmp_path_factory.mktemp("views") / "v", (warming.WarmingProjector(),), lambda record: record
    )
    views.open()
    try:
        with views._env.begin(write=True) as txn:
            tx = Transaction(txn, views._tables)
            for seq, (time, recipients) in enumerate(events, 1):
                views._projectors[0].apply(tx, Recorded(seq, time, send(recipients)))
            tx.write()

        def used(at: int, window: int) -> int:
            return sum(count for time, count in events if at - window < time <= at)

        def passes(at: int) -> bool:
            return used(at, HOUR_US) + wanted <= 5 and used(at, DAY_US) + wanted <= 12

        with views.read() as view:
            assert warming.used(view, "d.example", now, HOUR_US) == used(now, HOUR_US)
            assert warming.used(view, "d.example", now, DAY_US) == used(now, DAY_US)
            wait = retry_after(view, config, member, domain, wanted, now)
            assert passes(now) == (wait is None)
            if wait is not None and wanted <= 5:
                assert passes(now + wait * 1_000_000)
                assert not passes(now + (wait - 1) * 1_000_000)
    finally:
        views.close()


def retry_after(
    view: Snapshot, config: Config, member: MemberState, domain: DomainState, wanted: int, now: int
) -> int | None:
    try:
        check_limits(view, config, member, domain, recipients=wanted, reserved=0, now_us=now)
    except Refusal as refusal:
        return refusal.retry_after_seconds
    return None


def send(recipients: int) -> SendAccepted:
    return SendAccepted(
        did="d",
        domain="d.example",
        category="bulk",
        recipients=recipients,
        key_id="k",
        selector_stem="s",
        operator_domain="o",
        operator_stem="s",
        message_id_entropy="e",
    )
