"""Which settings of a server are refused, and what the statements ask of them themselves."""

from __future__ import annotations

import pytest

from spool.replicated.promise import SEES_STANDBYS, SETTINGS, Promise, find_refusals, guard

GOOD = {
    "server_version_num": "150018",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "ANY 1 (b, c)",
    SEES_STANDBYS: "on",
}


def test_a_good_server_is_refused_by_nobody() -> None:
    assert GOOD.keys() == {*SETTINGS, SEES_STANDBYS}
    for promise in Promise:
        assert find_refusals(GOOD, promise) == []
        assert find_refusals({**GOOD, "synchronous_commit": "remote_apply"}, promise) == []


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("server_version_num", "130011", "it is PostgreSQL 13, and must be 14 or newer"),
        ("fsync", "off", "fsync is off, and must be on"),
        ("full_page_writes", "off", "full_page_writes is off, and must be on"),
        ("synchronous_commit", "local", "synchronous_commit is local, and must be on or remote_apply"),
        ("synchronous_commit", "remote_write", "synchronous_commit is remote_write, and must be on or"),
        ("synchronous_standby_names", "", "synchronous_standby_names is empty"),
        (SEES_STANDBYS, "off", "GRANT pg_monitor"),
    ],
)
def test_each_setting_is_refused_by_its_name(name: str, value: str, problem: str) -> None:
    (said,) = find_refusals({**GOOD, name: value}, Promise.STANDBYS)
    assert problem in said


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert (
        len(find_refusals({**GOOD, "fsync": "off", "synchronous_standby_names": ""}, Promise.STANDBYS)) == 2
    )


def test_a_providers_word_stands_for_what_cannot_be_seen() -> None:
    unseen = {"synchronous_standby_names": "", SEES_STANDBYS: "off", "full_page_writes": "off"}
    assert find_refusals({**GOOD, **unseen}, Promise.PROVIDER) == []
    (said,) = find_refusals({**GOOD, "synchronous_commit": "off"}, Promise.PROVIDER)
    assert "synchronous_commit is off" in said


def test_one_server_that_promises_nothing_needs_no_setting() -> None:
    nothing = dict.fromkeys(GOOD, "off") | {
        "server_version_num": "140000",
        "synchronous_standby_names": "",
    }
    assert find_refusals(nothing, Promise.NONE) == []
    assert "must be 14" in find_refusals({**nothing, "server_version_num": "130000"}, Promise.NONE)[0]


def test_a_statement_asks_for_warnings_whatever_is_promised() -> None:
    for promise in Promise:
        assert "client_min_messages" in guard(promise)
    assert "synchronous_standby_names" in guard(Promise.STANDBYS)
    assert "synchronous_standby_names" not in guard(Promise.PROVIDER)
