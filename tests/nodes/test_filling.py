"""A node's log is exchanged for another node's, whatever interrupts it, and only for the log that all agree on."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import trio

from relay.data_directory import check_may_write
from relay.file_names import FILLING_DIRECTORY, LOG_DIRECTORY, VIEWS_DIRECTORY
from relay.message.key_files import KeyFileError
from relay.nodes import filling
from relay.nodes.borrowing import OTHER_NODE, RemoteDisk, asking_from_thread
from relay.nodes.certificates import NodeCertificates
from relay.nodes.filling import borrow, check_with_table, fill
from relay.nodes.lending import PART_BYTES_MAX, Lending
from relay.nodes.links import open_links
from relay.nodes.words import ListFiles, Node, ReadFile
from relay.refusals import Refusal
from spool import LogReader, Received
from spool.backup.backup import back_up
from spool.backup.format import Manifest, check_files, read_manifest
from spool.errors import LockedError
from spool.mark import MARK_NAME
from spool.stripped import STRIPPED_NAME
from spool.verify.against import compare
from spool.verify.verify import verify_log
from tests.world.directories import contents, names_in
from tests.world.erasing import erase
from tests.world.filling import Source, late_node, make_source
from tests.world.machines import open_machines
from tests.world.receiving_nodes import agree, open_node
from tests.world.relay import call_here, open_world, run
from tests.world.removals import FRIEND
from tests.world.table import FakeDatabase


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_source(tmp_path_factory.mktemp("one") / "data")


def take(_manifest: Manifest) -> None:
    """Any backup will do."""


def disk_of(
    directory: Path, before: Callable[[ListFiles | ReadFile], None] = lambda _asked: None
) -> RemoteDisk:
    """Another node's files without a network. `before` is called before each question is answered."""
    lending = Lending(directory, call_here)

    def ask(question: ListFiles | ReadFile) -> bytes:
        before(question)
        if isinstance(question, ListFiles):
            return msgspec.msgpack.encode(trio.run(lending.names))
        return msgspec.msgpack.encode(trio.run(lending.part, question.name, question.offset, question.length))

    return RemoteDisk(ask)


def assert_filled(directory: Path, source: Source) -> None:
    log = directory / LOG_DIRECTORY
    assert not (directory / FILLING_DIRECTORY).exists()
    assert not (directory / filling.OVER).exists()
    assert verify_log(log).problems == []
    with LogReader(log) as ours, LogReader(source.directory / LOG_DIRECTORY) as theirs:
        found = compare(ours, theirs)
    assert found == (
        source.batches[-1].last_seq,
        source.batches[-1].last_seq,
        source.batches[-1].last_seq,
        None,
    )
    check_may_write(directory)


# ------------------------------------------------------------------------------------------------ what is lent


def test_only_the_log_and_its_secrets_are_lent(tmp_path: Path, source: Source) -> None:
    directory = tmp_path / "data"
    shutil.copytree(source.directory, directory)
    (directory / "log" / "00000000000000000009.seg").symlink_to(directory / "relay.toml")
    (directory / "keys" / "x.example").mkdir()
    (directory / "keys" / "x.example" / "NOT A KEY.pem").write_text("")
    lending = Lending(directory, call_here)

    async def main() -> None:
        names = await lending.names()
        assert "log/00000000000000000001.seg" in names
        assert "pepper" in names
        assert any(name.startswith("keys/") for name in names)
        assert not [name for name in names if "NOT" in name or "toml" in name or "lock" in name]
        for name in (
            "relay.toml",
            "log/../relay.toml",
            "log/lock",
            "keys/../pepper.pem",
            "keys/../../etc/x.pem",
            "/etc/passwd",
            "",
            "log/00000000000000000002.seg",
        ):
            assert await lending.part(name, 0, 10) is None, name
        with pytest.raises(OSError) as failed:
            await lending.part("log/00000000000000000009.seg", 0, 10)
        assert failed.value.errno == errno.ELOOP
        part = await lending.part("log/00000000000000000001.seg", 0, 2**31)
        assert part is not None
        assert len(part.octets) <= PART_BYTES_MAX
        assert part.size == (directory / "log" / "00000000000000000001.seg").stat().st_size
        beyond = await lending.part("log/00000000000000000001.seg", part.size, 10)
        assert beyond == part._replace(octets=b"")

    trio.run(main)


