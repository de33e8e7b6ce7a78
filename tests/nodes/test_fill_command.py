"""`node fill` and `log verify --against`, as they are typed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from trio.testing import MockClock

from relay.data_directory import check_may_write
from relay.file_names import FILLING_DIRECTORY
from relay.nodes import database
from relay.nodes.trouble import in_words
from relay.refusals import Refusal
from spool.errors import LogDeposedError, LogPoisonedError, LostRowsError, TailGoneError
from spool.replicated.table import Table
from tests.world.filling import Source, late_node, make_source
from tests.world.receiving_nodes import agree
from tests.world.relay import DID, DOMAIN
from tests.world.table import FakeDatabase
from tools.cli import _explain_group, cli


def typed(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return make_source(tmp_path_factory.mktemp("one") / "data")


@pytest.fixture
def agreed(source: Source, monkeypatch: pytest.MonkeyPatch) -> FakeDatabase:
    """The database that all directories name."""
    fake = FakeDatabase()
    trio.run(agree, fake, source.batches, clock=MockClock(autojump_threshold=0))

    def open_table(*_: object) -> Table:
        return fake.table()

    monkeypatch.setattr(database, "open_table", open_table)
    return fake


def test_a_node_is_filled_from_a_backup(tmp_path: Path, source: Source, agreed: FakeDatabase) -> None:
    directory = late_node(tmp_path / "two", source)
    backup = source.copy(tmp_path / "backup")
    last = source.batches[-1].last_seq
    done = typed("node", "fill", directory, "--from", backup)
    assert done.exit_code == 0, done.output
    assert f"{directory} has the log up to sequence {last}." in done.output
    assert f"atmos-relay serve {directory}" in done.output
    compared = typed("log", "verify", directory, "--against", source.directory)
    assert f"they are one log up to sequence {last}" in compared.output
    assert compared.exit_code == 0
    again = typed("node", "fill", directory, "--from", backup, "--json")
    assert json.loads(again.output) == {"directory": str(directory), "lastSeq": last}


def test_a_backup_of_another_relay_is_refused_and_nothing_is_changed(
    tmp_path: Path,
    source: Source,
    agreed: FakeDatabase,
) -> None:
    directory = late_node(tmp_path / "two", source)
    other = late_node(tmp_path / "other", source, batches=2)
    agreed.drop_rows(source.batches[-1].first_seq - 1)
    backup = Source(other, []).copy(tmp_path / "backup")
    refused = typed("node", "fill", directory, "--from", backup)
    assert refused.exit_code == 1
    assert "the database begins with sequence" in str(refused.exception)
    assert (directory / FILLING_DIRECTORY).exists()
    # Its log is there as it was; removing `filling` gives it up, and who is refused is told so.
    with pytest.raises(
        Refusal, match=r"To give it up, and go on with the log that is there, remove .*filling$"
    ):
        check_may_write(directory)
    shutil.rmtree(directory / FILLING_DIRECTORY)
    late_seq = source.batches[2].last_seq
    assert (
        f"up to sequence {late_seq}"
        in typed("log", "verify", directory, "--against", source.directory).output
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("NOT A NODE", "is neither a directory nor a node: NAME, or NAME@HOST:PORT"),
        ("three", "there is no node three that says where it is; there are: none"),
        ("three@nowhere", "expected host:port"),
        ("two@two.example:1", "is node two itself: name another one"),
    ],
)
def test_what_is_no_node(
    tmp_path: Path,
    source: Source,
    agreed: FakeDatabase,
    given: str,
    says: str,
) -> None:
    directory = late_node(tmp_path / "two", source)
    for command in (
        ("node", "fill", directory, "--from", given),
        ("log", "verify", directory, "--against", given),
    ):
        refused = typed(*command)
        assert refused.exit_code != 0
        assert says in refused.output + str(refused.exception)
    assert not (directory / FILLING_DIRECTORY).exists()


def test_a_folder_that_is_called_as_a_node_is_not_taken_for_it(
    tmp_path: Path, source: Source, agreed: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a node that is called as a folder is the node: its name says so, whatever is there."""
    directory = late_node(tmp_path / "two", source)
    source.copy(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    for given in ("one", "one@one.example"):
        for command in (
            ("node", "fill", directory, "--from", given),
            ("log", "verify", directory, "--against", given),
        ):
            refused = typed(*command)
            assert refused.exit_code != 0
            assert "node one" in str(refused.exception) or "expected host:port" in refused.output
    said = str(typed("node", "fill", directory, "--from", "one").exception)
    assert said.endswith("there are: none. The folder that is here is ./one")
    assert typed("log", "verify", directory, "--against", "./one").exit_code == 0
    done = typed("node", "fill", directory, "--from", "./one")
    assert done.exit_code == 0, done.output


def test_logs_that_part_are_told(tmp_path: Path, source: Source) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        shutil.copytree(source.directory, directory)
        for name in ("log", "views"):
            shutil.rmtree(directory / name)
        # Two relays, each with a log of its own.
        enrol = typed("member", "add", directory, "--did", DID, "--domain", DOMAIN, "--offline")
        assert enrol.exit_code == 0, enrol.output
    compared = typed("log", "verify", one, "--against", two)
    assert "they part at sequence 1: from there on the two are different logs" in compared.output
    assert compared.exit_code == 1
    found = json.loads(typed("log", "verify", one, "--against", two, "--json").output)
    assert (found["ok"], found["against"]["firstDifferent"]) == (False, 1)
    backup = Source(one, []).copy(tmp_path / "backup")
    assert "a backup cannot be compared" in typed("log", "verify", backup, "--against", one).output
    assert typed("log", "verify", one, "--against", backup).exit_code == 0


def test_a_node_that_cannot_go_on_says_what_to_type() -> None:
    assert in_words(TailGoneError(7, 90)) == (
        "this machine's log ends with sequence 7, and the table begins with 90. Fill this directory from another node: "
        "`atmos-relay node fill DIR --from NAME`"
    )


def test_a_relay_that_ends_says_once_why(capsys: pytest.CaptureFixture[str]) -> None:
    deposed = [LogDeposedError("another machine appends"), LogDeposedError("another machine appends")]
    lost = LogPoisonedError("the log is poisoned")
    lost.__cause__ = LostRowsError(7, b"c" * 32, 9, b"d" * 32)
    _explain_group(ExceptionGroup("of a nursery", [*deposed, ExceptionGroup("within", [lost])]))
    assert capsys.readouterr().err.splitlines() == [
        "atmos-relay: another machine appends",
        "atmos-relay: the log is poisoned. What to do is in docs/NODES.md, where the database was restored to an "
        "earlier time",
    ]


def test_what_another_node_did_not_answer_is_told_in_our_words(capsys: pytest.CaptureFixture[str]) -> None:
    ours = OSError(errno.EIO, "no connection to node two: it did not answer in time")
    _explain_group(ExceptionGroup("of a nursery", [ours, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]))
    assert capsys.readouterr().err.splitlines() == [
        "atmos-relay: no connection to node two: it did not answer in time",
        "atmos-relay: [Errno 28] No space left on device",
    ]
