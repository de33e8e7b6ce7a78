"""Tables fit the terminal that they are printed on, and are whole everywhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click
import pytest
import trio

from tests.world.http import open_http
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory
from tests.world.relay import DID
from tools.cli import cli
from tools.output import print_table, relative

LONG_DID = "did:web:" + "very-long-name." * 5 + "example"
LONG_DOMAIN = "a-sending-domain-with-a-long-name-too.a-second-label.example"
#: A policy under which what was sent would have been refused.
STRICT = "\n[warming]\ntiers = [ { hour = 1, day = 1 } ]\n"

#: Every command that prints a table, and what is typed besides DIR. POLICY: a file.
TABLES: dict[str, tuple[str, ...]] = {
    "member list": (),
    "domain list": (),
    "key list": (),
    "queue list": (),
    "queue list --messages": (),
    "log inspect": (),
    "log replay": tuple(
        f"--view={name}" for name in ("messages", "due", "counters", "members", "domains", "keys")
    ),
    "log strip": (),
    "log erase": ("--recipient", "nobody@example.com", "--reason", "none"),
    "policy simulate": ("--config", "POLICY"),
}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """It runs, and what its members sent waits: nobody listens where it goes."""
    directory = tmp_path_factory.mktemp("tables") / "data"
    relay = RelayProcess(make_process_directory(directory, route="127.0.0.1:1"))
    credentials = relay.enrol()
    relay.enrol(LONG_DID, LONG_DOMAIN)
    text = (directory / "relay.toml").read_text()
    tiers = "\n[warming]\ntiers = [ { hour = 1000000, day = 1000000 } ]\n"
    assert tiers in text
    directory.with_name("POLICY").write_text(text.replace(tiers, STRICT))

    async def send() -> None:
        async with open_http(relay.address) as http:
            for number in range(6):
                to = f"somebody-with-a-long-name-{number}@a-receiver-with-a-long-name.example.com"
                assert (await http.post_send(credentials, to=to)).status == 200

    def rows() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(relay.command("queue", "list", "--messages", "--json"))[
            "messages"
        ]
        return found

    with relay.running():
        trio.run(send)
        relay.wait_until(lambda: all(row["attempts"] for row in rows()), "tries them")
        yield relay


def typed(relay: RelayProcess, name: str, *options: str) -> list[str]:
    group, command, *more = name.split()
    policy = str(relay.directory.with_name("POLICY"))
    others = [policy if word == "POLICY" else word for word in TABLES[name]]
    return [group, command, str(relay.directory), *more, *others, *options]


def on_a_terminal(columns: int, *words: str) -> list[str]:
    """The lines that a command prints on a terminal of this width; 0: one that does not say."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (24, columns))
    process = subprocess.Popen([sys.executable, "-m", "relay", *words], stdout=its, stderr=subprocess.PIPE)
    os.close(its)
    printed = b""
    try:
        while octets := os.read(ours, 65536):
            printed += octets
    except OSError:
        pass  # how Linux says that nobody has the other end any more
    finally:
        os.close(ours)
    assert process.stderr is not None
    with process.stderr as stderr:
        complaint = stderr.read()
    assert (process.wait(PATIENCE_SECONDS), complaint) == (0, b"")
    return printed.decode().replace("\r\n", "\n").splitlines()


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield " ".join((*path, name)), command


def test_every_command_that_can_print_all_is_looked_at_here() -> None:
    wide = {
        name
        for name, command in commands(cli)
        if any("--wide" in parameter.opts for parameter in command.params)
    }
    assert wide == {" ".join(name.split()[:2]) for name in TABLES}


@pytest.mark.parametrize("columns", [80, 0, 50])
@pytest.mark.parametrize("name", TABLES)
def test_it_fits(relay: RelayProcess, name: str, columns: int) -> None:
    printed = on_a_terminal(columns, *typed(relay, name))
    prose = re.compile(
        r"[\w ]+: .*[.]$|As of |\.\.\. and |Removed |The address |\d+ (sends?|segments?) ?.*|\w+: .*"
    )
    tables = [line for line in printed if not (prose.match(line) and not line.startswith(" "))]
    assert tables
    assert max(map(len, tables)) <= (columns or 80), "\n".join(printed)


@pytest.mark.parametrize("name", TABLES)
def test_with_wide_it_is_as_in_a_pipe(relay: RelayProcess, name: str) -> None:
    def whole(lines: list[str]) -> list[list[str]]:
        """Retries go on meanwhile, so times, counts and what follows from them differ."""
        return [re.split(r"  +", line)[:1] for line in lines]

    piped = relay.run_command(*typed(relay, name))
    assert piped.returncode == 0, piped.stderr
    assert whole(on_a_terminal(80, *typed(relay, name, "--wide"))) == whole(piped.stdout.splitlines())
    assert "…" not in piped.stdout
    assert "shortened" not in piped.stdout


def test_what_is_short_is_said_shortly(relay: RelayProcess) -> None:
    printed = on_a_terminal(80, *typed(relay, "key list"))
    assert printed[0].split() == ["did", "keyId", "status", "scope", "issued"]
    assert all(re.search(r" (now|\d+ (s|min) ago)$", line) for line in printed[1:-1]), printed
    assert printed[-1] == "(shortened; --wide shows all)"
    assert LONG_DID not in "\n".join(printed)
    assert f"{DID[:12]}…{DID[-5:]}" in "\n".join(printed)
    # In a pipe nothing is left out, and a time is a time.
    titles, *rows = relay.command("key", "list").splitlines()
    assert titles.split()[-2:] == ["issuedAt", "revokedAt"]
    assert any(line.startswith(LONG_DID) for line in rows)
    assert all(datetime.fromisoformat(line.split()[5]).tzinfo for line in rows)


def test_what_has_no_room_beside_the_others_stands_below_its_row(relay: RelayProcess) -> None:
    printed = on_a_terminal(80, *typed(relay, "queue list --messages"))
    assert printed[0].startswith("message")
    below = [line for line in printed if line.startswith("    last reply: ")]
    assert len(below) == 6
    assert all("4.4.1 " in line and "no connection to 1" in line for line in below)


def table(columns: int, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    monkeypatch.setattr("tools.output._terminal_width", lambda: columns)
    print_table(rows, tuple(rows[0]), empty="nothing")
    printed: str = capsys.readouterr().out
    return printed


def test_a_table_that_fits_is_whole(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    rows = [{"did": DID, "addedAt": "2026-01-01T00:00:00.000000Z", "none": None}]
    assert table(80, rows, monkeypatch, capsys) == (
        f"{'did':<32}  {'addedAt':<27}  none\n{DID}  2026-01-01T00:00:00.000000Z  -\n"
    )


def test_wide_characters_take_two_places_and_combining_ones_none(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows = [{"a": "漢" * 30, "b": "x"}, {"a": "e\u0301" * 30, "b": "y"}]
    assert table(40, rows, monkeypatch, capsys).splitlines() == [
        "a" + " " * 38 + "b",
        "漢" * 18 + "…  " + "x",
        "e\u0301" * 30 + " " * 9 + "y",
        "(shortened; --wide shows all)",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "now"),
        (-1, "1 s ago"),
        (-119, "119 s ago"),
        (120, "in 2 min"),
        (-7_199, "119 min ago"),
        (7_200, "in 2 h"),
        (-2 * 86_400, "2 d ago"),
        (400 * 86_400, "in 400 d"),
    ],
)
def test_relative_times(seconds: float, said: str) -> None:
    assert relative(seconds) == said
