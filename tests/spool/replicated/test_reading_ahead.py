"""A machine that catches up reads the next rows while its log takes those before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool.errors import DivergedError
from spool.received import Received
from spool.replicated import following
from tests.spool.replicated.test_following import Follower, OwnLog, follower, lead
from tests.world.outcomes import Outcome
from tests.world.spool import run
from tests.world.table import FakeDatabase, FakeTable


@dataclass
class SlowLog(OwnLog):
    """It takes nothing before it may."""

    may_take: trio.Event = field(default_factory=trio.Event)
    fails_by: Exception | None = None

    async def receive(self, batches: list[Received]) -> None:
        with trio.CancelScope(shield=True):  # as a log does
            await self.may_take.wait()
            if self.fails_by is not None:
                raise self.fails_by
            await super().receive(batches)


def catch_up_slowly(
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[FakeDatabase, SlowLog], None],
    second_read: Callable[[FakeDatabase], Outcome] = lambda database: Outcome.ANSWERED,
) -> Follower:
    """Follow what is several reads by a log that is slow. The story is told when nothing more happens without the log;
    then that takes what it is given."""
    monkeypatch.setattr(following, "READ_BYTES", 5000)
    database, log = FakeDatabase(), SlowLog()
    bert = follower(database, log)

    def choose(number: int, name: str, table: FakeTable) -> Outcome:
        is_second = name == "rows" and database.statements.count("rows") == 2
        return second_read(database) if is_second else Outcome.ANSWERED

    database.choose = choose

    async def main() -> None:
        anna = await lead(database)
        for number in range(20):
            await anna.append(number)
        await anna.renew()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            await wait_all_tasks_blocked()
            story(database, log)
            log.may_take.set()
            await trio.sleep(10)
            assert log.last_chain == anna.head.chain
            nursery.cancel_scope.cancel()

    run(main)
    return bert


def test_the_next_rows_are_read_while_the_log_takes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    def story(database: FakeDatabase, log: SlowLog) -> None:
        assert database.statements.count("rows") == 2
        assert not log.batches

    bert = catch_up_slowly(monkeypatch, story)
    assert len(bert.log.batches) == 20
    assert not bert.troubles


def test_a_trouble_with_the_next_rows_is_heard_of_when_the_log_has_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def story(database: FakeDatabase, log: SlowLog) -> None:
        assert database.statements.count("rows") == 2
        assert database.statements[-1] == "rows", "it waits for the log"

    bert = catch_up_slowly(monkeypatch, story, lambda database: Outcome.CUT_BEFORE)
    assert len(bert.log.batches) == 20
    assert bert.troubles[1:] == [None]


def test_what_the_log_refuses_ends_it_though_the_next_rows_do_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def story(database: FakeDatabase, log: SlowLog) -> None:
        log.fails_by = DivergedError(1, "so it is")

    def come_late(database: FakeDatabase) -> Outcome:
        database.latency_seconds = 1000
        return Outcome.ANSWERED

    # In the group of the test's own nursery, and no other.
    with pytest.RaisesGroup(DivergedError):
        catch_up_slowly(monkeypatch, story, come_late)
