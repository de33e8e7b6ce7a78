"""One machine's log becomes that of several, and back: at each moment one machine at most may append."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
import trio

from relay.config import CONFIG_FILE, ConfigError, load_config
from relay.config_nodes import NODE_FILE, without_nodes
from relay.core import open_core
from relay.events import MemberAdded
from relay.file_names import LOG_DIRECTORY
from relay.message.key_files import KeyFileError
from relay.nodes import certificates
from relay.nodes.founding import LEFT_FILE, Founded, Left, found, leave
from relay.refusals import Refusal
from relay.store import open_store
from relay.surroundings import Surroundings
from spool.errors import LockedError, LogFollowsError
from spool.mark import MARK_NAME
from spool.record import CHAIN_START
from spool.replicated.table import HOLDER_OCTETS, Head, TableError, UnknownOutcomeError
from tests.world.outcomes import Outcome
from tests.world.relay import DID, OTHER_DID, call_here, make_directory, run
from tests.world.servers import put_node
from tests.world.table import FakeDatabase

NOW = datetime(2026, 11, 30, tzinfo=UTC)
NODE = 'name = "one"\nbind = "127.0.0.1:0"\naddress = "127.0.0.1:8443"\ndatabase = "host=/run/postgresql"\n'
SURROUNDINGS = Surroundings(offload=call_here)
NOBODY = bytes(HOLDER_OCTETS)


async def one_machine(directory: Path, *dids: str) -> Path:
    """That has been a relay of its own."""
    made = make_directory(directory)
    async with open_core(made, SURROUNDINGS) as core:
        for did in dids:
            await core.store.append([MemberAdded(did=did)])
    return made


def make_node(directory: Path) -> None:
    """What docs/NODES.md says to write."""
    path = directory / CONFIG_FILE
    path.write_text(path.read_text() + "\n[nodes]\n# Ours.\ntail_hours = 5\n")
    (directory / NODE_FILE).write_text(NODE)


async def founded(directory: Path, database: FakeDatabase, *, discard: bool = False) -> Founded:
    return await found(directory, database.table(), discard=discard, now=NOW, surroundings=SURROUNDINGS)


async def left(directory: Path, database: FakeDatabase | None) -> Left:
    return await leave(directory, None if database is None else database.table(), surroundings=SURROUNDINGS)


async def raises(error: type[Exception], call: Callable[[], Awaitable[object]], match: str) -> None:
    with pytest.raises(error, match=match):
        await call()


def test_the_tables_begin_where_the_log_ends(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID, OTHER_DID)
        make_node(directory)
        assert await founded(directory, database) == Founded(2, already=False)
        head = database.shown.head
        assert head is not None
        assert (head.epoch, head.holder, head.last_seq) == (NOW.timestamp(), NOBODY, 2)
        assert database.shown.rows == []
        async with open_store(directory, load_config(directory), SURROUNDINGS) as store:
            assert store.of_several_machines.last_chain == head.chain
            assert store.of_several_machines.follows
        assert certificates.authority(directory)

    run(story)


def test_a_log_that_is_empty(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = make_directory(tmp_path / "data")
        make_node(directory)
        assert await founded(directory, database) == Founded(0, already=False)
        assert database.shown.head == Head(int(NOW.timestamp()), NOBODY, 0, CHAIN_START)

    run(story)


def test_it_is_not_opened_as_one_machine_s_any_more(tmp_path: Path) -> None:
    async def story() -> None:
        directory = await one_machine(tmp_path / "data", DID)
        before = (directory / CONFIG_FILE).read_text()
        make_node(directory)
        await founded(directory, FakeDatabase(head=None))
        # As if somebody undid it by hand.
        (directory / CONFIG_FILE).write_text(before)
        with pytest.raises(ConfigError, match=r"has no \[nodes\]"):
            load_config(directory)
        (directory / NODE_FILE).unlink()
        with pytest.raises(LogFollowsError, match="a log that several machines have"):
            async with open_core(directory, SURROUNDINGS):
                pass

    run(story)


def test_a_directory_that_is_to_be_no_node(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        await raises(Refusal, lambda: founded(directory, database), r"has no \[nodes\]: docs/NODES\.md")
        assert database.shown.head is None
        assert not (directory / LOG_DIRECTORY / MARK_NAME).exists()

    run(story)


def test_while_a_relay_has_the_directory(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        async with open_store(directory, load_config(directory), SURROUNDINGS):
            for call in (founded, left):
                with pytest.raises(LockedError):
                    await call(directory, database)
        assert database.shown.head is None

    run(story)


@pytest.mark.parametrize(
    ("before", "after"),
    [(7, NOW.timestamp()), (1 << 40, (1 << 40) + 1), ((1 << 63) - 1, NOW.timestamp())],
)
def test_epochs_go_on_from_those_that_are_thrown_away(tmp_path: Path, before: int, after: int) -> None:
    async def story() -> None:
        database = FakeDatabase(head=Head(before, b"h" * HOLDER_OCTETS, 40, b"c" * 32))
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database, discard=True)
        assert database.shown.head is not None
        assert (database.shown.head.epoch, database.shown.head.holder) == (after, NOBODY)

    run(story)


def test_a_database_that_has_a_log_is_named_before_it_goes(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=Head(7, b"h" * HOLDER_OCTETS, 40, b"c" * 32))
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await raises(
            Refusal,
            lambda: founded(directory, database),
            "up to sequence 40: 39 events more .* --discard NAME",
        )
        assert database.shown.head == Head(7, b"h" * HOLDER_OCTETS, 40, b"c" * 32)
        assert await founded(directory, database, discard=True) == Founded(1, already=False)
        assert database.shown.head is not None
        assert database.shown.head.last_seq == 1

    run(story)


def test_done_again_it_finds_what_it_made(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database)
        assert await founded(directory, database) == Founded(1, already=True)
        assert database.shown.head is not None
        assert database.shown.head.last_seq == 1
        assert database.shown.head.holder == bytes(HOLDER_OCTETS), "nobody leads by them yet"

    run(story)


@pytest.mark.parametrize(
    "outcome",
    [outcome for outcome in Outcome if outcome not in (Outcome.ANSWERED, Outcome.EMPTIED_BEFORE)],
    ids=lambda outcome: outcome.name,
)
def test_whatever_becomes_of_it_it_can_be_done_again(tmp_path: Path, outcome: Outcome) -> None:
    """Then the tables are there, on more than one server."""

    async def story() -> None:
        database = FakeDatabase(head=None)
        database.choose = lambda number, name, table: (
            outcome if name == "found" and database.statements.count("found") == 1 else Outcome.ANSWERED
        )
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        try:
            await founded(directory, database)
        except TableError:
            database.mend()
            await founded(directory, database)
        database.servers.fail_over()
        assert database.shown.head is not None
        assert database.shown.head.last_seq == 1

    run(story)


# ------------------------------------------------------------------------------------------------ leaving


def test_back_to_one_machine(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        before = load_config(directory)
        make_node(directory)
        await founded(directory, database)
        assert await left(directory, database) == Left(1, tables_dropped=True)
        assert database.shown.head is None
        assert load_config(directory) == before
        assert (directory / LEFT_FILE).read_text() == NODE
        async with open_core(directory, SURROUNDINGS) as core:
            await core.store.append([MemberAdded(did=OTHER_DID)])
            assert core.store.last_seq == 2

    run(story)


def test_a_node_that_lacks_something_does_not_leave(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database)
        ahead = Head(2, b"h" * HOLDER_OCTETS, 5, b"c" * 32)
        database.servers.primary.write(lambda tables: setattr(tables, "head", ahead))
        await raises(
            Refusal, lambda: left(directory, database), "is at sequence 5, and this directory's at 1"
        )
        assert load_config(directory).nodes is not None
        assert database.shown.head == ahead

    run(story)


def test_while_another_relay_runs_nobody_leaves(tmp_path: Path) -> None:
    """It writes its row each second; a node that is away does not."""

    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database)
        head = database.shown.head
        database.servers.primary.write(put_node("gone", {"written_at": 1}))

        async def work() -> None:
            for second in count():
                database.servers.primary.write(put_node("two", {"written_at": second}))
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await raises(Refusal, lambda: left(directory, database), "relays that run still: two. Stop them")
            assert database.shown.head == head
            nursery.cancel_scope.cancel()
        await left(directory, database)
        assert database.shown.head is None

    run(story)


def test_a_node_whose_log_has_parted_does_not_leave(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database)
        for parted in (Head(2, NOBODY, 1, b"c" * 32), Head(2, NOBODY, 0, CHAIN_START)):
            database.servers.primary.write(lambda tables, head=parted: setattr(tables, "head", head))
            await raises(Refusal, lambda: left(directory, database), "they have parted")

    run(story)


def test_a_database_that_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, FakeDatabase(head=None))
        assert await left(directory, None) == Left(1, tables_dropped=False)
        assert load_config(directory).nodes is None

    run(story)


def test_a_database_that_does_not_answer_is_not_gone(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database)
        database.choose = lambda number, name, table: Outcome.CUT_BEFORE
        await raises(TableError, lambda: left(directory, database), "the connection|no host")
        assert load_config(directory).nodes is not None
        assert (directory / LOG_DIRECTORY / MARK_NAME).exists()

    run(story)


def test_where_it_is_not_known_what_became_of_the_tables(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database)
        database.choose = lambda number, name, table: (
            Outcome.CUT_AFTER if name == "discard" else Outcome.ANSWERED
        )
        await raises(UnknownOutcomeError, lambda: left(directory, database), "the connection|no host")
        assert load_config(directory).nodes is not None
        assert await left(directory, database) == Left(1, tables_dropped=False)
        assert load_config(directory).nodes is None

    run(story)


@pytest.mark.parametrize("step", ["part", "_replace", "_put_away"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_step_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    """At each of them the log is of several machines, with nobody who could lead, or this one's alone."""

    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        await founded(directory, database)
        with monkeypatch.context() as patch:
            kill_at(patch, step, when)
            with pytest.RaisesGroup(Killed, flatten_subgroups=True, allow_unwrapped=True):
                await left(directory, database)
        assert database.shown.head is None
        if (step, when) != ("_put_away", "after"):
            await left(directory, database)
        assert load_config(directory).nodes is None
        assert not (directory / NODE_FILE).exists()
        async with open_core(directory, SURROUNDINGS) as core:
            await core.store.append([MemberAdded(did=OTHER_DID)])

    run(story)


