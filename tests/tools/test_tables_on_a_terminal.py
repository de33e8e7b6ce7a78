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
from tools.finding import BYS
from tools.output import print_json, print_table, relative

LONG_DID = "did:web:" + "very-long-name." * 5 + "example"
LONG_DOMAIN = "a-sending-domain-with-a-long-name-too.a-second-label.example"
LONG_URL = f"https://{LONG_DOMAIN}/a-path/that-goes-on-for-quite-a-while?token=0123456789"
#: What does not come to pass here: nothing is posted to an endpoint that only stands in a table.
NEVER = "message.complained"
#: A policy under which what was sent would have been refused.
STRICT = "\n[warming]\ntiers = [ { hour = 1, day = 1 } ]\n"

#: Every command that prints a table, and what is typed besides DIR. POLICY: a file.
TABLES: dict[str, tuple[str, ...]] = {
    "member list": (),
    "member show": ("--did", DID),
    "suppression list": ("--did", DID),
    "domain list": (),
    "key list": (),
    "webhook list": (),
    "queue list": (),
    "queue list --messages": (),
    "find": ("--since", "1h"),
    **{f"top --by {by}": ("--since", "1h") for by in BYS},
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
    for url in ("https://ops.example/hook", LONG_URL):
        relay.command("webhook", "add", "--url", url, "--type", NEVER)
    text = (directory / "relay.toml").read_text()
    tiers = "\n[warming]\ntiers = [ { hour = 1000000, day = 1000000 } ]\n"
    assert tiers in text
    directory.with_name("POLICY").write_text(text.replace(tiers, STRICT))

    async def send() -> None:
        async with open_http(relay.address) as http:
            for number in range(6):
                to = f"somebody-with-a-long-name-{number}@a-receiver-with-a-long-name.example.com"
                assert (await http.post_send(credentials, to=to)).status == 200
            headers = {**credentials, "Content-Type": "application/json"}
            never = json.dumps({"recipient": f"never@{LONG_DOMAIN}"}).encode()
            assert (await http.request("POST", "/v1/suppressions", headers, never)).status == 201
            hook = json.dumps({"url": LONG_URL, "types": [NEVER]}).encode()
            assert (await http.request("POST", "/v1/webhooks", headers, hook)).status == 201

    def rows() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(relay.command("queue", "list", "--messages", "--json"))[
            "messages"
        ]
        return found

    with relay.running():
        trio.run(send)
        relay.wait_until(lambda: all(row["attempts"] for row in rows()), "tries them")
        yield relay


def path_of(name: str) -> list[str]:
    """The command's own words: `top`, `queue list`."""
    first, *_ = words = name.split()
    return words[: 2 if isinstance(cli.commands[first], click.Group) else 1]


def typed(relay: RelayProcess, name: str, *options: str) -> list[str]:
    path = path_of(name)
    more = name.split()[len(path) :]
    policy = str(relay.directory.with_name("POLICY"))
    others = [policy if word == "POLICY" else word for word in TABLES[name]]
    return [*path, str(relay.directory), *more, *others, *options]


def on_a_terminal(columns: int, *words: str, **environment: str) -> list[str]:
    """The lines that a command prints on a terminal of this width; 0: one that does not say. There is no colour, unless
    `environment` has it otherwise."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (24, columns))
    process = subprocess.Popen(
        [sys.executable, "-m", "relay", *words],
        stdout=its,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", **environment},
    )
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
    # tests/tools/test_finding_commands.py looks at the first two, which have sentences beside their tables; the third
    # has a table where a list names a public address, and none here. The last one's needs a database:
    # tests/nodes/test_node_commands.py looks at it.
    assert wide - {"why", "providers", "listings", "node list"} == {
        " ".join(path_of(name)) for name in TABLES
    }


@pytest.mark.parametrize("columns", [80, 0, 50])
@pytest.mark.parametrize("name", TABLES)
def test_it_fits(relay: RelayProcess, name: str, columns: int) -> None:
    printed = on_a_terminal(columns, *typed(relay, name))
    prose = re.compile(
        r"[\w ]+: .*[.]$|As of |did:\S+ is active since |From \S+ until now|\.\.\. and |Removed |The address |"
        r"\d+ (sends?|segments?) ?.*|\w+: .*"
    )
    tables = [line for line in printed if not (prose.match(line) and not line.startswith(" "))]
    assert tables
    assert max(map(len, tables)) <= (columns or 80), "\n".join(printed)


@pytest.mark.parametrize("name", TABLES)
def test_with_wide_it_is_as_in_a_pipe(relay: RelayProcess, name: str) -> None:
    def whole(lines: list[str]) -> list[list[str]]:
        """Retries go on meanwhile, so times, counts and what follows from them differ."""
        # What is tried again meanwhile goes to another place in the queue.
        return sorted(re.split(r"  +", line)[:1] for line in lines)

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


def test_whose_a_webhook_is_and_where_it_goes_have_room(relay: RelayProcess) -> None:
    titles, *rows, last = on_a_terminal(80, *typed(relay, "webhook list"))
    assert titles.split() == ["webhookId", "did", "status", "cursor", "failures", "url"]
    shown = [re.split("  +", row) for row in rows]
    assert [(row[1], row[2], row[5][:14]) for row in shown] == [
        ("(operator)", "active", "https://ops.ex"),
        ("(operator)", "active", LONG_URL[:14]),
        (f"{DID[:12]}…{DID[-5:]}"[: len(shown[2][1]) - 1] + "…", "active", LONG_URL[:14]),
    ]
    assert last == "(shortened; --wide shows all)"
    _, *whole = relay.command("webhook", "list").splitlines()
    assert [row.split()[-1] for row in whole] == ["https://ops.example/hook", LONG_URL, LONG_URL]


def test_what_has_no_room_beside_the_others_stands_below_its_row(relay: RelayProcess) -> None:
    printed = on_a_terminal(80, *typed(relay, "queue list --messages"))
    assert printed[0].startswith("message")
    _, *below = " ".join(" ".join(printed).split()).split(" last reply: ")
    assert len(below) == 6
    assert all(line.startswith("4.4.1 ") and "no connection to 127.0.0.1" in line for line in below)


@pytest.mark.parametrize("name", ["key list", "queue list --messages"])
def test_colour_says_nothing_that_the_words_do_not(relay: RelayProcess, name: str) -> None:
    def first_words(lines: list[str]) -> list[list[str]]:
        # What is tried again meanwhile goes to another place in the queue.
        return sorted(re.split(r"  +", line)[:1] for line in lines)

    coloured = on_a_terminal(80, *typed(relay, name), NO_COLOR="")
    assert coloured[0].startswith("\x1b[1m")
    word, code = ("active", "32") if name == "key list" else ("deferred", "33")
    assert f"\x1b[{code}m{word}\x1b[0m " in "\n".join(coloured)
    # Without its colours it is the same table, aligned as it was.
    plain = [re.sub(r"\x1b\[\d+m", "", line) for line in coloured]
    assert first_words(plain) == first_words(on_a_terminal(80, *typed(relay, name)))
    assert max(map(len, plain)) <= 80
    assert {plain[0].index("status")} == {line.index(word) for line in plain if word in line}


@pytest.mark.parametrize("without", [{"NO_COLOR": "1"}, {"CLICOLOR": "0"}, {"TERM": "dumb"}])
def test_whoever_wants_no_colour_gets_none(relay: RelayProcess, without: dict[str, str]) -> None:
    environment = {"NO_COLOR": "", "CLICOLOR": "1", **without}
    assert "\x1b" not in "\n".join(on_a_terminal(80, *typed(relay, "key list"), **environment))


def test_in_a_pipe_there_is_no_colour_whatever_is_asked_for(
    relay: RelayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NO_COLOR": "", "CLICOLOR_FORCE": "1", "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    assert "\x1b" not in relay.command("key", "list")


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


def test_what_stands_below_is_cut_after_three_lines(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    rows = [{"a": "x" * 30, "b": "y" * 30, "because": "one two three four five six seven " * 9}]
    titles, row, *below, _ = table(40, rows, monkeypatch, capsys).splitlines()
    assert len(below) == 3
    assert below[0].startswith("    because: one two")
    assert all(line.startswith("      ") for line in below[1:])
    assert below[2].endswith("…")
    assert max(map(len, (titles, row, *below))) <= 40


def test_json_does_nothing_to_a_terminal_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = {"text": '\x9b2J\x7f\u202egnp\u2028\U000e0001é日 \\ " \n'}
    print_json(said)
    printed = capsys.readouterr().out
    assert printed.removesuffix("\n").isprintable()
    assert "é日" in printed
    assert json.loads(printed) == said


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
