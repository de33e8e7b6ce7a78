"""The commands over the real thing: a primary and two standbys, from founding to leaving, with a failover between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.config import CONFIG_FILE, load_config
from relay.config_nodes import NODE_FILE
from tests.world.operating import operator
from tests.world.operator import Operator
from tests.world.postgres import PASSWORD, Servers, open_servers
from tests.world.relay import DID

__all__ = ["operator"]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


def make_node(directory: Path, conninfo: str, *, door: str = "127.0.0.1:8443") -> None:
    """Another node comes to `door`, where one listens there."""
    path = directory / CONFIG_FILE
    path.write_text(path.read_text() + "\n[nodes]\n")
    own = directory / NODE_FILE
    own.write_text(f'name = "one"\nbind = "{door}"\naddress = "{door}"\ndatabase = "{conninfo}"\n')
    own.chmod(0o600)


def database_of(conninfo: str) -> str:
    return next(word.removeprefix("dbname=") for word in conninfo.split() if word.startswith("dbname="))


def test_from_one_machine_to_several_and_back(operator: Operator, servers: Servers, tmp_path: Path) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    conninfo = servers.make_database()
    make_node(operator.directory, conninfo)
    assert operator.run("node", "found", "DIR", "--json").json == {"seq": 3, "already": False}
    assert operator.run("node", "found", "DIR", "--json").json == {"seq": 3, "already": True}

    backup = str(tmp_path / "backup")
    assert operator.run("log", "backup", "DIR", backup).status == 0
    added = operator.run("node", "add", "DIR", "two", "--to", str(tmp_path / "two.node"), "--json").json
    (tmp_path / "code").write_text(added["code"])
    words = ("node", "join", str(tmp_path / "two"), added["file"], "--address", "127.0.0.1:8444")
    words = (*words, "--code-file", str(tmp_path / "code"))
    assert "this directory needs all after 0: name a node whose relay runs" in operator.refused(*words)
    joined = operator.run(*words, "--from-backup", backup, "--json").json
    assert (joined["node"], joined["lastSeq"]) == ("two", 3)

    # What a node's row says waits for no standby. What is committed behind it does, and is behind it there, too.
    servers.primary.execute("SELECT pg_logical_emit_message(true, 'here', '')")
    servers.fail_over()
    listed = operator.run("node", "list", str(tmp_path / "two"), "--json").json
    assert (listed["lastSeq"], listed["leader"]) == (3, None)
    assert [node["node"] for node in listed["nodes"]] == ["two"]
    assert operator.run("node", "remove", "DIR", "two").status == 0

    left = operator.run("node", "leave", "DIR", "--alone", "--json").json
    assert left == {"seq": 3, "tablesDropped": True}
    assert load_config(operator.directory).nodes is None
    assert operator.run("member", "list", "DIR").status == 0
    said = operator.refused("node", "list", str(tmp_path / "two"))
    assert PASSWORD not in said


def test_a_log_in_the_way_goes_by_its_name(operator: Operator, servers: Servers, tmp_path: Path) -> None:
    conninfo = servers.make_database()
    make_node(operator.directory, conninfo)
    assert operator.run("node", "found", "DIR").status == 0
    assert operator.run("node", "leave", "DIR", "--alone", "--without-database").status == 0
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    make_node(operator.directory, conninfo)
    assert "has a log already, up to sequence 0" in operator.refused("node", "found", "DIR")
    found = ("node", "found", "DIR", "--discard", database_of(conninfo), "--json")
    assert operator.run(*found).json == {"seq": 3, "already": False}


def test_a_database_that_promises_nothing(operator: Operator, servers: Servers) -> None:
    make_node(operator.directory, servers.make_database())
    primary = servers.primary
    names = primary.execute("SELECT current_setting('synchronous_standby_names')")[0][0]
    primary.set("synchronous_standby_names", "")
    try:
        assert "synchronous_standby_names" in operator.refused("node", "found", "DIR")
    finally:
        primary.set("synchronous_standby_names", names)
