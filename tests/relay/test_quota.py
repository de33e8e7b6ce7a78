"""Quotas: what one member asks for too much costs only itself; and what strangers may who bring mail in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.config import MembersConfig
from relay.config_doors import InboundConfig
from relay.quota import COUNTED_MAX, READS_AT_WORK_MAX, MailKind, Quota
from relay.refusals import Refusal
from tests.world.relay import DID, OTHER_DID


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_member_has_so_many_writes_a_minute_and_another_has_its_own() -> None:
    async def main() -> None:
        quota = Quota(lambda: MembersConfig(writes_per_minute=3))
        for _ in range(3):
            quota.take_write(DID)
        with pytest.raises(Refusal) as refused:
            quota.take_write(DID)
        assert (refused.value.code, refused.value.retry_after_seconds) == ("RATE_LIMITED", 20)
        quota.take_write(OTHER_DID)
        await trio.sleep(20)
        quota.take_write(DID)  # Retry-After was true
        with pytest.raises(Refusal):
            quota.take_write(DID)
        await trio.sleep(3600)
        for _ in range(3):  # and no more than a minute's worth is saved up
            quota.take_write(DID)
        with pytest.raises(Refusal):
            quota.take_write(DID)

    run(main)


def test_a_members_reads_wait_for_each_other_and_for_nobody_else() -> None:
    async def main() -> None:
        quota = Quota(MembersConfig)
        at_work = {DID: 0, OTHER_DID: 0}

        async def read(did: str, scope: trio.CancelScope) -> None:
            with scope:
                await quota.begin_read(did)
                at_work[did] += 1
                try:
                    await trio.sleep(1)
                finally:
                    at_work[did] -= 1
                    quota.end_read(did)

        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(3 * READS_AT_WORK_MAX)]
            for scope in scopes:
                nursery.start_soon(read, DID, scope)
            nursery.start_soon(read, OTHER_DID, trio.CancelScope())
            await wait_all_tasks_blocked()
            assert at_work == {DID: READS_AT_WORK_MAX, OTHER_DID: 1}
            scopes[-1].cancel()  # one that waits
            scopes[0].cancel()  # one at work: another takes its place
            await wait_all_tasks_blocked()
            assert at_work[DID] == READS_AT_WORK_MAX
        assert at_work == {DID: 0, OTHER_DID: 0}
        assert quota._reads == {}  # nothing is kept of who does not read

    run(main)


# ------------------------------------------------------------------------------------------------ strangers


def test_an_address_begins_so_many_messages_a_minute_and_another_has_its_own() -> None:
    async def main() -> None:
        limits = InboundConfig(messages_per_minute_per_address=2)
        quota = Quota(MembersConfig, lambda: limits)
        for _ in range(2):
            quota.take_message("192.0.2.1")
        with pytest.raises(Refusal) as refused:
            quota.take_message("192.0.2.1")
        assert (refused.value.code, refused.value.retry_after_seconds) == ("RATE_LIMITED", 30)
        quota.take_message("192.0.2.2")
        await trio.sleep(30)
        quota.take_message("192.0.2.1")
        limits = InboundConfig(messages_per_minute_per_address=100)  # asked at each use
        await trio.sleep(60)
        for _ in range(100):
            quota.take_message("192.0.2.1")

    run(main)


def test_of_strangers_so_many_are_remembered_and_those_that_were_counted_last() -> None:
    async def main() -> None:
        quota = Quota(MembersConfig, lambda: InboundConfig(messages_per_minute_per_address=1))
        quota.take_message("first")
        for number in range(COUNTED_MAX - 1):
            quota.take_message(f"{number}")
        for who in ("first", "0"):
            with pytest.raises(Refusal):
                quota.take_message(who)
        for number in range(10):
            quota.take_message(f"another {number}")
        assert len(quota._of_address) == COUNTED_MAX
        with pytest.raises(Refusal):  # it was counted again, so the others went
            quota.take_message("first")

    run(main)


def spend(quota: Quota, size: int = 1, kind: MailKind = "report", whom: str = "you.example") -> None:
    with quota.budget(kind, whom, size) as spending:
        spending.was_written = True


def test_a_budget_is_of_messages_an_hour_for_each_kind_and_each_domain() -> None:
    async def main() -> None:
        quota = Quota(MembersConfig, lambda: InboundConfig(messages_per_hour=2))
        for _ in range(2):
            spend(quota)
        with pytest.raises(Refusal) as refused:
            spend(quota)
        assert (refused.value.code, refused.value.retry_after_seconds) == ("RATE_LIMITED", 1800)
        spend(quota, kind="member")
        spend(quota, whom="other.example")
        await trio.sleep(1800)
        spend(quota)
        with pytest.raises(Refusal):
            spend(quota)

    run(main)


def test_a_budget_is_of_bytes_a_day_and_a_mail_above_it_has_a_whole_day_of_it() -> None:
    async def main() -> None:
        quota = Quota(MembersConfig, lambda: InboundConfig(bytes_per_day=1000))
        spend(quota, 600)
        with pytest.raises(Refusal) as refused:
            spend(quota, 500)
        assert refused.value.retry_after_seconds == 24 * 360
        spend(quota, 400)
        await trio.sleep(24 * 3600)
        spend(quota, 3000)
        await trio.sleep(2 * 24 * 3600)
        with pytest.raises(Refusal):
            spend(quota, 1)
        await trio.sleep(24 * 3600)
        spend(quota, 1000)

    run(main)


def test_what_was_not_written_is_given_back() -> None:
    async def main() -> None:
        quota = Quota(MembersConfig, lambda: InboundConfig(messages_per_hour=1, bytes_per_day=100))
        for _ in range(5):
            # At the same time, there is none left.
            with quota.budget("report", "you.example", 100), pytest.raises(Refusal):
                spend(quota)
            with pytest.raises(ValueError), quota.budget("report", "you.example", 100):
                raise ValueError
        # What the bytes did not allow has not taken a message either.
        spend(quota, 60, whom="other.example")
        await trio.sleep(3600)
        with pytest.raises(Refusal):
            spend(quota, 60, whom="other.example")
        spend(quota, 40, whom="other.example")
        spend(quota, 100)
        with pytest.raises(Refusal):
            spend(quota, 1)

    run(main)


def test_the_last_mails_are_ten_a_minute() -> None:
    async def main() -> None:
        quota = Quota(MembersConfig)
        assert [quota.take_last_mail() for _ in range(11)] == [True] * 10 + [False]
        await trio.sleep(6)
        assert [quota.take_last_mail() for _ in range(2)] == [True, False]

    run(main)


def test_writes_that_came_to_nothing_elsewhere_count_as_far_as_there_are_any() -> None:
    async def main() -> None:
        quota = Quota(lambda: MembersConfig(writes_per_minute=10))
        quota.count_refused(DID, 4)
        quota.take_write(DID)
        quota.count_refused(DID, 1000)
        with pytest.raises(Refusal, match="10 changes in a minute"):
            quota.take_write(DID)
        # No debt: a whole minute fills it.
        await trio.sleep(60)
        for _ in range(10):
            quota.take_write(DID)
        quota.take_write(OTHER_DID)

    trio.run(main, clock=MockClock(autojump_threshold=0))
