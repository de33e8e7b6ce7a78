"""A node is added with a file and a code, and begins with a directory that can be served."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import trio

from relay.config import CONFIG_FILE, ConfigError, load_config, load_node
from relay.core import open_core
from relay.file_names import LOG_DIRECTORY
from relay.message.key_files import KeyFileError, read_peppers
from relay.message.keys import KeyRing, make_pepper
from relay.nodes import certificates
from relay.nodes.bundle import Bundle, open_bundle, seal_bundle, write_secrets
from relay.nodes.database import conninfo_of
from relay.nodes.facts import from_row, invited, read_rows, to_row
from relay.nodes.joining import add, join, remove
from relay.nodes.members import members_in
from relay.refusals import Refusal
from relay.store import open_store
from spool.backup.backup import back_up
from spool.errors import BackupError
from spool.replicated.table import HOLDER_OCTETS, Head, Row
from tests.nodes.test_facts import facts
from tests.nodes.test_founding import SURROUNDINGS, Killed, founded, make_node, one_machine
from tests.world.directories import contents
from tests.world.relay import DID, OPERATOR_DOMAIN, OTHER_DID, make_directory, run
from tests.world.table import DATABASE_EPOCH_US, FakeDatabase

NOW = datetime.now(UTC)
CONNINFO = "host=a,b,c dbname=relay password=hunter2"


async def a_node(directory: Path, database: FakeDatabase, *dids: str) -> Path:
    await one_machine(directory, *dids)
    make_node(directory)
    await founded(directory, database)
    return directory


async def added(directory: Path, database: FakeDatabase, name: str = "two") -> Bundle:
    file, code = await add(directory, database.table(), CONNINFO, name, NOW)
    return open_bundle(file, code)


async def joined(
    directory: Path, bundle: Bundle, database: FakeDatabase, *, backup: Path | None = None
) -> int:
    return await join(
        directory, bundle, database.table(), bind="0.0.0.0:8443", address="two.example:8443", backup=backup
    )


def backed_up(directory: Path, destination: Path, *, secrets: bool = True) -> Path:
    destination.mkdir(mode=0o700)
    others = [
        str(path.relative_to(directory))
        for path in [
            *sorted((directory / "keys").glob("*/*.pem")),
            directory / "pepper",
            directory / CONFIG_FILE,
        ]
    ]
    chosen = others if secrets else [CONFIG_FILE]
    back_up(directory, destination, log=LOG_DIRECTORY, others=lambda: chosen)
    return destination


# ------------------------------------------------------------------------------------------------ the bundle


def bundle(**more: object) -> Bundle:
    given: dict[str, object] = {
        "name": "two",
        "relay_toml": "",
        "database": CONNINFO,
        "peppers": {1: b"p" * 32},
        "keys": {"a.example/atmos20260101r": b"pem"},
        "authority": b"ca",
        "own": b"own",
    }
    return msgspec.convert(given | more, Bundle)


def test_the_code_opens_the_file_and_nothing_else_does() -> None:
    file, code = seal_bundle(bundle(), os.urandom)
    assert open_bundle(file, code) == bundle()
    assert open_bundle(file, f" {code.upper().replace('-', ' ')}\n") == bundle()
    for secret in (b"p" * 32, b"hunter2", b"pem"):
        assert secret not in file
    _, other = seal_bundle(bundle(), os.urandom)
    altered = file[:-1] + bytes([file[-1] ^ 1])
    for wrong in (other, "", "xyz", code[:-1], code + "é"):
        with pytest.raises(Refusal, match="the code does not open this file"):
            open_bundle(file, wrong)
    with pytest.raises(Refusal, match="the code does not open this file"):
        open_bundle(altered, code)


@pytest.mark.parametrize("file", [b"", b"ATMOSNODE1\n", b"[nodes]\n" * 20, b"ATMOSNODE2\n" + b"x" * 90])
def test_what_is_no_bundle(file: bytes) -> None:
    with pytest.raises(Refusal, match="no file that `node add` has made"):
        open_bundle(file, "aaaa")


@pytest.mark.parametrize(
    "more",
    [
        {"keys": {"../../etc/atmos": b"x"}},
        {"keys": {"a.example/../x": b"x"}},
        {"keys": {"a.example": b"x"}},
        {"keys": {"A.example/atmos": b"x"}},
        {"peppers": {0: b"p" * 32}},
        {"peppers": {1: b"p" * 31}},
        {"peppers": {10**7: b"p" * 32}},
    ],
)
def test_no_name_in_it_leads_out_of_the_directory(more: dict[str, object]) -> None:
    with pytest.raises(Refusal, match="the bundle"):
        open_bundle(*seal_bundle(bundle(**more), os.urandom))


def test_its_secrets_are_not_in_a_repr() -> None:
    assert repr(bundle()) == "<Bundle for two>"


# ------------------------------------------------------------------------------------------------ adding


def test_a_node_that_is_added_has_what_this_one_has(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID)
        make_pepper(one, 2)
        made = await added(one, database)
        assert (made.name, made.database) == ("two", CONNINFO)
        assert made.relay_toml == (one / CONFIG_FILE).read_text()
        assert made.peppers == read_peppers(one)
        assert f"{OPERATOR_DOMAIN}/atmos20260101r" in made.keys
        assert made.authority == certificates.authority(one)
        rows = await (await database.table().connect()).nodes()
        assert from_row("two", rows["two"]) == invited("two", certificates.identity_of(made.own))

    run(story)


def test_it_can_be_added_again_until_it_has_run(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID)
        await added(one, database)
        await added(one, database)
        connection = await database.table().connect()
        await connection.write_node("two", to_row(facts("two")))
        with pytest.raises(Refusal, match="there is a node two already"):
            await added(one, database)

    run(story)


def test_a_name_that_is_none(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID)
        for name in ("", "Two", "../x", "a" * 33):
            with pytest.raises(Refusal, match="name: expected"):
                await added(one, database, name)

    run(story)


# ------------------------------------------------------------------------------------------------ joining


def test_a_node_joins_with_an_empty_log_where_the_database_has_all(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database)
        made = await added(one, database)
        two = tmp_path / "two"
        assert await joined(two, made, database) == 0
        config, own = load_config(two), load_node(two)
        assert config == load_config(one)
        assert (own.name, own.bind, own.address) == ("two", "0.0.0.0:8443", "two.example:8443")
        assert conninfo_of(two, own) == CONNINFO
        assert read_peppers(two) == read_peppers(one)
        ours, theirs = (KeyRing(each).signers(OPERATOR_DOMAIN, "atmos20260101") for each in (one, two))
        assert [key.public_key for key in ours] == [key.public_key for key in theirs]
        assert certificates.authority(two) == certificates.authority(one)
        for path in two.rglob("*"):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
        async with open_store(two, config, SURROUNDINGS) as store:
            assert store.of_several_machines.follows

    run(story)


def test_a_node_does_not_join_without_what_the_database_has_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID)
        made = await added(one, database)
        with pytest.raises(
            Refusal, match="has no rows any more, and this directory needs all after 0: name a node"
        ):
            await joined(tmp_path / "two", made, database)
        assert not (tmp_path / "two").exists()

    run(story)


def test_a_node_joins_with_another_one_s_backup(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID, OTHER_DID)
        backup = await trio.to_thread.run_sync(backed_up, one, tmp_path / "backup")
        make_pepper(one, 2)
        made = await added(one, database)
        two = tmp_path / "two"
        assert await joined(two, made, database, backup=backup) == 2
        assert read_peppers(two) == read_peppers(one)
        async with open_store(two, load_config(two), SURROUNDINGS) as store:
            assert store.last_seq == 2
            assert store.of_several_machines.last_chain == database.shown.head.chain  # type: ignore[union-attr]

    run(story)


@pytest.mark.parametrize(
    ("oldest", "fits"), [(None, False), (2, True), (3, True), (4, False)], ids=["none", "2", "3", "4"]
)
def test_the_rows_begin_where_the_backup_ends(tmp_path: Path, oldest: int | None, fits: bool) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID, OTHER_DID)
        backup = await trio.to_thread.run_sync(backed_up, one, tmp_path / "backup")
        made = await added(one, database)
        rows = [Row(seq, seq, 2, b"", b"", b"", b"") for seq in range(oldest, 10)] if oldest else []
        database.servers.primary.write(lambda tables: tables.rows.extend(rows))
        ahead = Head(2, bytes(HOLDER_OCTETS), 9, b"c" * 32)
        database.servers.primary.write(lambda tables: setattr(tables, "head", ahead))
        if fits:
            assert await joined(tmp_path / "two", made, database, backup=backup) == 2
        else:
            with pytest.raises(Refusal, match="this directory needs all after 2"):
                await joined(tmp_path / "two", made, database, backup=backup)

    run(story)


def test_a_backup_of_another_relay(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID, OTHER_DID)
        made = await added(one, database)
        other = await one_machine(tmp_path / "other", DID)
        (other / "pepper").unlink()
        (other / "pepper").write_bytes(b"x" * 32)
        (other / "pepper").chmod(0o600)
        backup = await trio.to_thread.run_sync(backed_up, other, tmp_path / "backup")
        database.servers.primary.write(lambda tables: tables.rows.append(Row(2, 2, 2, b"", b"", b"", b"")))
        with pytest.raises(
            KeyFileError, match="pepper: is there already, and is another one than the bundle's"
        ):
            await joined(tmp_path / "two", made, database, backup=backup)
        with pytest.raises(Refusal, match="has not ended"):
            async with open_core(tmp_path / "two", SURROUNDINGS):
                pass

    run(story)


def test_a_backup_without_secrets(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID)
        made = await added(one, database)
        backup = await trio.to_thread.run_sync(lambda: backed_up(one, tmp_path / "backup", secrets=False))
        with pytest.raises(Refusal, match="was made without secrets"):
            await joined(tmp_path / "two", made, database, backup=backup)

    run(story)


def test_a_backup_that_is_ahead_of_the_database(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database, DID, OTHER_DID)
        made = await added(one, database)
        backup = await trio.to_thread.run_sync(backed_up, one, tmp_path / "backup")
        behind = Head(2, bytes(HOLDER_OCTETS), 1, b"c" * 32)
        database.servers.primary.write(lambda tables: setattr(tables, "head", behind))
        with pytest.raises(
            Refusal, match="the backup goes up to sequence 2, and the log of all nodes up to 1"
        ):
            await joined(tmp_path / "two", made, database, backup=backup)

    run(story)


def test_killed_anywhere_it_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between two files: `os.link` is how each comes to be."""

    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database)
        made = await added(one, database)
        link, two, left = os.link, tmp_path / "two", 0

        def killed(*arguments: str | Path) -> None:
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            link(*arguments)

        kills = 0
        while not (two / CONFIG_FILE).exists():
            left = 1  # one file more each time
            with monkeypatch.context() as patch, suppress(Killed):
                patch.setattr(os, "link", killed)
                await joined(two, made, database)
                break
            kills += 1
            # An empty one may become anything.
            with pytest.raises(ConfigError, match=r"`node join`.* give that command again|`atmos-relay init"):
                load_config(two)
        assert kills >= 6
        assert load_config(two) == load_config(one)
        with pytest.raises(Refusal, match="is the node two already; nothing was changed"):
            await joined(two, made, database)

    run(story)


