"""Quotas: what one member asks for too much costs only itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.config import MembersConfig
from relay.quota import READS_AT_WORK_MAX, Quota
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
