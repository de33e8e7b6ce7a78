"""Keys and secrets, and what `doctor` says of them."""

from __future__ import annotations

import os
import re
import socket

import pytest

from relay.config import CONFIG_FILE
from relay.file_names import ADMIN_SOCKET, HTTP_ADDRESS_FILE
from tests.world.operating import STRANGER, TIME, doctor
from tests.world.operator import Operator
from tests.world.relay import DID, OPERATOR_DOMAIN, OTHER_DID

# ------------------------------------------------------------------------------------------------ keys


def test_a_key_is_issued_listed_and_revoked(operator: Operator) -> None:
    first = operator.run(
        "member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example", "--json"
    ).json
    issued = operator.run("key", "issue", "DIR", "--did", DID, "--json").json
    assert issued.keys() == {"did", "keyId", "apiKey", "scope", "category"}
    assert issued["did"] == DID
    assert re.fullmatch(r"atmos_[A-Za-z0-9]{32,}", issued["apiKey"])
    assert issued["apiKey"] != first["apiKey"]
    assert operator.run("key", "revoke", "DIR", "--did", DID, "--key-id", issued["keyId"]).status == 0
    rows = operator.run("key", "list", "DIR", "--did", DID, "--json").json
    status = {row["keyId"]: row["status"] for row in rows}
    assert status == {first["keyId"]: "active", issued["keyId"]: "revoked"}
    (revoked,) = [row for row in rows if row["status"] == "revoked"]
    assert TIME.fullmatch(revoked["revokedAt"])


def test_a_key_that_is_revoked_or_unknown_or_anothers_cannot_be_revoked(operator: Operator) -> None:
    mine = operator.run(
        "member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example", "--json"
    ).json
    theirs = operator.run(
        "member", "add", "DIR", "--offline", "--did", OTHER_DID, "--domain", "b.example", "--json"
    ).json

    def revoke(did: str, key_id: str) -> str:
        return operator.refused("key", "revoke", "DIR", "--did", did, "--key-id", key_id)

    assert "has no key" in revoke(DID, theirs["keyId"])
    assert "has no key" in revoke(DID, "unheard-of")
    assert "not a member" in revoke(STRANGER, mine["keyId"])
    assert operator.run("key", "revoke", "DIR", "--did", DID, "--key-id", mine["keyId"]).status == 0
    assert "was revoked already" in revoke(DID, mine["keyId"])


@pytest.mark.parametrize("command", ["issue", "list"])
def test_keys_of_nobody(operator: Operator, command: str) -> None:
    assert operator.refused("key", command, "DIR", "--did", STRANGER) == f"did: {STRANGER} is not a member"
    # What is no DID is not looked up: a table's key has a greatest length.
    assert "not a valid did:plc:" in operator.refused("key", command, "DIR", "--did", "x" * 2_000)


