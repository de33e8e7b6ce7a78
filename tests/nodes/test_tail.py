"""Rows go when nobody needs them any more, and never before."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relay.core import Core
from relay.nodes.facts import Facts, StrangeRow, invited, to_row
from relay.nodes.owed import never_begun, owing_nodes, owing_rows, wait_for_others
from relay.nodes.tail import FIRST_SECONDS, PERIOD_SECONDS, Tail, aged_through, what_may_go
from relay.times import HOUR_US
from spool import Received
from spool.replicated.table import TableError
from tests.nodes.test_facts import NOW, facts
from tests.world.outcomes import Outcome
from tests.world.receiving_nodes import agree, make_node, open_node, received_from
from tests.world.relay import open_world, run
from tests.world.table import FakeDatabase, FakeTable

# ------------------------------------------------------------------------------------------------ the decision


@given(st.lists(st.integers(0, 20), max_size=30).map(sorted), st.integers(-1, 21), st.integers(1, 1000))
def test_the_last_record_that_is_old_enough_is_found(times: list[int], until: int, first: int) -> None:
    last = first + len(times) - 1
    asked: list[int] = []

    def time_of(seq: int) -> int:
        assert first <= seq <= last
        asked.append(seq)
        return times[seq - first]

    found = aged_through(first, last, until, time_of)
    assert found == first - 1 + sum(time <= until for time in times)
    assert len(asked) <= 5


def test_all_that_were_seen_must_have_them_and_two_at_least() -> None:
    day = 24 * HOUR_US
    one, two = facts("one", synced_seq=90), facts("two", synced_seq=70)
    away = facts("three", synced_seq=10, written_at=NOW - day - 1)
    assert what_may_go([one, two, away, invited("four")], 60, NOW, 24) == (60, [])
    assert what_may_go([one, two, away], 80, NOW, 24) == (
        70,
        ["node two has them up to sequence 70 on its disk"],
    )
    assert what_may_go([one, away], 5, NOW, 24) == (
        0,
        ["1 of the nodes were seen in 24 hours, and two at least must have them"],
    )
    (sentence,) = what_may_go([one, two, StrangeRow("x", "it cannot be read")], 5, NOW, 24).held_by
    assert sentence == "node x: it cannot be read"
    away = facts("three", synced_seq=10, written_at=NOW - day)
    assert what_may_go([one, two, away], 60, NOW, 24).through == 10


# ------------------------------------------------------------------------------------------------ what is owed


def test_a_node_that_has_not_said_so_has_not_stripped() -> None:
    done, late = facts("one", stripped_through=50), facts("two", stripped_through=49, trouble="no room")
    away = facts("three", written_at=1)
    owed = owing_nodes([done, late, away, invited("four"), StrangeRow("x", "it is odd")], 50)
    assert [sentence.split(" ")[1] for sentence in owed] == ["two", "three", "x"]
    assert "up to 49" in owed[0]
    assert "(no room)" in owed[0]
    (sentence,) = never_begun([done, late, away, invited("four"), StrangeRow("x", "it is odd")])
    assert sentence.startswith("node four was added and has never run: if it has joined with a log")


def test_rows_are_owed_while_they_are_there() -> None:
    assert owing_rows(None, 9, 24) == []
    assert owing_rows(10, 9, 24) == []
    (sentence,) = owing_rows(9, 9, 24)
    assert "from sequence 9 on" in sentence
    assert "tail_hours (24)" in sentence


def test_whoever_erases_waits_for_the_others_for_a_while() -> None:
    async def main() -> None:
        nodes = [facts("one", stripped_through=50), facts("two", stripped_through=0)]

        async def read_nodes() -> list[Facts]:
            if trio.current_time() >= 3:
                nodes[1] = facts("two", stripped_through=50)
            return nodes

        async def oldest() -> int | None:
            return 5

        async def wait(erased_seq: int) -> list[str]:
            return list(
                await wait_for_others(
                    erased_seq, 9, read_nodes=read_nodes, read_oldest_seq=oldest, tail_hours=24, seconds=10
                )
            )

        (rows,) = await wait(50)
        assert trio.current_time() == 3
        assert rows.startswith("the database has rows from sequence 5 on")
        one, two, _ = await wait(51)
        assert trio.current_time() == 13
        assert (one[:8], two[:8]) == ("node one", "node two")
        nodes[0] = invited("three")
        three, _ = await wait(50)
        assert trio.current_time() == 13
        assert three.startswith("node three was added")

    run(main)


def test_a_database_that_does_not_answer_is_no_answer() -> None:
    async def main() -> None:
        async def fail() -> Any:
            raise TableError("no host answers")

        (sentence,) = await wait_for_others(1, 1, read_nodes=fail, read_oldest_seq=fail, tail_hours=24)
        assert "no host answers" in sentence

    run(main)


# ------------------------------------------------------------------------------------------------ the task


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> list[Received]:
    directory = tmp_path_factory.mktemp("leader") / "data"
    made: list[Received] = []

    async def main() -> None:
        async with open_world(directory) as world:
            for _ in range(3):
                await world.send()
                await trio.sleep(20 * 3600)
            made.extend(received_from(directory))

    run(main)
    return made


async def fill(core: Core, database: FakeDatabase, batches: list[Received]) -> None:
    """The log and the table."""
    await core.store.of_several_machines.receive(batches)
    await agree(database, batches)


async def says(database: FakeDatabase, core: Core, **synced: int) -> None:
    connection = await database.table().connect()
    for name, seq in synced.items():
        row = facts(name, synced_seq=seq, written_at=core.store.now_us())
        await connection.write_node(name, to_row(row))
    await connection.close()


def oldest(database: FakeDatabase) -> int | None:
    rows = database.shown.rows
    return rows[0].first_seq if rows else None


def test_what_is_old_goes_and_what_is_young_stays(tmp_path: Path, batches: list[Received]) -> None:
    directory = make_node(tmp_path / "two")

    async def main() -> None:
        database = FakeDatabase()
        async with open_node(directory) as core, trio.open_nursery() as nursery:
            await fill(core, database, batches)
            last_seq = core.store.last_seq
            first = batches[0]
            # The log's last record is 40 hours younger than its first.
            await trio.sleep(
                max(0, core.store.record(first.last_seq).time_us / 1e6 - core.store.now_us() / 1e6)
            )
            await trio.sleep(30 * 3600)
            await says(database, core, one=last_seq, two=last_seq)
            tail = Tail(database.table(), core.store, tail_hours=lambda: 24)
            await nursery.start(tail.run)
            parts = len(database.shown.parts)
            await trio.sleep(FIRST_SECONDS + 1)
            until_us = core.store.now_us() - 24 * HOUR_US
            young = next(b for b in batches if core.store.record(b.last_seq).time_us > until_us - 2_000_000)
            assert first.first_seq < young.first_seq < last_seq
            assert oldest(database) == young.first_seq
            assert len(database.shown.parts) < parts
            assert tail.octets == 4 * len(database.shown.rows)
            assert tail.held_by == []
            # And nothing more without news of them: two nodes must have been seen.
            await trio.sleep(60 * 3600)
            assert oldest(database) is not None
            assert tail.held_by == ["0 of the nodes were seen in 24 hours, and two at least must have them"]
            nursery.cancel_scope.cancel()

    run(main)


def test_a_node_that_does_not_get_on_keeps_them(
    tmp_path: Path, batches: list[Received], caplog: pytest.LogCaptureFixture
) -> None:
    directory = make_node(tmp_path / "two")
    caplog.set_level(logging.INFO, "relay.nodes.tail")

    async def main() -> None:
        database = FakeDatabase()
        async with open_node(directory) as core, trio.open_nursery() as nursery:
            await fill(core, database, batches)
            last_seq = core.store.last_seq
            await trio.sleep(300 * 3600)
            kept = batches[2].first_seq
            await says(database, core, one=last_seq, two=last_seq, three=kept - 1)
            tail = Tail(database.table(), core.store, tail_hours=lambda: 24)
            await nursery.start(tail.run)
            await trio.sleep(FIRST_SECONDS + 1)
            assert oldest(database) == kept
            assert tail.held_by == [f"node three has them up to sequence {kept - 1} on its disk"]
            assert "node.tail_held" in caplog.text
            await says(database, core, one=last_seq, two=last_seq, three=last_seq)
            await trio.sleep(PERIOD_SECONDS)
            # All but the part that is written to, and it is empty.
            assert (oldest(database), tail.held_by, tail.octets) == (None, [], 0)
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("name", ["keep", "begin_part", "drop_through", "octets", "nodes"])
def test_what_fails_is_tried_again_and_no_part_is_begun_for_nothing(
    tmp_path: Path, batches: list[Received], name: str
) -> None:
    directory = make_node(tmp_path / "two")

    async def main() -> None:
        database = FakeDatabase()
        async with open_node(directory) as core, trio.open_nursery() as nursery:
            await fill(core, database, batches)
            last_seq = core.store.last_seq
            await trio.sleep(300 * 3600)
            await says(database, core, one=last_seq, two=last_seq)
            failed: list[str] = []

            def choose(_number: int, statement: str, _table: FakeTable) -> Outcome:
                if statement == name and len(failed) < 3:
                    failed.append(name)
                    return Outcome.REFUSED if name == "keep" else Outcome.CUT_BEFORE
                return Outcome.ANSWERED

            database.choose = choose
            begun = database.statements.count("begin_part")
            tail = Tail(database.table(), core.store, tail_hours=lambda: 24)
            await nursery.start(tail.run)
            await trio.sleep(FIRST_SECONDS + 400)
            assert len(failed) == 3
            assert (oldest(database), tail.octets) == (None, 0)
            again = 3 if name == "begin_part" else 0
            assert database.statements.count("begin_part") == begun + 1 + again
            nursery.cancel_scope.cancel()

    run(main)