class Killed(BaseException):
    pass


def kill_at(patch: pytest.MonkeyPatch, step: str, when: str) -> None:
    import relay.nodes.founding as module
    from spool.log import Log

    of = Log if step == "part" else module
    whole = getattr(of, step)

    async def part(log: Log) -> None:
        if when == "after":
            await whole(log)
        raise Killed

    def other(*arguments: object) -> None:
        if when == "after":
            whole(*arguments)
        raise Killed

    patch.setattr(of, step, part if step == "part" else other)


def test_a_directory_that_is_no_node_does_not_leave(tmp_path: Path) -> None:
    async def story() -> None:
        directory = await one_machine(tmp_path / "data", DID)
        await raises(Refusal, lambda: left(directory, None), "is no node")

    run(story)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("a = 1\n[nodes]\n", "a = 1\n# [nodes]\n"),
        (
            "[nodes] # here\n\n# so\nb = 1\n[http]\nc = 2\n",
            "# [nodes] # here\n\n# so\n# b = 1\n[http]\nc = 2\n",
        ),
        ("[http]\nc = 2\n", "[http]\nc = 2\n"),
        ("[nodes]\nb = 1", "# [nodes]\n# b = 1"),
        ("nodes = { b = 1 }\n", None),
        ("nodes.b = 1\n", None),
        ("[ nodes ]\nb = 1\n", None),
        ('a = """\n[nodes]\n"""\n[nodes]\n', None),
    ],
)
def test_the_table_becomes_a_comment(text: str, changed: str | None) -> None:
    assert without_nodes(text) == changed


def test_a_relay_toml_that_is_not_understood_is_said_before_anything_is_done(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        directory = await one_machine(tmp_path / "data", DID)
        path = directory / CONFIG_FILE
        path.write_text("nodes = { tail_hours = 5 }\n" + path.read_text())
        (directory / NODE_FILE).write_text(NODE)
        await founded(directory, database)
        await raises(Refusal, lambda: left(directory, database), "write \\[nodes\\] as a table of its own")
        assert database.shown.head is not None

    run(story)


def test_the_authority_is_made_once(tmp_path: Path) -> None:
    async def story() -> None:
        directory = await one_machine(tmp_path / "data", DID)
        make_node(directory)
        with pytest.raises(KeyFileError):
            certificates.authority(directory)
        database = FakeDatabase(head=None)
        await founded(directory, database)
        made = certificates.authority(directory)
        await founded(directory, database)
        assert certificates.authority(directory) == made

    run(story)