def test_another_nodes_log_is_read_as_ones_own(source: Source) -> None:
    with (
        LogReader(OTHER_NODE / LOG_DIRECTORY, disk=disk_of(source.directory)) as theirs,
        LogReader(source.directory / LOG_DIRECTORY) as ours,
    ):
        assert list(theirs.read(1)) == list(ours.read(1))
        assert compare(ours, theirs).first_different is None


def test_a_file_that_has_taken_the_place_of_another_is_not_read_on(tmp_path: Path, source: Source) -> None:
    directory = tmp_path / "data"
    shutil.copytree(source.directory, directory)
    disk = disk_of(directory)
    name = "00000000000000000001.seg"
    handle = disk.open_read(OTHER_NODE / LOG_DIRECTORY / name)
    assert disk.read(handle, 8, 0)
    path = directory / LOG_DIRECTORY / name
    shutil.copy(path, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    with pytest.raises(OSError, match="was rewritten meanwhile") as failed:
        disk.read(handle, 8, 0)
    assert failed.value.errno == errno.ESTALE
    disk.close(handle)
    with pytest.raises(FileNotFoundError):
        disk.open_read(OTHER_NODE / LOG_DIRECTORY / "00000000000000000002.seg")


def test_nodes_that_say_strange_things_are_not_believed(tmp_path: Path) -> None:
    for answer in (b"", b"\xc1", msgspec.msgpack.encode("a name"), msgspec.msgpack.encode([b"", 1])):
        disk = RemoteDisk(lambda _question, answer=answer: answer)
        with pytest.raises(OSError, match="cannot be read"):
            disk.names()
        with pytest.raises(OSError, match="cannot be read"):
            disk.open_read(OTHER_NODE / "pepper")
    for name in ("../pepper", "keys/../pepper.pem", "/etc/passwd", "log/lock", "relay.toml"):
        disk = RemoteDisk(lambda _question, name=name: msgspec.msgpack.encode(["pepper", name]))
        with pytest.raises(OSError, match="with a name that none has"):
            disk.names()
    disk = RemoteDisk(lambda _question: msgspec.msgpack.encode((b"tag", 5, b"more than was asked")))
    with pytest.raises(OSError, match="more of a file"):
        disk.open_read(OTHER_NODE / "pepper")


def test_a_copy_over_the_door_is_a_backup_and_goes_on_where_it_was_broken_off(
    tmp_path: Path, source: Source
) -> None:
    into = tmp_path / "backup"

    class CutError(OSError):
        pass

    for cut_at in range(1, 200):
        asked = 0

        def before(_question: object, cut_at: int = cut_at) -> None:
            nonlocal asked
            asked += 1
            if asked == cut_at:
                raise CutError(errno.EIO, "the network is cut")

        disk = disk_of(source.directory, before)
        try:
            borrow(OTHER_NODE, disk, disk.names, into, None)
        except CutError:
            continue
        break
    else:
        raise AssertionError("it never ends")
    assert cut_at > 5
    assert check_files(into) == []
    names = {file.name for file in read_manifest(into).files}
    assert names == {*source.key_names(), "pepper", "log/00000000000000000001.seg"}


def test_what_is_rewritten_while_it_is_copied_is_copied_again(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    into = tmp_path / "backup"

    async def main() -> None:
        async with open_world(directory) as world:
            for _ in range(2):
                await world.until_final(await world.send(to=FRIEND))
            await world.core.store.erase_payloads(())
            await erase(world, recipient="nobody@example.com")
        shutil.copytree(directory, tmp_path / "other")

    run(main)

    async def strip() -> None:
        async with open_world(tmp_path / "other", enrol=False) as world:
            await erase(world, recipient=FRIEND)

    run(strip)
    stripped = tmp_path / "other" / LOG_DIRECTORY
    asked = 0

    def before(question: object) -> None:
        nonlocal asked
        asked += isinstance(question, ReadFile)
        if asked == 6:
            # The node has erased it by now.
            asked += 1
            for path in sorted(stripped.glob("*.seg")):
                shutil.copy(path, directory / LOG_DIRECTORY / f"{path.name}.tmp")
                os.replace(
                    directory / LOG_DIRECTORY / f"{path.name}.tmp", directory / LOG_DIRECTORY / path.name
                )

    disk = disk_of(directory, before)
    borrow(OTHER_NODE, disk, disk.names, into, None)
    assert asked > 7
    assert check_files(into) == []
    assert not names_in(into, FRIEND)


# ------------------------------------------------------------------------------------------------ the exchange


def test_it_is_filled_whatever_step_it_is_killed_at(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = filling.exchange

    class KilledError(Exception):
        pass

    steps = 0
    while True:
        steps += 1
        directory = late_node(tmp_path / f"{steps}", source)

        def killed(directory: Path, steps: int = steps) -> object:
            for number, _ in enumerate(exchange(directory), 1):
                yield
                if number == steps:
                    raise KilledError

        monkeypatch.setattr(filling, "exchange", killed)
        try:
            fill(directory, copy=source.copy, check=take)
        except KilledError:
            over = not (directory / FILLING_DIRECTORY).exists()
            if not over:
                with pytest.raises(Refusal, match=r"has not ended: run the same .* again$"):
                    check_may_write(directory)
        else:
            break
        monkeypatch.setattr(filling, "exchange", exchange)

        def not_again(_into: Path) -> Path:
            raise AssertionError("all of it is there already")

        fill(directory, copy=source.copy if over else not_again, check=take)
        assert_filled(directory, source)
    assert_filled(directory, source)
    assert steps == 8


def test_the_new_log_has_no_mark_no_progress_and_no_old_views(tmp_path: Path, source: Source) -> None:
    directory = late_node(tmp_path / "two", source)
    assert (directory / LOG_DIRECTORY / MARK_NAME).exists()
    (directory / LOG_DIRECTORY / STRIPPED_NAME).write_bytes(b"")
    assert fill(directory, copy=source.copy, check=take) == source.batches[-1].last_seq
    assert not (directory / LOG_DIRECTORY / MARK_NAME).exists()
    assert not (directory / LOG_DIRECTORY / STRIPPED_NAME).exists()
    assert not (directory / VIEWS_DIRECTORY).exists()
    assert_filled(directory, source)

    async def main() -> None:
        async with open_node(directory) as core:
            assert core.store.last_seq == source.batches[-1].last_seq
            assert core.own_stripping is not None
            assert core.own_stripping.through == 0

    run(main)


def test_keys_that_came_meanwhile_are_there_and_others_end_it(tmp_path: Path, source: Source) -> None:
    directory = late_node(tmp_path / "two", source)
    (missing,) = [name for name in source.key_names() if name.endswith("e.pem") and "other.example" in name]
    (directory / missing).unlink()
    fill(directory, copy=source.copy, check=take)
    assert (directory / missing).read_bytes() == (source.directory / missing).read_bytes()
    assert (directory / missing).stat().st_mode & 0o777 == 0o600
    (directory / missing).write_bytes(b"another key")
    with pytest.raises(KeyFileError, match="is another one than the other node's"):
        fill(directory, copy=source.copy, check=take)
    # The log is as it was.
    with LogReader(directory / LOG_DIRECTORY) as reader:
        assert len(list(reader.read(1))) == source.batches[-1].last_seq


def test_a_backup_without_secrets_is_not_enough(tmp_path: Path, source: Source) -> None:
    directory = late_node(tmp_path / "two", source)

    def copy(into: Path) -> Path:
        back_up(source.directory, into, log=LOG_DIRECTORY)
        return into

    with pytest.raises(Refusal, match="was made without secrets"):
        fill(directory, copy=copy, check=take)
    fill(directory, copy=lambda _into: source.copy(tmp_path / "backup"), check=take)
    assert_filled(directory, source)


def test_a_node_that_runs_is_not_filled(tmp_path: Path, source: Source) -> None:
    directory = late_node(tmp_path / "two", source)

    async def main() -> None:
        async with open_node(directory):
            before = contents(directory / LOG_DIRECTORY)
            with pytest.raises(LockedError):
                fill(directory, copy=source.copy, check=take)
            assert contents(directory / LOG_DIRECTORY) == before
            assert not (directory / FILLING_DIRECTORY).exists()

    run(main)


def test_only_the_log_that_all_agree_on_is_taken(tmp_path: Path, source: Source) -> None:
    manifest = read_manifest(source.copy(tmp_path / "backup"))
    *earlier, last = source.batches

    def judged(
        batches: Sequence[Received], drop_through: int = 0, manifest: Manifest = manifest
    ) -> str | None:
        refused: list[str] = []

        async def main() -> None:
            database = FakeDatabase()
            await agree(database, batches)
            if drop_through:
                database.drop_rows(drop_through)
            try:
                await check_with_table(database.table(), manifest)
            except Refusal as refusal:
                refused.append(str(refusal))

        run(main)
        return refused[0] if refused else None

    more = Received(last.last_seq + 1, last.chain, b"c" * 32, last.records[:1])
    yet_more = Received(more.last_seq + 1, more.chain, b"d" * 32, last.records[:1])
    assert judged(source.batches) is None
    assert judged([*source.batches, more], drop_through=last.last_seq) is None
    assert "of another relay, or the database was restored" in str(judged(earlier))
    assert "the database begins with sequence" in str(
        judged([*source.batches, more, yet_more], drop_through=more.last_seq)
    )
    other = msgspec.structs.replace(manifest, chain="00" * 32)
    assert "has another chain value" in str(judged(source.batches, manifest=other))
    assert "has another chain value" in str(judged([*source.batches, more], manifest=other))


# ------------------------------------------------------------------------------------------------ over the door


def test_a_node_is_filled_from_one_that_runs(tmp_path: Path) -> None:
    """With threads and TLS, so by the clock on the wall."""

    async def main() -> None:
        async with open_machines(tmp_path, "anna", "bert") as machines:
            leader = await machines.until_led()
            await leader.world.until_final(await leader.world.send(to=FRIEND))
            await machines.until_level()
            await erase(leader.world, recipient=FRIEND)
            away = next(machine for machine in machines.all if machine is not leader)
            await away.stop()
            shutil.rmtree(away.directory / LOG_DIRECTORY)
            machines.database.drop_rows(leader.seq)
            await leader.world.until_final(await leader.world.send(to="late@example.com"))

            certificates = NodeCertificates(away.directory, away.name, datetime.now(UTC))
            node = Node(leader.name, f"{leader.name}.machines.example", 1)
            async with open_links(certificates, away._open_stream) as links:
                disk = RemoteDisk(asking_from_thread(links, node))

                def copy(into: Path) -> Path:
                    borrow(OTHER_NODE, disk, disk.names, into, None)
                    return into

                def check(manifest: Manifest) -> None:
                    trio.from_thread.run(check_with_table, away.table, manifest)

                def work() -> int:
                    return fill(away.directory, copy=copy, check=check)

                assert await trio.to_thread.run_sync(work) > 0
            assert not names_in(away.directory, FRIEND)
            await away.begin()
            await machines.until_level()
            await machines.until(lambda: away.seq >= leader.seq)

    trio.run(main)