def test_only_so_many_keys_are_active(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    issued = [operator.run("key", "issue", "DIR", "--did", DID, "--json").json for _ in range(9)]
    assert "10 active keys" in operator.refused("key", "issue", "DIR", "--did", DID)
    operator.run("key", "revoke", "DIR", "--did", DID, "--key-id", issued[0]["keyId"])
    assert operator.run("key", "issue", "DIR", "--did", DID).status == 0


@pytest.mark.parametrize(
    ("options", "scope", "category"),
    [
        ((), "full", None),
        (("--scope", "send"), "send", None),
        (("--category", "verification"), "send", "verification"),
        (("--category", "bulk", "--scope", "full"), "full", "bulk"),
    ],
)
def test_what_a_key_is_for_is_said_once_and_shown(
    operator: Operator, options: tuple[str, ...], scope: str, category: str | None
) -> None:
    first = operator.run(
        "member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example", "--json"
    ).json
    issued = operator.run("key", "issue", "DIR", "--did", DID, *options, "--json").json
    assert (issued["scope"], issued["category"]) == (scope, category)
    rows = {row["keyId"]: row for row in operator.run("key", "list", "DIR", "--json").json}
    assert [rows[issued["keyId"]][name] for name in ("scope", "category", "issuedBy")] == [
        scope,
        category,
        None,
    ]
    assert [rows[first["keyId"]][name] for name in ("scope", "category")] == ["full", None]
    use = f"({scope}, {category})" if category else f"({scope})"
    assert use in operator.run("key", "issue", "DIR", "--did", DID, *options).out
    assert f"key {issued['keyId']} {use} is issued to {DID} (by " in operator.run("log", "cat", "DIR").out


def test_a_scope_or_a_category_that_there_is_not(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    issue = ("key", "issue", "DIR", "--did", DID)
    sentence = operator.refused(*issue, "--category", "marketing")
    assert sentence.startswith("category: 'marketing' is none of transactional, login-link, ")
    assert "--scope" in operator.misused(*issue, "--scope", "all")
    assert len(operator.run("key", "list", "DIR", "--json").json) == 1


# ------------------------------------------------------------------------------------------------ secrets and doctor


@pytest.mark.parametrize("secret", ["pepper", f"keys/{OPERATOR_DOMAIN}/atmos20260101r.pem"])
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(operator: Operator, secret: str, mode: int) -> None:
    path = operator.directory / secret
    path.chmod(mode)
    for words in (("member", "list", "DIR"), ("serve", "DIR")):
        sentence = operator.refused(*words)
        assert sentence.startswith(f"{path}: ")
        assert f"chmod 600 {path}" in sentence
    report = operator.run("doctor", "DIR")
    assert report.status == 1
    assert f"PROBLEM  keys: {path}: " in report.out
    path.chmod(0o600)
    assert operator.run("member", "list", "DIR").status == 0


def test_doctor_finds_nothing_wrong_and_changes_nothing(operator: Operator) -> None:
    config = operator.directory / CONFIG_FILE
    config.write_text(config.read_text().replace("# free_bytes_min = 1073741824", "free_bytes_min = 0"))
    before = {path: path.stat().st_mtime_ns for path in operator.directory.rglob("*")}
    status, findings = doctor(operator)
    assert [check for check, (ok, _) in findings.items() if not ok] == []
    assert status == 0
    assert {"configuration", "permissions", "keys", "disk space", "log", "relay"} <= findings.keys()
    assert {path: path.stat().st_mtime_ns for path in operator.directory.rglob("*")} == before


def test_doctor_exits_1_and_names_what_is_wrong(operator: Operator) -> None:
    operator.directory.chmod(0o755)
    config = operator.directory / CONFIG_FILE
    config.write_text(
        config.read_text()
        .replace("# free_bytes_min = 1073741824", f"free_bytes_min = {2**53}")
        .replace('public_url = "https', 'public_url = "http')
    )
    status, findings = doctor(operator)
    assert status == 1
    wrong = {check: says for check, (ok, says) in findings.items() if not ok}
    assert wrong.keys() == {"permissions", "disk space", "public_url"}
    assert f"chmod 700 {operator.directory}" in wrong["permissions"]
    assert "https" in wrong["public_url"]


def test_doctor_is_not_taken_in_by_what_a_killed_relay_left_behind(operator: Operator) -> None:
    (operator.directory / HTTP_ADDRESS_FILE).write_text("127.0.0.1:8025\n")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(operator.directory / ADMIN_SOCKET))
        left.listen()
        assert doctor(operator)[1]["relay"] == (True, "running, HTTP on 127.0.0.1:8025")
    assert (operator.directory / ADMIN_SOCKET).exists()
    assert doctor(operator)[1]["relay"] == (True, "not running")


def test_doctor_without_a_configuration_that_can_be_read(operator: Operator) -> None:
    (operator.directory / CONFIG_FILE).write_text("colour = 1\n")
    status, findings = doctor(operator)
    assert status == 1
    assert findings.keys() == {"configuration"}
    assert f"{operator.directory / CONFIG_FILE} line 1: " in findings["configuration"][1]


def test_doctor_finds_a_damaged_log(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    (segment,) = (operator.directory / "log").glob("*.seg")
    with segment.open("r+b") as file:
        file.write(b"X")
    os.utime(segment)
    status, findings = doctor(operator)
    assert status == 1
    ok, says = findings["log"]
    assert not ok
    assert segment.name in says
    # And nothing that would need it goes on.
    assert segment.name in operator.refused("member", "list", "DIR")


# ------------------------------------------------------------------------------------------------ the changed domain


def test_a_changed_operator_domain_is_refused_at_start(operator: Operator) -> None:
    config = operator.directory / CONFIG_FILE
    config.write_text(config.read_text().replace(OPERATOR_DOMAIN, "new.example"))
    assert "set operator_domain back" in operator.refused("serve", "DIR")
    status, findings = doctor(operator)
    assert status == 1
    assert "set operator_domain back" in findings["keys"][1]
