"""`[nodes]` and `node.toml`: what is common, what is a machine's own, and neither without the other."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from relay.config import (
    CONFIG_FILE,
    Config,
    ConfigError,
    config_by_rules_of,
    load_config,
    load_node,
    parse_config,
)
from relay.config_nodes import NODE_FILE, OWN, NodesConfig, common_digest, common_settings

HEAD = 'operator_domain = "relay.example"\npublic_url = "https://relay.example"\n\n'
#: Four lines.
OWN_HEAD = """\
name = "one"
bind = "127.0.0.1:0"
address = "one.example:8443"
database = "dbname=relay password=hunter2"
"""


def written(directory: Path, common: str, own: str | None) -> Path:
    (directory / CONFIG_FILE).write_text(HEAD + common)
    if own is not None:
        (directory / NODE_FILE).write_text(own)
    return directory


def test_without_the_table_there_is_one_machine(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "", None)).nodes is None


def test_an_empty_table_is_enough(tmp_path: Path) -> None:
    directory = written(tmp_path, "[nodes]\n", OWN_HEAD)
    assert load_config(directory).nodes == NodesConfig(tail_hours=24, lease_seconds=2)
    assert load_node(directory).name == "one"


def test_what_is_the_machine_s_own_takes_the_place_of_what_is_common(tmp_path: Path) -> None:
    own = (
        '[http]\nbind = "10.0.0.1:80"\n[submission]\nbind = []\n[inbound]\nbind = ["10.0.0.1:25"]\n'
        '[console]\noperator_bind = ""\n[delivery]\nehlo_name = "one.relay.example"\n'
    )
    common = (
        '[nodes]\n[http]\nbind = "127.0.0.1:1"\nconnections_max = 7\n[submission]\nbind = ["127.0.0.1:587"]\n'
        '[inbound]\noperator_mailbox = "you@elsewhere.example"\n[console]\noperator_bind = "127.0.0.1:8026"\n'
    )
    config = load_config(written(tmp_path, common, OWN_HEAD + own))
    assert (config.http.bind, config.http.connections_max) == ("10.0.0.1:80", 7)
    assert not config.submission.is_served
    assert config.inbound.bind == ("10.0.0.1:25",)
    assert config.console.operator_bind == ""
    assert config.ehlo_name == "one.relay.example"


def test_what_is_not_said_there_is_as_it_is_for_all(tmp_path: Path) -> None:
    common = '[nodes]\n[http]\nbind = "127.0.0.1:1"\n[submission]\nbind = ["127.0.0.1:587"]\n'
    alone = parse_config(HEAD + common)
    assert load_config(written(tmp_path, common, OWN_HEAD + "[http]\n")) == alone


def test_a_node_without_its_file_is_told_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"node\.toml does not exist, and relay\.toml has \[nodes\]: write "
    ):
        load_config(written(tmp_path, "[nodes]\n", None))


def test_a_node_whose_relay_toml_has_lost_its_table_does_not_go_on_alone(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has no \[nodes\], and there is node\.toml: .* node leave .* --alone"
    ):
        load_config(written(tmp_path, "", OWN_HEAD))


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (OWN_HEAD.replace('"one"', '"One"'), 1, "name"),
        (OWN_HEAD.replace('"one"', '"-one"'), 1, "name"),
        (OWN_HEAD.replace('"one"', '"a/../b"'), 1, "name"),
        (OWN_HEAD.replace('"one"', f'"{"a" * 33}"'), 1, "name"),
        (OWN_HEAD.replace('"127.0.0.1:0"', '"127.0.0.1"'), 2, "bind"),
        (OWN_HEAD.replace('"one.example:8443"', '"one.example:0"'), 3, "address"),
        (OWN_HEAD.replace('"one.example:8443"', '"https://one.example"'), 3, "address"),
        *(
            (OWN_HEAD.replace("one.example", host), 3, "address")
            for host in (
                *(
                    "",
                    "0.0.0.0",
                    "[::]",
                    "[0::0]",
                    "[::ffff:0.0.0.0]",
                    "0",
                    "0.0",
                    "000.0.0.0",
                    "0x0",
                    "256.1.1.1",
                ),
                *("*", "224.0.0.1", "[ff02::1]", "255.255.255.255", "a b", "-a.example", "one.example@b"),
            )
        ),
        (OWN_HEAD.replace('"dbname=relay password=hunter2"', "7"), 4, "database"),
        *(
            (OWN_HEAD.replace("database = ", f"{setting} = {value} #"), 4, setting)
            for setting, value in (
                ("database_file", '"a\\u0000b"'),
                ("database_file", '"\\n"'),
                ("database_env", '"A=B"'),
                ("database_env", '" "'),
                ("database_env", '"a\\u0000b"'),
            )
        ),
        (OWN_HEAD + 'database_env = "DATABASE"\n', 5, "database_env"),
        (OWN_HEAD + 'database_file = "database"\n', 5, "database_file"),
        (OWN_HEAD + "colour = 1\n", 5, "colour"),
        (OWN_HEAD + "[http]\nconnections_max = 1\n", 6, "http.connections_max"),
        (OWN_HEAD + "[retry]\ngive_up_seconds = 1\n", 5, "retry"),
        (OWN_HEAD + "[http]\nbind = 'here'\n", 6, "http.bind"),
        (OWN_HEAD + "[submission]\nbind_tls = ['127.0.0.1:465']\n", 6, "submission.bind_tls[0]"),
        (OWN_HEAD + "[submission]\nbind = ['0.0.0.0:587']\n", 6, "submission.bind[0]"),
        (OWN_HEAD + "[delivery]\nehlo_name = 'one'\n", 6, "delivery.ehlo_name"),
    ],
)
def test_what_is_wrong_with_it_is_named_with_its_line(tmp_path: Path, text: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(written(tmp_path, "[nodes]\n", text))
    sentence = str(raised.value)
    where, _, what = sentence.partition(": ")
    assert where == f"{tmp_path / NODE_FILE} line {line}"
    assert what.startswith(key)
    assert "hunter2" not in sentence


@pytest.mark.parametrize("key", ["name", "bind", "address", "database"])
def test_what_is_missing(tmp_path: Path, key: str) -> None:
    text = "".join(line for line in OWN_HEAD.splitlines(keepends=True) if not line.startswith(key))
    with pytest.raises(ConfigError, match=rf"node\.toml: {key}:? is missing"):
        load_config(written(tmp_path, "[nodes]\n", text))


def test_what_another_file_needs_for_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml.*: inbound\.operator_mailbox: is needed where "):
        load_config(written(tmp_path, "[nodes]\n", OWN_HEAD + "[inbound]\nbind = ['0.0.0.0:25']\n"))


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("tail_hours = 0", "nodes.tail_hours"),
        ("tail_hours = 721", "nodes.tail_hours"),
        ("lease_seconds = 0.5", "nodes.lease_seconds"),
        ("lease_seconds = nan", "nodes.lease_seconds"),
        ("name = 'one'", "nodes.name"),
        ("database = 'dbname=relay'", "nodes.database"),
        ("unsafe_single_server = true\nprovider_is_durable = true", "nodes.provider_is_durable"),
    ],
)
def test_what_is_wrong_with_the_common_settings(setting: str, key: str) -> None:
    line = 5 + setting.count("\n")
    with pytest.raises(ConfigError, match=rf"^relay\.toml line {line}: {key}(:| is not)"):
        parse_config(f"{HEAD}[nodes]\n{setting}\n")


def test_the_database_is_not_in_a_repr(tmp_path: Path) -> None:
    own = load_node(written(tmp_path, "[nodes]\n", OWN_HEAD))
    assert own.database == "dbname=relay password=hunter2"
    assert "hunter2" not in f"{own} {own!r} {[own]}"


# ------------------------------------------------------------------------------------------------ the digest


def of(text: str) -> Config:
    return parse_config(HEAD + text)


def test_two_nodes_with_the_same_file_have_the_same_digest(tmp_path: Path) -> None:
    common = "[nodes]\n[http]\nbind = '127.0.0.1:1'\n"
    one, two = tmp_path / "one", tmp_path / "two"
    for directory, own in ((one, ""), (two, "[http]\nbind = '127.0.0.1:2'\n")):
        directory.mkdir()
        written(directory, common, OWN_HEAD + own)
    assert common_digest(load_config(one)) == common_digest(load_config(two))


def test_comments_and_defaults_that_are_said_do_not_count() -> None:
    assert common_digest(of("[nodes]\n")) == common_digest(of("# here\n[nodes]\ntail_hours = 24\n[retry]\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[nodes]\ntail_hours = 25\n",
        "[nodes]\n[retry]\ngive_up_seconds = 5\n",
        "[nodes]\n[delivery.routes]\n'*' = '127.0.0.1:25'\n",
        "[nodes]\n[delivery.sites.'mx.example']\nconnections_max = 3\n",
        "[nodes]\n[warming]\ntiers = [ { hour = 5, day = 5 } ]\n",
    ],
)
def test_what_is_set_otherwise_counts(text: str) -> None:
    assert common_digest(of(text)) != common_digest(of("[nodes]\n"))


def test_what_a_node_may_have_otherwise_are_settings() -> None:
    for name in OWN:
        table, _, setting = name.partition(".")
        assert setting in {field.name for field in msgspec.structs.fields(getattr(of(""), table))}


@pytest.mark.parametrize(
    "host", ["one.example", "10.0.0.1", "[2001:db8::1]", "127.0.0.1", "one", "1.example", "x0"]
)
def test_where_a_node_can_be_reached(tmp_path: Path, host: str) -> None:
    own = load_node(written(tmp_path, "[nodes]\n", OWN_HEAD.replace("one.example", host)))
    assert own.address == f"{host}:8443"


# ------------------------------------------------------------------------------------------------ another node's rules

#: Some of each kind that there is: numbers, words, lists, tables of tables, and what is a machine's own.
MUCH = """
require_verified_domains = false
[http]
bind = "127.0.0.1:1"
send_bytes_max = 70000
monitors = ["10.0.0.0/8"]
[delivery]
routes = { "*" = "127.0.0.1:25" }
ehlo_name = "theirs.example"
[delivery.sites."mx.example"]
connections_max = 3
[retry]
delays_seconds = [60, 70]
[warming]
tiers = [ { until_day = 3, hour = 1, day = 2 }, { hour = 5, day = 6 } ]
[nodes]
tail_hours = 7
"""


def carried(config: Config) -> dict[str, object]:
    """As it comes from one node to another."""
    settings: dict[str, object] = msgspec.msgpack.decode(msgspec.msgpack.encode(common_settings(config)))
    return settings


@pytest.mark.parametrize("common", [MUCH, "[nodes]\n"])
def test_a_node_goes_by_the_rules_of_another_one_but_for_what_is_its_own(common: str) -> None:
    theirs = parse_config(HEAD + common)
    own = parse_config(
        HEAD + '[http]\nbind = "10.0.0.1:80"\n[delivery]\nehlo_name = "ours.example"\n[nodes]\n'
    )
    config = config_by_rules_of(carried(theirs), own)
    assert common_digest(config) == common_digest(theirs)
    assert (config.http.bind, config.ehlo_name) == ("10.0.0.1:80", "ours.example")
    assert config.warming == theirs.warming
    assert config.delivery.sites == theirs.delivery.sites


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"http.colour": 1}, "http.colour is not a setting that the relay knows"),
        ({"colour": {"deep": 1}}, "colour is not a setting"),
        ({"colour.deep": 1}, "colour is not a setting"),
        ({"http": 5}, "cannot be used here"),
        ({"http.send_bytes_max": "much"}, "http.send_bytes_max"),
        ({"operator_domain": "other.example"}, "the operator_domain of another node is other.example"),
        ({"delivery.routes": {"*": "nowhere"}}, "expected host:port"),
    ],
)
def test_rules_that_are_not_understood_are_not_taken_in_part(
    changed: dict[str, object], sentence: str
) -> None:
    own = parse_config(HEAD + "[nodes]\n")
    with pytest.raises(ConfigError, match=sentence):
        config_by_rules_of(carried(own) | changed, own)
