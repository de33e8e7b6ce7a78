"""`atmos-relay node`, as an operator types it, with a database in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.config import ConfigError, load_config, load_node
from relay.config_nodes import NODE_FILE, NodesConfig
from relay.message.key_files import KeyFileError
from relay.nodes import database as module
from relay.nodes.database import conninfo_of, database_name, open_table
from relay.nodes.facts import to_row
from relay.nodes.overview import own_facts
from spool.replicated.table import HOLDER_OCTETS, Head, Lease
from tests.nodes.test_facts import facts
from tests.nodes.test_founding import make_node
from tests.world.operating import doctor, operator
from tests.world.operator import Operator
from tests.world.outcomes import Outcome
from tests.world.relay import DID, make_directory
from tests.world.servers import discard, put_head, put_lease, put_node
from tests.world.table import DATABASE_EPOCH_US, FakeConnection, FakeDatabase
from tools.cli import cli

__all__ = ["operator"]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> FakeDatabase:
    made = FakeDatabase(head=None)
    monkeypatch.setattr(module, "table_of", lambda *arguments: made.table())

    async def time_us(connection: FakeConnection) -> int:
        return DATABASE_EPOCH_US  # commands run on trio's own clock, which begins anywhere

    monkeypatch.setattr(FakeConnection, "time_us", time_us)
    return made


@pytest.fixture
def node(operator: Operator, database: FakeDatabase) -> Operator:
    """A relay of one node, with nothing in its log."""
    make_node(operator.directory)
    assert operator.run("node", "found", "DIR").status == 0
    return operator


def test_founding(operator: Operator, database: FakeDatabase) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    make_node(operator.directory)
    said = operator.run("node", "found", "DIR")
    assert (said.status, said.err) == (0, "")
    assert "The log goes on in the database, behind sequence 3." in said.out
    assert "atmos-relay serve" in said.out
    assert operator.run("node", "found", "DIR", "--json").json == {"seq": 3, "already": True}


def test_a_database_that_has_no_log(node: Operator, database: FakeDatabase) -> None:
    database.servers.primary.write(discard)
    for words in (["list", "DIR"], ["add", "DIR", "two"], ["remove", "DIR", "two"]):
        said = node.refused("node", *words)
        assert "there are no tables of a replicated log in this database" in said
        assert "`atmos-relay node found DIR`" in said


def test_a_database_in_the_way(operator: Operator, database: FakeDatabase) -> None:
    make_node(operator.directory)
    database.servers.primary.write(put_head(Head(1, bytes(HOLDER_OCTETS), 9, b"c" * 32)))
    said = operator.refused("node", "found", "DIR")
    assert "the database has a log already, up to sequence 9" in said
    path = operator.directory / NODE_FILE
    path.write_text(path.read_text().replace("host=/run/postgresql", "host=/run/postgresql dbname=mail"))
    assert "the database is mail" in operator.misused("node", "found", "DIR", "--discard", "maul")
    assert operator.run("node", "found", "DIR", "--discard", "mail").status == 0


def test_a_relay_of_one_machine_is_no_node(operator: Operator, database: FakeDatabase) -> None:
    for words in (("found",), ("list",), ("add", "two"), ("remove", "two")):
        said = operator.refused("node", words[0], "DIR", *words[1:])
        assert "has no [nodes]" in said
        assert "docs/NODES.md" in said
    assert "is no node" in operator.refused("node", "leave", "DIR", "--alone")
    assert database.statements == []


def test_leaving_is_said_in_as_many_words(node: Operator, database: FakeDatabase) -> None:
    assert "Missing option '--alone'" in node.misused("node", "leave", "DIR")
    said = node.run("node", "leave", "DIR", "--alone")
    assert "is one machine's again; its log ends with sequence 0." in said.out
    assert "The database has no log any more." in said.out
    assert load_config(node.directory).nodes is None
    assert "is no node" in node.refused("node", "leave", "DIR", "--alone")


def test_leaving_a_database_that_is_gone(node: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: object) -> None:
        raise AssertionError("it was asked")

    monkeypatch.setattr(module, "table_of", gone)
    answer = node.run("node", "leave", "DIR", "--alone", "--without-database", "--json").json
    assert answer == {"seq": 0, "tablesDropped": False}


def test_listing(node: Operator, database: FakeDatabase) -> None:
    said = node.run("node", "list", "DIR")
    assert said.out == "The log is at sequence 0; nobody leads.\nThere are no nodes.\n"
    server = database.servers.primary
    holder = b"h" * HOLDER_OCTETS
    server.write(put_head(Head(2, holder, 90, b"c" * 32)))
    server.write(put_lease(Lease(2, holder, "one one.example:8443", 5, 90, b"c" * 32)))
    now = DATABASE_EPOCH_US
    server.write(
        put_node(
            "one",
            to_row(
                facts("one", applied_seq=90, synced_seq=88, written_at=now, at_start="it was old", leads=True)
            ),
        )
    )
    behind = facts("two", applied_seq=70, written_at=now - 20_000_000, trouble="the disk is\x1b[2J full")
    server.write(put_node("two", to_row(behind)))
    server.write(put_node("three", {"name": "thr\x1b"}))
    database.doubts.append("b.example:5432: it is a standby, and its fsync is \x1b[2Joff")
    said = node.run("node", "list", "DIR")
    lines = said.out.splitlines()
    assert "database: b.example:5432: it is a standby, and its fsync is \\x1b[2Joff" in lines
    assert node.run("node", "list", "DIR", "--json").json["doubts"] == database.doubts
    assert max(map(len, lines[:5])) <= 80  # the table; below it are sentences
    assert lines[0] == "The log is at sequence 90; one leads."
    assert lines[1].split() == ["node", "is", "version", "address", "behind", "notOnDisk", "said"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:5]}
    assert rows["one"] == ["leads", "0.2", "one.example:8443", "0", "2", "0", "s", "ago"]
    assert rows["two"] == ["away", "0.2", "two.example:8443", "20", "90", "20", "s", "ago"]
    assert rows["three"][0] == "strange"
    problems = "\n".join(lines[5:])
    assert "one: when it began, it was old" in problems
    assert "two: its pepper 1 is another one" in problems
    assert "two: the disk is\\x1b[2J full" in problems
    assert "three: what it says of itself cannot be read" in problems
    assert "\x1b" not in said.out
    answer = node.run("node", "list", "DIR", "--json").json
    assert (answer["lastSeq"], answer["epoch"], answer["leader"]) == (90, 2, "one")
    assert [one["node"] for one in answer["nodes"]] == ["one", "three", "two"]
    assert answer["nodes"][2]["silentSeconds"] == pytest.approx(20)
    # It was killed, and is back, and the lease is still its own.
    server.write(put_node("one", to_row(facts("one", applied_seq=90, synced_seq=88, written_at=now))))
    assert "nobody leads" in node.run("node", "list", "DIR").out


def typed(input_: str, *words: object) -> Any:
    return CliRunner().invoke(cli, [str(word) for word in words], input=input_)


def test_adding_joining_and_removing(
    node: Operator, database: FakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = node.run("node", "add", "DIR", "two")
    assert (said.status, said.err) == (0, "")
    assert "atmos-relay node join NEWDIR two.node --address HOST:PORT --from one\n" in said.out
    code = said.out.splitlines()[-1].removeprefix("Code, shown only now:  ")
    file = tmp_path / "two.node"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "exists already" in node.misused("node", "add", "DIR", "two")
    two = tmp_path / "two"
    words = ("node", "join", two, file, "--address", "two.example:8443")
    wrong = typed("abcd\n", *words)
    assert isinstance(wrong.exception, Exception)
    assert "does not open this file" in str(wrong.exception)
    assert "not both" in typed("", *words, "--from", "one", "--from-backup", tmp_path).output
    for source, says in (
        ("nobody", "there is no node nobody that says where it is"),
        ("A B", "neither a dir"),
    ):
        refused = typed(f"{code}\n", *words, "--from", source)
        assert says in f"{refused.output} {refused.exception}"
    assert not two.exists()
    joined = typed(f"{code}\n", *words)
    assert joined.exit_code == 0, joined.output
    assert "is node two and has an empty log" in joined.stdout
    assert code not in joined.output
    assert load_config(two) == load_config(node.directory)
    assert 'bind = "0.0.0.0:8443"' in (two / NODE_FILE).read_text()
    assert node.run("node", "list", "DIR").out.splitlines()[2].split()[:2] == ["two", "added"]
    assert node.run("node", "remove", "DIR", "two").out == "two is removed.\n"
    said = node.refused("node", "remove", "DIR", "two")
    assert said == "there is no node two any more: it was removed at 2023-11-14T22:13:20.000000Z"
    assert node.run("node", "list", "DIR").out.splitlines()[1:] == [
        "There are no nodes.",
        "two was removed at 2023-11-14T22:13:20.000000Z.",
    ]
    (gone,) = node.run("node", "list", "DIR", "--json").json["removed"]
    assert gone == {"node": "two", "removedAt": "2023-11-14T22:13:20.000000Z"}
    assert "this node was removed from the relay" in str(
        typed(f"{code}\n", "node", "join", tmp_path / "again", *words[3:]).exception
    )
    assert "this node was removed from the relay" in str(
        typed(f"{code}\n", "node", "join", tmp_path / "again", *words[3:], "--from", "one").exception
    )
    assert not (tmp_path / "again").exists()
    # By the same name it may be a node again, which has another key.
    assert node.run("node", "add", "DIR", "two", "--to", str(tmp_path / "anew")).status == 0
    assert node.run("node", "list", "DIR").out.splitlines()[2].split()[:2] == ["two", "added"]
    assert node.run("node", "list", "DIR", "--json").json["removed"] == []


def test_a_removal_whose_outcome_is_not_known_is_given_again(
    node: Operator, database: FakeDatabase, tmp_path: Path
) -> None:
    assert node.run("node", "add", "DIR", "two", "--to", str(tmp_path / "two")).status == 0
    outcomes = {1: Outcome.WARNED, 2: Outcome.ANSWERED, 3: Outcome.ANSWERED}
    database.choose = lambda number, name, table: (
        outcomes[database.statements.count(name)] if name == "remove_node" else Outcome.ANSWERED
    )
    for _ in outcomes:
        assert "is not known: give the command again" in node.refused("node", "remove", "DIR", "two")
    database.mend()
    outcomes[4] = Outcome.ANSWERED
    assert "there is no node two any more" in node.refused("node", "remove", "DIR", "two")


def test_joining_by_a_file_that_has_the_code(node: Operator, tmp_path: Path) -> None:
    answer = node.run("node", "add", "DIR", "two", "--to", str(tmp_path / "bundle"), "--json").json
    assert answer.keys() == {"node", "file", "code"}
    (tmp_path / "code").write_text(answer["code"] + "\n")
    words = ("node", "join", str(tmp_path / "two"), answer["file"], "--address", "[::1]:8443")
    joined = node.run(*words, "--bind", "[::1]:8443", "--code-file", str(tmp_path / "code"), "--json").json
    assert joined == {"directory": str(tmp_path / "two"), "node": "two", "lastSeq": 0}


def test_what_writes_is_refused_where_no_relay_runs(node: Operator) -> None:
    said = node.refused("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    assert (
        "is one of several machines, and no relay runs on it: start it, or give the order at a node" in said
    )
    assert not (node.directory / "keys" / "a.example").exists()
    assert "no relay runs on it" in node.refused("pepper", "rotate", "DIR")
    # What reads is answered.
    assert node.run("member", "list", "DIR", "--json").json == []
    assert node.run("log", "verify", "DIR").status == 0


def test_the_backup_of_a_node(node: Operator, tmp_path: Path) -> None:
    backup, again = tmp_path / "backup", tmp_path / "again"
    node.run("node", "leave", "DIR", "--alone")
    node.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    make_node(node.directory)
    assert node.run("node", "found", "DIR").status == 0
    assert node.run("log", "backup", "DIR", str(backup)).status == 0
    assert "restore it without --hold" in node.refused("log", "restore", str(backup), str(again), "--hold")
    said = node.run("log", "restore", str(backup), str(again))
    assert (said.status, said.err) == (0, "")
    assert "take [nodes] out of its relay.toml" in said.out


def test_no_secret_is_in_an_answer(node: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    path = node.directory / NODE_FILE
    path.write_text(path.read_text().replace("host=/run/postgresql", "host=a password=hunter2"))
    path.chmod(0o600)
    monkeypatch.undo()
    for words in (("list", "DIR"), ("list", "DIR", "--json"), ("found", "DIR", "--discard", "x")):
        done = CliRunner().invoke(
            cli, ["node", *(str(node.directory) if word == "DIR" else word for word in words)]
        )
        assert done.exit_code != 0
        assert "hunter2" not in f"{done.output}{done.exception!r}"


def test_a_password_that_others_can_read(node: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    path = node.directory / NODE_FILE
    path.write_text(path.read_text().replace("host=/run/postgresql", "host=a password=hunter2"))
    path.chmod(0o644)
    said = node.refused("node", "add", "DIR", "two")
    assert "others than its owner can use this secret" in said
    assert "chmod 600" in said


def test_how_the_database_is_reached(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    make_node(directory)
    path = directory / NODE_FILE
    head = "".join(line for line in path.read_text().splitlines(True) if not line.startswith("database"))
    path.write_text(f'{head}database_env = "RELAY_DATABASE"\n')
    assert conninfo_of(directory, load_node(directory), {"RELAY_DATABASE": " host=a "}) == "host=a"
    with pytest.raises(
        ConfigError, match="database_env RELAY_DATABASE: the environment has no such variable"
    ):
        conninfo_of(directory, load_node(directory), {})
    path.write_text(f'{head}database_file = "secret"\n')
    secret = directory / "secret"
    secret.write_text("host=a dbname=mail password=hunter2\n")
    secret.chmod(0o600)
    assert database_name(conninfo_of(directory, load_node(directory))) == "mail"
    secret.write_text("host=a port=x password=hunter2\n")
    with pytest.raises(
        ConfigError, match=rf"database_file {secret}: how to reach .* a port that is no number"
    ):
        open_table(directory, NodesConfig(), load_node(directory))
    secret.write_text("host=a\nhost=b\n")
    with pytest.raises(ConfigError, match="on one line"):
        conninfo_of(directory, load_node(directory))
    secret.unlink()
    missing = (
        rf"node\.toml: database_file {secret}: there is no such file\. Write it: how the database is reached"
    )
    with pytest.raises(ConfigError, match=missing):
        conninfo_of(directory, load_node(directory))
    secret.mkdir()
    with pytest.raises(KeyFileError, match="secret: cannot be read: Is a directory"):
        conninfo_of(directory, load_node(directory))


def test_what_doctor_says_of_the_others(node: Operator, database: FakeDatabase) -> None:
    status, findings = doctor(node)
    assert (status, findings["nodes"][0]) == (1, False)
    assert "0 nodes at work, the log is at sequence 0, and nobody leads" in findings["nodes"][1]
    server = database.servers.primary
    holder = b"h" * HOLDER_OCTETS
    server.write(put_head(Head(2, holder, 90, b"c" * 32)))
    server.write(put_lease(Lease(2, holder, "one one.example:8443", 5, 90, b"c" * 32)))
    ours = own_facts(node.directory, load_config(node.directory), load_node(node.directory))
    like_ours = {"configuration": ours.configuration, "peppers": ours.peppers}
    one = facts("one", written_at=DATABASE_EPOCH_US, leads=True, **like_ours)
    server.write(put_node("one", to_row(one)))
    _, findings = doctor(node)
    assert findings["nodes"] == (True, findings["nodes"][1])
    assert (
        "1 node at work, the log is at sequence 90, one leads; the database keeps all rows"
        in findings["nodes"][1]
    )
    assert "node one" not in findings
    server.write(put_node("two", to_row(facts("two", written_at=1, **like_ours | {"configuration": "x"}))))
    _, findings = doctor(node)
    # A check is told once by its name here; it has two lines.
    assert "it has said nothing for" in findings["node two"][1]
    said = node.run("doctor", "DIR").out
    assert "node two: its relay.toml is another one: copy it, and reload or restart that node" in said
    database.choose = lambda number, name, table: Outcome.REFUSED if name == "connect" else Outcome.ANSWERED
    _, findings = doctor(node)
    assert findings["nodes"] == (False, "no host answers")


def test_doctor_asks_no_database_of_one_machine(operator: Operator, database: FakeDatabase) -> None:
    _, findings = doctor(operator)
    assert not [check for check in findings if "node" in check]
    assert database.statements == []
