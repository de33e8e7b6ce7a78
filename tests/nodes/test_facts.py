"""What nodes say of themselves is read as far as it can be, and nothing is thrown away on the word of one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import codec
from relay.codec import NotRead, versions_read_here
from relay.nodes.facts import (
    Facts,
    StrangeRow,
    differences,
    from_row,
    invited,
    may_go_through,
    not_read_by_all,
    read_rows,
    to_row,
)
from relay.times import HOUR_US

NOW = 1_800_000_000_000_000


def facts(name: str = "one", **more: Any) -> Facts:
    given: dict[str, Any] = {
        "name": name,
        "version": "0.2",
        "events": versions_read_here(),
        "address": f"{name}.example:8443",
        "configuration": "c0ffee",
        "peppers": {"1": "aa"},
        "written_at": NOW,
        "began_at": NOW,
    }
    return Facts(**given | more)


def test_a_row_is_what_was_written() -> None:
    written = facts(applied_seq=9, synced_seq=8, clock_offset_us=-5, trouble="the disk is full", leads=True)
    row = json.loads(json.dumps(to_row(written)))
    assert from_row("one", row) == written


def test_fields_of_a_newer_version_are_passed_over() -> None:
    row = to_row(facts()) | {"format": 7, "colour": {"deep": [1]}}
    assert from_row("one", row) == facts(format=7)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": 1}, "cannot be read: Expected `str`"),
        ({"applied_seq": -1}, "cannot be read"),
        ({"applied_seq": 2**70}, "cannot be read"),
        ({"address": "x" * 301}, "cannot be read"),
        ({"events": {str(number): 1 for number in range(1001)}}, "cannot be read"),
        ({"name": "two"}, "it calls itself 'two': two nodes have written one row"),
    ],
)
def test_a_stranger_s_row_is_refused_in_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    refused = from_row("one", to_row(facts()) | changed)
    assert isinstance(refused, StrangeRow)
    assert refused.name == "one"
    assert sentence in refused.sentence


def test_a_name_that_is_none() -> None:
    assert isinstance(from_row("../x", to_row(facts("../x"))), StrangeRow)


@given(
    st.dictionaries(
        st.sampled_from([*Facts.__struct_fields__, "other"]),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=5), inner, max_size=2)
            ),
            max_leaves=3,
        ),
    )
)
def test_whatever_a_row_says_hinders_nobody(row: dict[str, object]) -> None:
    (read,) = read_rows({"one": to_row(facts()) | row})
    assert isinstance(read, Facts | StrangeRow)
    assert isinstance(from_row("one", row), Facts | StrangeRow)


# ------------------------------------------------------------------------------------------------ what may go


def test_rows_go_once_all_that_were_there_lately_have_them() -> None:
    one, two, three = (
        facts("one", synced_seq=30),
        facts("two", synced_seq=20),
        facts("three", synced_seq=10),
    )
    assert may_go_through([one, two, three], NOW, 24) == 10
    long_gone = msgspec.structs.replace(three, written_at=NOW - 24 * HOUR_US - 1)
    assert may_go_through([one, two, long_gone], NOW, 24) == 20
    assert may_go_through([one, two, long_gone], NOW, 25) == 10


def test_one_node_alone_keeps_all_rows() -> None:
    away = facts("two", synced_seq=9, written_at=NOW - 48 * HOUR_US)
    assert may_go_through([facts("one", synced_seq=9), away], NOW, 24) == 0
    assert may_go_through([], NOW, 24) == 0


def test_who_cannot_be_understood_may_need_them() -> None:
    nodes = [facts("one", synced_seq=9), facts("two", synced_seq=9), StrangeRow("three", "what?")]
    assert may_go_through(nodes, NOW, 24) == 0


def test_a_clock_that_is_ahead_is_of_a_node_that_is_there() -> None:
    ahead = facts("two", synced_seq=5, written_at=NOW + HOUR_US)
    assert may_go_through([facts("one", synced_seq=9), ahead], NOW, 24) == 5


# ------------------------------------------------------------------------------------------------ what differs


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions and a type that came after the first relays of several machines."""
    versions = {("key.issued", 3): None, ("message.bounced", 4): None, ("domain.added", 1): None}
    monkeypatch.setattr(codec, "DOWNCASTS", versions | {("domain.added", 2): None})


def older(**versions: int) -> dict[str, int]:
    return versions_read_here() | {name.replace("_", ".", 1): version for name, version in versions.items()}


@pytest.mark.usefixtures("newer")
def test_a_leader_writes_what_all_can_read() -> None:
    two = facts("two", events=older(key_issued=2, domain_added=0), version="0.1")
    three = facts("three", events=older(key_issued=2, message_bounced=3), version="0.1")
    assert not_read_by_all([facts(), two, three], NOW, 24) == {
        "key.issued": NotRead(2, "node two runs version 0.1"),
        "domain.added": NotRead(0, "node two runs version 0.1"),
        "message.bounced": NotRead(3, "node three runs version 0.1"),
    }
    assert not_read_by_all([facts(), facts("two", events=older(new_event=3))], NOW, 24) == {}


@pytest.mark.usefixtures("newer")
def test_who_was_not_heard_of_for_long_is_not_waited_for() -> None:
    old = facts("two", events=older(key_issued=2), written_at=NOW - 24 * HOUR_US)
    assert set(not_read_by_all([old], NOW, 24)) == {"key.issued"}
    assert not_read_by_all([old], NOW + 1, 24) == {}
    ahead = msgspec.structs.replace(old, written_at=NOW + HOUR_US)
    assert set(not_read_by_all([ahead], NOW, 24)) == {"key.issued"}


@pytest.mark.usefixtures("newer")
def test_of_a_row_that_cannot_be_read_only_what_every_node_reads_is_taken() -> None:
    because = "nobody knows what node two can read, since what?"
    assert not_read_by_all([facts(), StrangeRow("two", "what?")], NOW, 24) == {
        "key.issued": NotRead(2, because),
        "domain.added": NotRead(0, because),
        "message.bounced": NotRead(3, because),
    }


def test_no_row_makes_a_leader_write_less_than_what_every_node_reads() -> None:
    assert not_read_by_all([facts("two", events={}), StrangeRow("three", "what?")], NOW, 24) == {}


def test_a_node_that_has_never_run_hinders_nobody() -> None:
    nodes = [facts("one", synced_seq=9), facts("two", synced_seq=8), invited("three")]
    assert from_row("three", to_row(nodes[2])) == nodes[2]
    assert may_go_through(nodes, NOW, 24) == 8
    assert not_read_by_all([invited("three")], 0, 24) == {}
    assert list(differences(nodes[0], nodes[2])) == []


def test_nodes_that_are_as_they_should_be() -> None:
    assert list(differences(facts(), facts("two", clock_offset_us=900_000, applied_seq=5))) == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"peppers": {"1": "bb"}}, "its pepper 1 is another one"),
        ({"configuration": "beef"}, "its relay.toml is another one"),
        ({"events": {}}, "it runs version 0.2, which cannot read "),
        ({"clock_offset_us": -2_500_000}, "its clock is 2.5 s behind the database's, so it cannot lead"),
    ],
)
def test_what_differs_is_said(more: dict[str, Any], sentence: str) -> None:
    (said,) = differences(facts(), facts("two", **more))
    assert said.startswith(sentence)
