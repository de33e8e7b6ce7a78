"""Old rows go from the database, and none that somebody may still need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from relay.config import load_config
from relay.events import MemberAdded
from relay.nodes.facts import to_row
from relay.nodes.keeping import PART_SECONDS, ROUND_SECONDS, keep_tail
from relay.store import Store, open_store
from relay.surroundings import Surroundings
from relay.times import HOUR_US
from spool.replicated.table import HOLDER_OCTETS, Head, Row
from tests.nodes.test_facts import facts
from tests.world.outcomes import Outcome
from tests.world.relay import call_here, make_directory, run, virtual_clock
from tests.world.servers import add, put_head
from tests.world.table import FakeDatabase

HOUR = 3600.0
SURROUNDINGS = Surroundings(offload=call_here, clock=virtual_clock)


async def append(store: Store, database: FakeDatabase, count: int) -> None:
    """As a leader does: a row for each."""
    for _ in range(count):
        (recorded,) = await store.append([MemberAdded(did=f"did:plc:{store.last_seq:024d}")])
        chain = bytes([recorded.seq]) * 32
        head = database.shown.head
        assert head is not None
        database.servers.primary.write(
            add(Row(recorded.seq, recorded.seq, head.epoch, head.chain, chain, b"", b""))
        )


def rows_left(database: FakeDatabase) -> list[int]:
    return [row.first_seq for row in database.shown.rows]


def nodes(*synced: int, silent_hours: int = 0) -> Mapping[str, Mapping[str, object]]:
    """Each has said so just now; with `silent_hours`, the last one that long ago."""
    said = {}
    for number, seq in enumerate(synced, 1):
        written_at = virtual_clock()
        if number == len(synced):
            written_at -= silent_hours * HOUR_US
        said[f"n{number}"] = to_row(facts(f"n{number}", synced_seq=seq, written_at=written_at))
    return said


def test_rows_go_when_they_are_old_and_everybody_has_them(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase()
        database.servers.primary.write(put_head(Head(2, bytes(HOLDER_OCTETS), 0, bytes(32))))
        directory = make_directory(tmp_path / "data")
        said: Mapping[str, Mapping[str, object]] = {}
        async with (
            open_store(directory, load_config(directory), SURROUNDINGS) as store,
            trio.open_nursery() as nursery,
        ):
            await append(store, database, 3)

            async def keep() -> None:
                await keep_tail(database.table(), store, nodes=lambda: said, tail_hours=lambda: 2)

            nursery.start_soon(keep)
            await trio.sleep(1)  # from here on we are awake a second after each of its rounds
            await trio.sleep(0.9 * HOUR)
            await append(store, database, 3)
            await trio.sleep(HOUR)
            await append(store, database, 3)
            # The first part has 1 to 3, the second 4 to 6, the third the rest.
            await trio.sleep(0.1 * HOUR)
            assert rows_left(database) == [1, 2, 3, 4, 5, 6, 7, 8, 9]  # nobody has said anything
            said = nodes(9)
            await trio.sleep(ROUND_SECONDS)
            assert rows_left(database) == [1, 2, 3, 4, 5, 6, 7, 8, 9]  # one node alone
            said = nodes(9, 2)
            await trio.sleep(ROUND_SECONDS)
            assert rows_left(database) == [1, 2, 3, 4, 5, 6, 7, 8, 9]  # the other lacks one of that part
            said = nodes(9, 3)
            await trio.sleep(ROUND_SECONDS)
            assert rows_left(database) == [4, 5, 6, 7, 8, 9]
            said = nodes(9, 9)
            await trio.lowlevel.checkpoint()
            assert rows_left(database) == [4, 5, 6, 7, 8, 9]  # not two hours old
            await trio.sleep(HOUR)
            said = nodes(9, 9)
            await trio.sleep(ROUND_SECONDS)
            assert rows_left(database) == [7, 8, 9]
            nursery.cancel_scope.cancel()

    run(story)


def test_who_was_away_for_longer_is_not_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase()
        directory = make_directory(tmp_path / "data")
        said: Mapping[str, Mapping[str, object]] = {}
        async with (
            open_store(directory, load_config(directory), SURROUNDINGS) as store,
            trio.open_nursery() as nursery,
        ):
            await append(store, database, 2)

            async def keep() -> None:
                await keep_tail(database.table(), store, nodes=lambda: said, tail_hours=lambda: 3)

            nursery.start_soon(keep)
            await trio.sleep(PART_SECONDS + 1)
            await append(store, database, 1)
            await trio.sleep(2 * HOUR)
            said = nodes(3, 3, 0, silent_hours=1)
            await trio.sleep(ROUND_SECONDS)
            assert rows_left(database) == [1, 2, 3]
            said = nodes(3, 3, 0, silent_hours=4)
            await trio.sleep(ROUND_SECONDS)
            assert rows_left(database) == [3]
            nursery.cancel_scope.cancel()

    run(story)


def test_a_database_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase()
        directory = make_directory(tmp_path / "data")
        answers = False

        def choose(number: int, name: str, table: object) -> Outcome:
            return Outcome.ANSWERED if answers else Outcome.CUT_BEFORE

        database.choose = choose
        async with (
            open_store(directory, load_config(directory), SURROUNDINGS) as store,
            trio.open_nursery() as nursery,
        ):
            table = database.table()

            async def keep() -> None:
                await keep_tail(table, store, nodes=lambda: nodes(9, 9), tail_hours=lambda: 2)

            await append(store, database, 2)
            nursery.start_soon(keep)
            await trio.sleep(HOUR + 1)
            answers = True
            await trio.sleep(3 * HOUR)
            await append(store, database, 1)
            await trio.sleep(1.5 * HOUR)
            assert rows_left(database) == [3]
            nursery.cancel_scope.cancel()
            await wait_all_tasks_blocked()

    run(story)