def test_a_directory_that_holds_something_else(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database)
        made = await added(one, database)
        two = make_directory(tmp_path / "two")
        with pytest.raises(Refusal, match="is a data directory already; nothing was changed"):
            await joined(two, made, database)
        three = tmp_path / "three"
        three.mkdir()
        (three / "thesis.txt").write_text("x")
        before = contents(three)
        with pytest.raises(Refusal, match="is not empty"):
            await joined(three, made, database)
        assert contents(three) == before
        backup = await trio.to_thread.run_sync(backed_up, one, tmp_path / "backup")
        with pytest.raises((Refusal, BackupError), match="is not empty"):
            await joined(three, made, database, backup=backup)

    run(story)


@pytest.mark.parametrize("address", ['two.example:8443"\nname = "one', "two.example\\x:1", "two", "two:0"])
def test_what_cannot_be_an_address(tmp_path: Path, address: str) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database)
        made = await added(one, database)
        with pytest.raises((Refusal, ConfigError), match="address"):
            await join(tmp_path / "two", made, database.table(), bind="0.0.0.0:1", address=address)
        assert not (tmp_path / "two").exists()

    run(story)


# ------------------------------------------------------------------------------------------------ removing


def test_a_node_that_is_silent_is_removed(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        await a_node(tmp_path / "one", database)
        connection = await database.table().connect()
        silent = facts("two", identity="2a", written_at=DATABASE_EPOCH_US - 61_000_000)
        await connection.write_node("two", to_row(silent))
        await connection.write_node("three", {"what": "?"})
        await connection.write_node("four", to_row(invited("four")))
        for name in ("two", "three", "four"):
            await remove(database.table(), name)
        rows = await connection.nodes()
        assert (read_rows(rows), members_in(rows).identities) == ([], {})
        with pytest.raises(
            Refusal, match="there is no node two any more: it was removed at 2023-11-14T22:13"
        ):
            await remove(database.table(), "two")
        with pytest.raises(Refusal, match=r"there is no node three$"):
            await remove(database.table(), "three")

    run(story)


def test_a_node_that_is_at_work_is_not_removed(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        await a_node(tmp_path / "one", database)
        connection = await database.table().connect()
        await connection.write_node("two", to_row(facts("two", written_at=DATABASE_EPOCH_US - 1_000_000)))
        with pytest.raises(Refusal, match="two is at work: its last word is 1 s old"):
            await remove(database.table(), "two")
        assert "two" in await connection.nodes()

    run(story)


def test_what_was_added_before_a_removal_joins_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database)
        before = await added(one, database)
        await remove(database.table(), "two")
        with pytest.raises(Refusal, match="two: this node was removed from the relay at 2023-11-14T22:13"):
            await joined(tmp_path / "two", before, database)
        assert not (tmp_path / "two").exists()
        again = await added(one, database)
        with pytest.raises(Refusal, match="two: this node was removed"):
            await joined(tmp_path / "two", before, database)
        assert await joined(tmp_path / "two", again, database) == 0
        own = (tmp_path / "two" / "node" / "own.pem").read_bytes()
        rows = await (await database.table().connect()).nodes()
        assert members_in(rows).have("two", certificates.identity_of(own))
        assert not members_in(rows).have("two", certificates.identity_of(before.own))

    run(story)


def test_of_two_bundles_the_later_one_counts(tmp_path: Path) -> None:
    """Also in a directory that was begun with the other, and not finished."""

    async def story() -> None:
        database = FakeDatabase(head=None)
        one = await a_node(tmp_path / "one", database)
        first, second = await added(one, database), await added(one, database)
        with pytest.raises(Refusal, match="two: another machine is the node of this name"):
            await joined(tmp_path / "two", first, database)
        (tmp_path / "two").mkdir()
        write_secrets(first, tmp_path / "two")
        await joined(tmp_path / "two", second, database)
        assert (tmp_path / "two" / "node" / "own.pem").read_bytes() == second.own

    run(story)
