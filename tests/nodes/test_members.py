"""Who is a node, by the rows that are there."""

from __future__ import annotations

from typing import Any

import pytest

from relay.nodes.facts import StrangeRow, invited, read_rows, to_row
from relay.nodes.members import Members, members_in, removal
from tests.nodes.test_facts import facts

AT = 1_700_000_000_000_000


def rows(*removed: tuple[str, str, int], **identities: str) -> dict[str, Any]:
    live = {name: to_row(facts(name, identity=identity)) for name, identity in identities.items()}
    return live | dict(removal(*one) for one in removed)


def test_a_name_and_its_key() -> None:
    members = members_in(rows(one="11", two="22") | {"three": to_row(invited("three", "33"))})
    assert members.have("one", "11")
    assert members.have("three", "33")
    for name, identity in (("one", "22"), ("one", ""), ("four", "11"), ("four", "")):
        assert not members.have(name, identity)
    assert not Members().have("one", "11")


def test_a_row_that_says_no_key_is_nobody_s() -> None:
    members = members_in(rows(one="") | {"two": {"identity": 7}, "three": {}, "A/b": {"identity": "44"}})
    assert members.identities == {}
    assert not members.have("one", "")
    assert members.why_not("one", "11") is None


def test_who_was_removed_is_nobody_whatever_writes_its_row() -> None:
    there = rows(("two", "22", AT), one="11", two="22")
    members = members_in(there)
    assert not members.have("two", "22")
    assert [row.name for row in read_rows(there)] == ["one"]
    assert "was removed" in (members.why_not("two", "22") or "")
    # By another name, too.
    assert "was removed" in (members.why_not("three", "22") or "")
    assert not members_in(rows(("two", "22", AT), three="22")).have("three", "22")


def test_a_name_that_was_given_anew() -> None:
    there = rows(("two", "22", AT), ("two", "33", AT + 1), two="44")
    members = members_in(there)
    assert members.have("two", "44")
    assert members.why_not("two", "44") is None
    assert members.last_removed("two") is None
    assert [row.name for row in read_rows(there)] == ["two"]
    gone = members_in(rows(("two", "22", AT), ("two", "33", AT + 1))).last_removed("two")
    assert gone is not None
    assert gone.removed_at == AT + 1


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("removed/two/22", {}),
        ("removed/two/22", {"removed": "two", "identity": "33", "removed_at": AT}),
        ("removed/two/", {"removed": "two", "identity": "", "removed_at": AT}),
        ("removed/two/22", {"removed": "two", "identity": "22", "removed_at": -1}),
        ("two", {"removed": "two", "identity": "22", "removed_at": AT}),
    ],
)
def test_what_says_it_in_another_way_removes_nobody(name: str, row: dict[str, Any]) -> None:
    there = {name: row, "three": to_row(facts("three", identity="22"))}
    assert members_in(there).have("three", "22")
    assert [read.name for read in read_rows(there) if isinstance(read, StrangeRow)] == [name]
