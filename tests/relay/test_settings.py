"""The configuration in force: taken whole, but for what needs a restart, which is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import (
    Config,
    ConfigError,
    DeliveryConfig,
    MembersConfig,
    RetryConfig,
    SpoolConfig,
    parse_config,
)
from relay.config_doors import HttpConfig
from relay.config_nodes import NodesConfig
from relay.config_template import config_template
from relay.settings import NEEDS_RESTART, Settings

TEXT = config_template("relay.example", "https://relay.example")
START = parse_config(TEXT)


def changed(**tables: Any) -> Config:
    return msgspec.structs.replace(START, **tables)


def test_what_changes_is_named_and_holds() -> None:
    settings = Settings(START)
    read = changed(members=MembersConfig(domains_max=9), retry=RetryConfig(delays_seconds=(5,)))
    assert settings.take(read) == (("retry.delays_seconds", "members.domains_max"), ())
    assert settings.now == read
    assert settings.take(read) == ((), ())


def test_what_needs_a_restart_keeps_its_value_and_is_named_each_time() -> None:
    settings = Settings(START)
    read = changed(http=HttpConfig(bind="127.0.0.1:1", streams_max=7), spool=SpoolConfig(segment_bytes=4096))
    assert settings.take(read) == (("http.streams_max",), ("http.bind", "spool.segment_bytes"))
    assert settings.now == changed(http=HttpConfig(streams_max=7))
    assert settings.take(read) == ((), ("http.bind", "spool.segment_bytes"))
    assert settings.take(START) == (("http.streams_max",), ())


def test_observers_hear_of_a_change_when_it_holds_and_of_nothing_else() -> None:
    settings = Settings(START)
    heard: list[tuple[Config, Config]] = []
    settings.observers.append(lambda before: heard.append((before, settings.now)))
    settings.take(START)
    settings.take(changed(http=HttpConfig(bind="127.0.0.1:1")))
    assert heard == []
    read = changed(delivery=DeliveryConfig(routes={"*": "127.0.0.1:25"}))
    settings.take(read)
    assert heard == [(START, read)]


def test_what_needs_a_restart_are_settings() -> None:
    several = changed(nodes=NodesConfig())
    for dotted in NEEDS_RESTART:
        table, _, name = dotted.partition(".")
        assert table in START.__struct_fields__
        assert not name or name in getattr(several, table).__struct_fields__


def test_one_machine_becomes_one_of_several_at_a_restart() -> None:
    several = changed(nodes=NodesConfig())
    settings = Settings(START)
    assert settings.take(several) == ((), ("nodes",))
    assert settings.now == START
    settings = Settings(several)
    assert settings.take(START) == ((), ("nodes",))
    assert settings.now == several
    read = changed(nodes=NodesConfig(tail_hours=5, lease_seconds=9))
    assert settings.take(read) == (("nodes.tail_hours",), ("nodes.lease_seconds",))
    assert settings.now == changed(nodes=NodesConfig(tail_hours=5))


def test_the_operator_domain_stays() -> None:
    text = config_template("other.example", "https://relay.example")
    line = 1 + [line.split(" ")[0] for line in text.splitlines()].index("operator_domain")
    with pytest.raises(ConfigError, match=rf"^relay\.toml line {line}: operator_domain: .*relay\.example"):
        parse_config(text, instead_of=START)
    assert parse_config(TEXT, instead_of=START) == START


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "{a=" * 100_000,
        "x" + ".x" * 2_000 + " = 1",
        "x = " + "9" * 5000,
        "x = 1e99999",
        "x = 0x" + "f" * 5000,
        "[retry]\ngive_up_seconds = " + "9" * 4000,
        "[retry]\ngive_up_seconds = 3153600001",
        "[delivery]\nmessages_per_minute_max = " + "9" * 400,
        "[spool]\nfree_bytes_min = " + "9" * 40,
        "[service]\ngrace_seconds = inf",
        "[reputation]\nbounce_rate_max = nan",
        "[delivery.sites]\na = { connections_max = 0 }\nb = { connections_max = 0 }",
    ],
)
def test_whatever_stands_in_the_file_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(
            'operator_domain = "relay.example"\npublic_url = "https://relay.example"\n' + text + "\n"
        )


def test_the_line_of_a_long_file_is_found_soon() -> None:
    """A relay that reads its file again has others to see to."""
    routes = "".join(f'"a{number}.example" = "b.example:25"\n' for number in range(3000))
    with pytest.raises(ConfigError, match=r"^relay\.toml line 2004: delivery\.routes\.x: "):
        parse_config(
            'operator_domain = "relay.example"\npublic_url = "https://relay.example"\n[delivery.routes]\n'
            + "".join(routes.splitlines(keepends=True)[:2000])
            + "x = 1\n"
            + "".join(routes.splitlines(keepends=True)[2000:])
        )


_VALUES = st.recursive(
    st.one_of(
        st.sampled_from(["true", "1.5", '"a.example:25"', '""', "nan", "1979-05-27", "[]", "{}"]),
        st.integers(-(10**30), 10**30).map(str),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(
            st.sampled_from(["a", "hour", "day", '"*"', "connections_max"]), inner, max_size=3
        ).map(lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"),
    ),
    max_leaves=4,
)
_KEYS = [
    f"{table}.{name}" if isinstance(section, msgspec.Struct) else table
    for table in START.__struct_fields__
    for section in [getattr(START, table)]
    for name in (section.__struct_fields__ if isinstance(section, msgspec.Struct) else [""])
]


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=3))
def test_a_file_is_taken_or_is_a_config_error(lines: dict[str, str]) -> None:
    required = {"operator_domain": '"relay.example"', "public_url": '"https://relay.example"'}
    text = "".join(f"{key} = {value}\n" for key, value in {**required, **lines}.items())
    try:
        config = parse_config(text, instead_of=START)
    except ConfigError:
        return
    Settings(START).take(config)
