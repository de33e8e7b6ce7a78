"""A command imports what it uses, and no more: what is not imported takes no time. (`benchmarks.command_start` measures
the time.)"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory
from tools.cli import cli
from tools.lazy import LazyGroup

#: What takes a tenth of a second to import, or belongs to what does, and packages of ours.
HEAVY = {
    *("asyncio", "cbor2", "cryptography", "dkim", "dns", "h11", "hypercorn", "lmdb", "msgspec", "nacl"),
    *("prometheus_client", "quart", "quart_trio", "trio", "trio_websocket"),
    *("relay", "spool"),
}
#: What it takes to fold a log into views.
FOLDING = {"cbor2", "lmdb", "msgspec", "relay", "spool"}

#: Prints at its end which of these packages it has imported.
SCRIPT = f"""
import atexit, sys
heavy = {sorted(HEAVY)}
atexit.register(lambda: print("loaded:", *(name for name in heavy if name in sys.modules), file=sys.stderr))
from tools.cli import main
main()
"""


def loaded_by(*words: str, **environment: str) -> set[str]:
    """The packages of HEAVY that a command imports."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    return set(line.removeprefix("loaded:").split())


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> RelayProcess:
    """One that has a member, and does not run."""
    directory = tmp_path_factory.mktemp("start") / "data"
    relay = RelayProcess(make_process_directory(directory, route="127.0.0.1:1"))
    relay.enrol()
    return relay


LOOKING = [
    ("member", "list"),
    ("domain", "list"),
    ("key", "list"),
    ("webhook", "list"),
    ("queue", "list"),
    ("queue", "list", "--messages"),
    ("dns",),
]


def test_help_imports_nothing_of_what_it_speaks() -> None:
    for words in ((), ("log",), ("serve",)):
        assert loaded_by(*words, "--help") == set(), words


def test_completion_imports_nothing_of_what_it_names() -> None:
    typed = {"_ATMOS_RELAY_COMPLETE": "bash_complete", "COMP_WORDS": "atmos-relay log re", "COMP_CWORD": "2"}
    script = "import sys; sys.argv[0] = 'atmos-relay'\n" + SCRIPT
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **typed},
    )
    assert done.stdout.split() == ["plain,rebuild", "plain,repair", "plain,replay", "plain,restore"]
    assert done.stderr == "loaded:\n"


def test_beside_a_running_relay_a_look_takes_no_more_than_a_socket(relay: RelayProcess) -> None:
    with relay.running():
        for name, *rest in LOOKING:
            subcommand, *options = rest or [""]
            words = [word for word in (name, subcommand, str(relay.directory), *options) if word]
            assert loaded_by(*words) == {"relay"}, words


def test_on_a_directory_a_look_takes_what_folds_the_log(relay: RelayProcess) -> None:
    for name, *rest in LOOKING:
        subcommand, *options = rest or [""]
        words = [word for word in (name, subcommand, str(relay.directory), *options) if word]
        # Public keys are read from the private ones.
        more = {"cryptography"} if name == "dns" else set()
        assert loaded_by(*words) == FOLDING | more, words


def test_the_log_is_looked_at_without_what_writes_it(relay: RelayProcess, tmp_path: Path) -> None:
    assert loaded_by("log", "inspect", str(relay.directory)) == {"relay", "spool"}
    assert loaded_by("log", "cat", str(relay.directory)) == {"cbor2", "msgspec", "relay", "spool"}


def test_making_a_directory_takes_what_makes_keys(tmp_path: Path) -> None:
    assert loaded_by("init", str(tmp_path / "data")) == {"cryptography", "msgspec", "relay"}


def test_the_version_is_told_whole() -> None:
    lines = CliRunner().invoke(cli, ["version"]).output
    assert re.fullmatch(
        r"atmos-relay \d+\.\d+\.\d+(\.dev\d+)?\nPython 3\.\d+\.\S+\nLMDB \d+\.\d+\.\d+\n", lines
    )
    assert CliRunner().invoke(cli, ["--version"]).output == lines
    assert loaded_by("version") == {"lmdb"}


# ------------------------------------------------------------------------------------------------ the list of commands


def groups(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Group]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups(command, *path, name)


GROUPS = dict(groups(cli))


def test_what_a_group_says_of_a_command_is_what_the_command_says() -> None:
    lazy = [group for group in GROUPS.values() if isinstance(group, LazyGroup)]
    assert lazy == [cli, GROUPS["log",]]
    for group in lazy:
        for name, elsewhere in group.elsewhere.items():
            command = elsewhere.load()
            assert command.name == name
            assert command.get_short_help_str(limit=1000) == elsewhere.help


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: " ".join(path) or "atmos-relay")
def test_what_each_command_is_for_is_said_whole(path: tuple[str, ...]) -> None:
    listed = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80).output.partition("Commands:\n")[2]
    lines = listed.splitlines()
    assert len(lines) == len(GROUPS[path].commands)
    for line in lines:
        assert line.endswith("."), line
        assert not line.endswith("..."), line
