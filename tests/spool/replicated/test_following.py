"""What a machine takes from the table, when it does, and what it refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from spool.errors import LostRowsError
from spool.received import Received
from spool.record import CHAIN_START, Record
from spool.replicated import following
from spool.replicated.following import PATIENT_POLLS, Following, Seen
from spool.replicated.rows import encode
from spool.replicated.table import Connection, Head, Lease, Row, TableError
from tests.world.batches import TransparentSeal, make_batch
from tests.world.servers import FIRST_HEAD, put_lease
from tests.world.spool import group, run
from tests.world.table import FakeDatabase

ANNA = b"anna".ljust(16, b".")
POLL_SECONDS = 0.5
STALE_SECONDS = 2.0


@dataclass
class OwnLog:
    """What a following log is to its table: it keeps chain values, and nothing else."""

    last_seq: int = 0
    last_chain: bytes = CHAIN_START
    batches: list[Received] = field(default_factory=list)

    async def receive(self, batches: list[Received]) -> None:
        await trio.lowlevel.checkpoint()
        for batch in batches:
            assert (batch.first_seq, batch.previous_chain) == (self.last_seq + 1, self.last_chain)
            self.last_seq, self.last_chain = batch.last_seq, batch.chain
            self.batches.append(batch)


@dataclass
class Leader:
    """Makes rows without a log."""

    connection: Connection
    head: Head
    counter: int = 0

    def next(self, number: int, time_us: int = 1) -> tuple[list[Record], Row]:
        records = make_batch(
            group(number, 2),
            first_seq=self.head.last_seq + 1,
            previous_chain=self.head.chain,
            time_us=self.head.last_seq + time_us,
        )
        return records, encode(
            records, self.head.chain, epoch=self.head.epoch, seal=None, beside=b"%d" % number
        )

    async def append(self, number: int) -> Row:
        _, row = self.next(number)
        assert await self.connection.append(row, ANNA)
        self.head = self.head._replace(last_seq=row.last_seq, chain=row.chain)
        return row

    async def renew(self) -> None:
        self.counter += 1
        head = self.head
        assert await self.connection.write_lease(
            Lease(head.epoch, ANNA, "anna", self.counter, head.last_seq, head.chain)
        )


async def lead(database: FakeDatabase) -> Leader:
    connection = await database.table("anna").connect()
    head = await connection.take_head(await connection.head(), ANNA)
    assert head is not None
    return Leader(connection, head)


@dataclass
class Follower:
    following: Following
    log: OwnLog
    troubles: list[str | None] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    level: list[Seen] = field(default_factory=list)
    applied: list[tuple[bytes, int]] = field(default_factory=list)


def follower(database: FakeDatabase, log: OwnLog | None = None) -> Follower:
    own = log or OwnLog()

    def before_applied(row: Row, batch: Received) -> None:
        assert own.last_seq < batch.first_seq
        made.applied.append((row.beside, batch.last_seq))

    made = Follower(
        Following(
            database.table("bert"),
            own,
            before_applied=before_applied,
            on_seen=lambda seen: made.seen.append(seen),
            on_level=lambda seen: made.level.append(seen),
            on_trouble=lambda error: made.troubles.append(None if error is None else str(error)),
            poll_seconds=POLL_SECONDS,
            stale_seconds=STALE_SECONDS,
        ),
        own,
    )
    return made


def follow(
    story: Callable[[FakeDatabase, Leader, Follower], Awaitable[None]], log: OwnLog | None = None
) -> Follower:
    """The story, with a leader, and a follower that runs."""
    database = FakeDatabase()
    bert = follower(database, log)

    async def main() -> None:
        anna = await lead(database)
        await anna.renew()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            await wait_all_tasks_blocked()
            await story(database, anna, bert)
            nursery.cancel_scope.cancel()

    run(main)
    return bert


def test_it_has_each_row_as_soon_as_that_is_acknowledged() -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        for number in range(1, 6):
            await anna.append(number)
            await wait_all_tasks_blocked()
            assert (bert.log.last_seq, bert.log.last_chain) == (anna.head.last_seq, anna.head.chain)
        assert trio.current_time() == 0
        assert bert.following.lag_records == 0
        assert bert.following.lag_seconds == 0
        assert bert.applied == [(b"%d" % number, 2 * number) for number in range(1, 6)]

    bert = follow(story)
    assert bert.troubles == []


def test_what_no_standby_has_is_shown_and_not_applied() -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        await anna.append(1)
        database.servers.stall_standbys()
        _, row = anna.next(2)
        async with trio.open_nursery() as nursery:

            async def append() -> None:
                with pytest.raises(Exception, match="WARNING"):
                    await anna.connection.append(row, ANNA)

            nursery.start_soon(append)
            await wait_all_tasks_blocked()
            database.servers.primary.cancel_wait()
        assert database.shown.rows == [database.shown.rows[0], row]
        await trio.sleep(60)
        assert bert.log.last_seq == 2
        assert bert.following.lag_records == 2
        lag = bert.following.lag_seconds
        assert lag is not None
        assert 55 < lag <= 60
        # It was lost, and another one stands there.
        database.servers.fail_over()
        again = await lead(database)
        await again.append(3)
        await again.renew()
        await trio.sleep(5)
        assert bert.log.last_chain == again.head.chain
        assert bert.following.lag_records == 0

    bert = follow(story)
    assert [beside for beside, _ in bert.applied] == [b"1", b"3"]


def test_a_lease_with_the_same_number_and_another_chain_value_says_nothing() -> None:
    """The old primary shows an append that came to nothing elsewhere, and the lease is written there."""

    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        server = database.servers.primary
        _, lost = anna.next(1)
        _, true = anna.next(1, time_us=2)
        assert (lost.last_seq, lost.chain == true.chain) == (true.last_seq, False)
        async with trio.open_nursery() as nursery:

            async def append() -> None:
                with pytest.raises(Exception, match="no standby"):
                    await anna.connection.append(lost, ANNA)

            database.servers.stall_standbys()
            nursery.start_soon(append)
            await wait_all_tasks_blocked()
            server.empty_names()
            await trio.sleep(1)
            server.write(put_lease(Lease(anna.head.epoch, ANNA, "anna", 9, true.last_seq, true.chain)))
            await trio.sleep(1)
            assert database.shown.rows == [lost]
            assert bert.log.last_seq == 0
        assert bert.log.last_seq == 0

    follow(story)


def test_a_row_that_another_stands_behind_needs_no_lease() -> None:
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        for number in range(1, 4):
            await anna.append(number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            await wait_all_tasks_blocked()
            assert bert.log.last_seq == 4
            await anna.renew()
            await wait_all_tasks_blocked()
            assert bert.log.last_seq == 6
            nursery.cancel_scope.cancel()

    run(main)


def test_what_is_much_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "READ_BYTES", 5000)
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        for number in range(20):
            await anna.append(number)
        await anna.renew()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            await wait_all_tasks_blocked()
            assert bert.log.last_chain == anna.head.chain
            nursery.cancel_scope.cancel()

    run(main)
    assert database.statements.count("rows") >= 5
    assert len(bert.log.batches) == 20


def test_a_damaged_row_is_a_trouble_and_not_applied_until_it_is_whole_again() -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        await anna.append(1)
        _, row = anna.next(2)
        rows = database.shown.rows
        assert await anna.connection.append(row._replace(data=row.data[:-1] + b"!"), ANNA)
        await trio.sleep(10)
        assert bert.log.last_seq == 2
        assert bert.troubles[-1] is not None
        assert "the row with sequences 3 to 4: record 2: the checksum" in bert.troubles[-1]
        rows[-1] = row
        await trio.sleep(2)
        assert bert.log.last_chain == row.chain
        assert bert.troubles[-1] is None

    bert = follow(story)
    assert [beside for beside, _ in bert.applied] == [b"1", b"2"]


def test_rows_that_do_not_stand_behind_each_other_are_damaged() -> None:
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        for number in (1, 2, 3):
            await anna.append(number)
        database.shown.rows[-1] = database.shown.rows[-1]._replace(previous_chain=b"?" * 32)
        with trio.move_on_after(10):
            await bert.following.run()

    run(main)
    # The last of those in front of it is not known to be witnessed.
    assert bert.log.last_seq == 2
    assert bert.troubles[-1] is not None
    assert "sequences 5 to 6: it does not stand behind" in bert.troubles[-1]


@pytest.mark.parametrize("seq", [2, 4])
def test_another_log_than_ours_is_refused(seq: int) -> None:
    database = FakeDatabase()
    bert = follower(database, OwnLog(seq, b"another".ljust(32)))

    async def main() -> None:
        anna = await lead(database)
        for number in (1, 2, 3):
            await anna.append(number)
        await anna.renew()
        with trio.move_on_after(10):
            await bert.following.run()

    run(main)
    assert bert.log.last_seq == seq
    assert "another chain value in the log here" in str(bert.troubles[-1])
    # It knows who leads, and must not itself.
    assert bert.seen
    assert not bert.level


def test_rows_that_have_gone_are_named_and_a_filled_log_goes_on() -> None:
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        rows = [await anna.append(number) for number in (1, 2, 3)]
        await anna.renew()
        database.drop_rows(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            await trio.sleep(10)
            assert "ends with sequence 0, and the table begins with 3" in str(bert.troubles[-1])
            database.drop_rows(6)
            await trio.sleep(10)
            assert "has no rows any more" in str(bert.troubles[-1])
            assert not bert.level
            bert.log.last_seq, bert.log.last_chain = 6, rows[-1].chain
            await trio.sleep(10)
            assert bert.troubles[-1] is None
            nursery.cancel_scope.cancel()

    run(main)


def test_a_database_that_shows_less_than_the_log_has_is_not_believed() -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        await anna.append(1)
        await trio.sleep(10)
        assert not bert.seen
        assert bert.troubles[-1] is not None
        assert "restored to an earlier time" in bert.troubles[-1]
        connection = await database.table().connect()
        head = await connection.take_head(await connection.head(), b"bert".ljust(16, b"."))
        assert head is not None
        with pytest.raises(LostRowsError):
            await bert.following.catch_up(connection, head)

    follow(story, OwnLog(7, b"7" * 32))


def test_it_leaves_an_old_primary_where_nobody_renews_the_lease() -> None:
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        await anna.append(1)
        await anna.renew()
        database.servers.fail_over(old_comes_back=True)
        table = database.table("anna")
        table.hosts = ["b", "c", "a"]
        connection = await table.connect()
        head = await connection.take_head(await connection.head(), ANNA)
        assert head is not None
        anna = Leader(connection, head, counter=10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bert.following.run)
            for number in range(2, 12):
                await anna.append(number)
                await anna.renew()
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        assert bert.log.last_chain == anna.head.chain

    run(main)
    seen = [(seen.host, seen.at) for seen in bert.seen]
    assert seen[0][0] == "a"
    # Whoever may lead finds out that it is stale before.
    left_after = STALE_SECONDS + PATIENT_POLLS * POLL_SECONDS
    assert next(at for host, at in seen if host == "b") == pytest.approx(left_after, abs=POLL_SECONDS)
    assert seen[-1][0] == "b"


def test_it_stays_where_the_lease_is_renewed() -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        for _ in range(40):
            await anna.renew()
            await trio.sleep(0.5)

    bert = follow(story)
    assert {seen.host for seen in bert.seen} == {"a"}
    # What it saw is told at least as often as it polls, and each time with the time at which it asked.
    times = [seen.at for seen in bert.seen]
    assert times == sorted(times)
    assert len(times) >= 40
    assert bert.seen[-1].lease is not None
    assert bert.seen[-1].lease.counter == 41


def test_it_waits_for_a_database_that_cannot_be_reached() -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        table = bert.following._table
        table.cut_off()  # type: ignore[attr-defined]
        await anna.append(1)
        await trio.sleep(600)
        assert bert.log.last_seq == 0
        lag = bert.following.lag_seconds
        assert lag is not None
        assert lag >= 600
        assert database.statements.count("connect") < 620
        table.rejoin()  # type: ignore[attr-defined]
        await trio.sleep(15)
        assert bert.log.last_seq == 2
        assert bert.troubles[-1] is None

    follow(story)


def test_who_has_taken_the_head_applies_all_in_front_of_it_without_a_lease() -> None:
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        for number in (1, 2, 3):
            await anna.append(number)
        connection = await database.table("bert").connect()
        head = await connection.take_head(await connection.head(), b"bert".ljust(16, b"."))
        assert head is not None
        await bert.following.catch_up(connection, head)
        assert (bert.log.last_seq, bert.log.last_chain) == (head.last_seq, head.chain)
        # There is nothing left to do.
        await bert.following.catch_up(connection, head)

    run(main)
    assert [beside for beside, _ in bert.applied] == [b"1", b"2", b"3"]


def test_a_head_that_is_not_what_its_rows_end_with_is_no_endless_work() -> None:
    database = FakeDatabase()
    bert = follower(database)

    async def main() -> None:
        anna = await lead(database)
        await anna.append(1)
        with pytest.raises(TableError, match="somebody has changed one of the two"):
            await bert.following.catch_up(anna.connection, anna.head._replace(chain=b"?" * 32))

    run(main)


def test_sealed_rows_need_the_key() -> None:
    database = FakeDatabase()
    seal = TransparentSeal()

    async def main() -> None:
        anna = await lead(database)
        row = encode(make_batch(group(1)), CHAIN_START, epoch=anna.head.epoch, seal=seal)
        assert await anna.connection.append(row, ANNA)
        anna.head = anna.head._replace(last_seq=1, chain=row.chain)
        await anna.renew()
        for key, last_seq in ((None, 0), (TransparentSeal(b"another"), 0), (seal, 1)):
            log = OwnLog()
            with trio.move_on_after(5):
                await Following(database.table("bert"), log, seal=key).run()
            assert log.last_seq == last_seq

    run(main)


def test_it_lets_go_of_its_connection_when_it_is_cancelled() -> None:
    async def story(database: FakeDatabase, anna: Leader, bert: Follower) -> None:
        await anna.append(1)

    bert = follow(story)
    assert not bert.following._table.sessions  # type: ignore[attr-defined]


def test_a_head_that_was_founded_with_records_and_no_rows_is_for_who_has_them() -> None:
    database = FakeDatabase(head=FIRST_HEAD._replace(last_seq=5, chain=b"5" * 32))

    async def main() -> None:
        late = follower(database)
        with trio.move_on_after(5):
            await late.following.run()
        assert not late.level
        assert "has no rows any more" in str(late.troubles[-1])
        bert = follower(database, OwnLog(5, b"5" * 32))
        with trio.move_on_after(5):
            await bert.following.run()
        assert bert.following.lag_records == 0
        assert bert.seen

    run(main)
