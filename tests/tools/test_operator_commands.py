"""The operator's commands: what they print, and their exit status: 0 good, 1 a problem, 2 usage (SPEC 7, 10 to 12)."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from relay.codec import decode
from relay.config import CONFIG_FILE
from relay.domains.records import TXT_STRING_OCTETS_MAX
from relay.file_names import LOG_DIRECTORY
from relay.message.keys import load_pepper
from spool.reader import LogReader
from tests.world.operating import STRANGER, TIME
from tests.world.operator import ME, Operator
from tests.world.process import PATIENCE_SECONDS
from tests.world.relay import DID, OPERATOR_DOMAIN, OTHER_DID
from tools.cli import cli


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Operator:
    """No directory yet."""
    return Operator(tmp_path / "below" / "data", monkeypatch, capsys)


# ------------------------------------------------------------------------------------------------ all commands


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


EVERY_COMMAND = list(commands(cli))


def test_the_commands_are_those_of_the_specification() -> None:
    assert {" ".join(path) for path in EVERY_COMMAND} >= {
        "init",
        "serve",
        "doctor",
        "dns",
        "member add",
        "member list",
        "domain add",
        "domain list",
        "key issue",
        "key list",
        "key revoke",
        "log",
    }


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=lambda path: " ".join(path) or "atmos-relay")
def test_every_command_has_help(operator: Operator, path: tuple[str, ...]) -> None:
    said = operator.run(*path, "--help")
    assert (said.status, said.err) == (0, "")
    usage, about, *_ = said.out.split("\n\n")
    assert re.fullmatch(rf"Usage: .+{' '.join(('', *path))} \[OPTIONS\].*", usage, re.DOTALL)
    # It says what it is for, not only how it is called.
    assert about.strip()
    assert "Options:" not in about


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("bogus",),
        ("member", "bogus"),
        ("init",),
        ("member", "add"),
        ("member", "add", "DIR", "--offline", "--did", DID),
        ("member", "add", "DIR", "--offline", "--domain", "a.example"),
        ("member", "list", "DIR", "--bogus"),
        ("key", "revoke", "DIR", "--did", DID),
        ("dns", "DIR", "superfluous"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(operator: Operator, words: tuple[str, ...]) -> None:
    assert operator.misused(*words).startswith("Usage: ")


def test_python_m_relay_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "relay", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Atmosphere Mail relay" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("serve", "DIR"),
        ("dns", "DIR"),
        ("member", "list", "DIR"),
        ("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example"),
        ("key", "issue", "DIR", "--did", DID),
    ],
    ids=" ".join,
)
def test_a_directory_that_is_none_is_refused_with_what_to_do(
    newcomer: Operator, words: tuple[str, ...]
) -> None:
    sentence = newcomer.refused(*words)
    assert "does not exist; `atmos-relay init" in sentence
    assert not newcomer.directory.exists()


# ------------------------------------------------------------------------------------------------ init


def test_init_makes_a_directory_that_is_private_and_complete(newcomer: Operator) -> None:
    said = newcomer.run(
        "init", "DIR", "--operator-domain", "mail.example", "--public-url", "https://relay.mail.example"
    )
    assert (said.status, said.err) == (0, "")
    directory = newcomer.directory
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    answer = newcomer.run("dns", "DIR", "--json").json
    assert answer["operator"]["domain"] == "mail.example"
    assert answer["domains"] == []
    assert 'public_url = "https://relay.mail.example"' in (directory / CONFIG_FILE).read_text()


def test_init_twice_changes_nothing(newcomer: Operator) -> None:
    assert newcomer.run("init", "DIR").status == 0
    before = {path: path.read_bytes() for path in newcomer.directory.rglob("*") if path.is_file()}
    assert "nothing was changed" in newcomer.refused("init", "DIR", "--operator-domain", "other.example")
    assert {path: path.read_bytes() for path in newcomer.directory.rglob("*") if path.is_file()} == before


def test_init_that_was_cut_short_can_be_run_again(newcomer: Operator) -> None:
    assert newcomer.run("init", "DIR").status == 0
    pepper = load_pepper(newcomer.directory).bounce_key
    keys = sorted((newcomer.directory / "keys").rglob("*.pem"))
    contents = [path.read_bytes() for path in keys]
    (newcomer.directory / CONFIG_FILE).unlink()
    assert newcomer.run("init", "DIR").status == 0
    assert load_pepper(newcomer.directory).bounce_key == pepper
    assert [path.read_bytes() for path in keys] == contents


def test_init_leaves_nothing_of_one_that_lost_power(newcomer: Operator) -> None:
    """The files that it had begun are still there under their temporary names (relay.message.key_files)."""
    assert newcomer.run("init", "DIR").status == 0
    keys = next((newcomer.directory / "keys").iterdir())
    (newcomer.directory / CONFIG_FILE).unlink()
    for begun in (
        newcomer.directory / ".pepper.0123abcd.tmp",
        newcomer.directory / f".{CONFIG_FILE}.0123abcd.tmp",
    ):
        begun.touch()
    (keys / ".atmos20260101r.pem.0123abcd.tmp").touch()
    assert newcomer.run("init", "DIR").status == 0
    assert list(newcomer.directory.glob("**/.*")) == []
    (newcomer.directory / CONFIG_FILE).unlink()
    (newcomer.directory / ".profile.tmp").touch()
    assert "is not empty" in newcomer.refused("init", "DIR")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--operator-domain", "localhost"),
        ("--operator-domain", "Mail.example"),
        ("--operator-domain", 'a.example"\nx = "'),
        ("--public-url", "mail.example"),
        ("--public-url", "https://mail.example/"),
    ],
)
def test_init_with_a_bad_name_makes_nothing(newcomer: Operator, option: str, value: str) -> None:
    newcomer.refused("init", "DIR", option, value)
    assert not newcomer.directory.exists()


# ------------------------------------------------------------------------------------------------ member add and dns


def check_records(records: list[dict[str, str]], domain: str, selector: str) -> dict[str, str]:
    """Every record has the shape of SPEC 10; the TXT records by name."""
    for record in records:
        assert record.keys() == {"type", "name", "value", "purpose"}
        assert all(isinstance(value, str) and value for value in record.values())
        assert record["name"] == domain or record["name"].endswith(f".{domain}")
        assert '"' not in record["value"]
    txt = {record["name"]: record["value"] for record in records if record["type"] == "TXT"}
    assert re.fullmatch(r"v=DKIM1; k=rsa; p=[A-Za-z0-9+/]{300,}=*", txt[f"{selector}r._domainkey.{domain}"])
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", txt[f"{selector}e._domainkey.{domain}"])
    assert txt[f"_dmarc.{domain}"] == "v=DMARC1; p=reject; adkim=r; aspf=r"
    return txt


def test_member_add_prints_the_key_and_the_records(operator: Operator) -> None:
    answer = operator.run(
        "member",
        "add",
        "DIR",
        "--offline",
        "--did",
        DID,
        "--domain",
        "a.example",
        "--domain",
        "BÜCHER.example",
        "--json",
    ).json
    assert {"did", "apiKey", "domains"} <= answer.keys()
    assert answer["did"] == DID
    assert re.fullmatch(r"atmos_[A-Za-z0-9]{32,}", answer["apiKey"])
    assert [enrolled["domain"] for enrolled in answer["domains"]] == ["a.example", "xn--bcher-kva.example"]
    for enrolled in answer["domains"]:
        assert {"domain", "selector", "records"} <= enrolled.keys()
        assert re.fullmatch(r"atmos\d{8}", enrolled["selector"])
        txt = check_records(enrolled["records"], enrolled["domain"], enrolled["selector"])
        assert txt[enrolled["domain"]] == f"v=spf1 include:{OPERATOR_DOMAIN} ~all"
        assert DID in txt[f"_atmos-verify.{enrolled['domain']}"]
        assert len(enrolled["records"]) == 5


def test_the_key_that_member_add_prints_is_kept_nowhere(operator: Operator) -> None:
    said = operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    assert (said.status, said.err) == (0, "")
    (key,) = re.findall(r"atmos_[A-Za-z0-9]{32,}", said.out)
    files = [path for path in operator.directory.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if key.encode() in path.read_bytes()] == []


def test_dns_has_the_operator_and_every_domain(operator: Operator) -> None:
    enrolled = operator.run(
        "member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example", "--json"
    ).json
    other = operator.run(
        "member", "add", "DIR", "--offline", "--did", OTHER_DID, "--domain", "b.example", "--json"
    ).json
    answer = operator.run("dns", "DIR", "--json").json
    assert answer.keys() == {"operator", "domains"}
    assert {"domain", "selector", "records"} <= answer["operator"].keys()
    txt = check_records(answer["operator"]["records"], OPERATOR_DOMAIN, answer["operator"]["selector"])
    assert txt[OPERATOR_DOMAIN].startswith("v=spf1 ")
    assert answer["domains"] == enrolled["domains"] + other["domains"]
    one = operator.run("dns", "DIR", "--domain", "B.example", "--json").json
    assert one["domains"] == other["domains"]
    assert "not enrolled" in operator.refused("dns", "DIR", "--domain", "c.example")
    assert "domain: " in operator.refused("dns", "DIR", "--domain", "c")


def test_dns_for_people_is_a_zone_file_whose_strings_are_short_enough(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    answer = operator.run("dns", "DIR", "--json").json
    expected = {
        (f"{record['name']}.", record["type"], record["value"])
        for part in (answer["operator"], *answer["domains"])
        for record in part["records"]
    }
    said = operator.run("dns", "DIR")
    assert (said.status, said.err) == (0, "")
    found = set()
    split = 0
    for line in said.out.splitlines():
        if not line or line.startswith(";"):
            continue
        name, _ttl, _in, kind, data = line.split(" ", 4)
        if kind == "TXT":
            strings = re.findall(r'"([^"]*)"', data)
            assert all(len(string.encode()) <= TXT_STRING_OCTETS_MAX for string in strings)
            split += len(strings) > 1
            data = "".join(strings)
        found.add((name, kind, data.rstrip(".") if kind == "MX" else data))
    assert found == expected
    # The two RSA keys.
    assert split == 2


@pytest.mark.parametrize(
    ("did", "domains", "named"),
    [
        ("did:plc:short", ["a.example"], "did: "),
        ("did:plc:" + "A" * 24, ["a.example"], "did: "),
        ("did:web:", ["a.example"], "did: "),
        ("did:key:z6Mk", ["a.example"], "did: "),
        ("", ["a.example"], "did: "),
        (DID, ["localhost"], "domain: "),
        (DID, ["a.example."], "domain: "),
        (DID, ["a_b.example"], "domain: "),
        (DID, [""], "domain: "),
        (DID, ["a.example", "b.example", "c.example"], "domain: a member may have 2 domains"),
    ],
)
def test_a_member_that_cannot_be_is_refused(
    operator: Operator, did: str, domains: list[str], named: str
) -> None:
    before = sorted((operator.directory / "keys").rglob("*"))
    options = [word for domain in domains for word in ("--domain", domain)]
    assert operator.refused("member", "add", "DIR", "--offline", "--did", did, *options).startswith(named)
    assert operator.run("member", "list", "DIR", "--json").json == []
    # Refused before keys were made.
    assert sorted((operator.directory / "keys").rglob("*")) == before


def test_a_member_or_a_domain_is_enrolled_once(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    assert "is a member already" in operator.refused(
        "member", "add", "DIR", "--offline", "--did", DID, "--domain", "b.example"
    )
    taken = "a.example is enrolled already"
    assert taken in operator.refused("domain", "add", "DIR", "--did", DID, "--domain", "A.example")
    (member,) = operator.run("member", "list", "DIR", "--json").json
    assert member["domains"] == ["a.example"]


def test_a_name_that_nobody_has_proved_may_be_enrolled_by_others(operator: Operator) -> None:
    for did in (DID, OTHER_DID):
        operator.run("member", "add", "DIR", "--offline", "--did", did, "--domain", "a.example")
    rows = operator.run("domain", "list", "DIR", "--json").json
    assert [(row["domain"], row["did"]) for row in rows] == [("a.example", DID), ("a.example", OTHER_DID)]


def test_domains_and_members_are_removed(operator: Operator) -> None:
    names = ("--domain", "a.example", "--domain", "b.example")
    operator.run("member", "add", "DIR", "--offline", "--did", DID, *names)
    said = operator.run(
        "domain", "remove", "DIR", "--did", DID, "--domain", "A.example", "--reason", "typed wrongly"
    )
    assert said.status == 0
    assert said.out.startswith("a.example is removed; cancelled: 0 messages.")
    assert "  TXT _atmos-verify.a.example" in said.out
    assert "is not enrolled" in operator.refused(
        "domain", "remove", "DIR", "--did", DID, "--domain", "a.example"
    )
    assert "reason: is empty" in operator.refused("member", "remove", "DIR", "--did", DID, "--reason", " ")
    said = operator.run("member", "remove", "DIR", "--did", DID)
    assert said.out.endswith(f"{DID} is no member any more.\n")
    assert "b.example is removed" in said.out
    assert operator.run("member", "list", "DIR", "--json").json == []
    assert operator.run("key", "list", "DIR", "--json").json == []
    told = operator.run("log", "cat", "DIR", "--did", DID).out
    assert f"a.example is removed from {DID} by {ME}: typed wrongly" in told
    assert f"b.example is removed from {DID} with its member by {ME}" in told
    assert f"{DID} is no member any more by {ME}" in told


def test_a_domain_that_is_named_twice_is_enrolled_once(operator: Operator) -> None:
    answer = operator.run(
        "member",
        "add",
        "DIR",
        "--offline",
        "--did",
        DID,
        "--domain",
        "a.example",
        "--domain",
        "A.Example",
        "--json",
    ).json
    assert [enrolled["domain"] for enrolled in answer["domains"]] == ["a.example"]
    with LogReader(operator.directory / LOG_DIRECTORY) as reader:
        types = [decode(record).event.TYPE for record in reader.read(1)]
    assert types.count("domain.added") == 1


# ------------------------------------------------------------------------------------------------ domains and lists


def test_domain_add_up_to_the_limit(operator: Operator) -> None:
    operator.run("member", "add", "DIR", "--offline", "--did", DID, "--domain", "a.example")
    answer = operator.run("domain", "add", "DIR", "--did", DID, "--domain", "b.example", "--json").json
    assert {"domain", "selector", "records"} <= answer.keys()
    check_records(answer["records"], "b.example", answer["selector"])
    sentence = operator.refused("domain", "add", "DIR", "--did", DID, "--domain", "c.example")
    assert sentence.startswith("domain: a member may have 2 domains")
    sentence = operator.refused("domain", "add", "DIR", "--did", STRANGER, "--domain", "c.example")
    assert sentence == f"did: {STRANGER} is not a member"


def test_lists_are_arrays_of_objects(operator: Operator) -> None:
    for command in ("member", "domain", "key"):
        assert operator.run(command, "list", "DIR", "--json").json == []
        assert operator.run(command, "list", "DIR").out.startswith("There are no ")
    operator.run("member", "add", "DIR", "--offline", "--did", OTHER_DID, "--domain", "b.example")
    operator.run(
        "member", "add", "DIR", "--offline", "--did", DID, "--domain", "z.example", "--domain", "a.example"
    )
    rows = operator.run("member", "list", "DIR", "--json").json
    assert [(row["did"], row["status"], row["domains"]) for row in rows] == [
        (DID, "active", ["a.example", "z.example"]),
        (OTHER_DID, "active", ["b.example"]),
    ]
    assert all(TIME.fullmatch(row["addedAt"]) for row in rows)
    rows = operator.run("domain", "list", "DIR", "--json").json
    assert [(row["did"], row["domain"], row["status"]) for row in rows] == [
        (DID, "a.example", "active"),
        (OTHER_DID, "b.example", "active"),
        (DID, "z.example", "active"),
    ]
    assert all(TIME.fullmatch(row["addedAt"]) for row in rows)
    rows = operator.run("key", "list", "DIR", "--json").json
    assert [(row["did"], row["status"], row["revokedAt"]) for row in rows] == [
        (DID, "active", None),
        (OTHER_DID, "active", None),
    ]
    table = operator.run("member", "list", "DIR").out.splitlines()
    assert table[0].split() == ["did", "status", "domains", "addedAt", "handle"]
    assert [line.split()[0] for line in table[1:]] == [DID, OTHER_DID]
