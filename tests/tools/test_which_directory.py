"""ATMOS_RELAY_DIR names the data directory where a command line names none, whatever other words it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tools.cli import cli
from tools.naming import DIRECTORY_VARIABLE, MESSAGE_ID, DirectoryArgument

OTHERS = {
    "watch": "asks a relay by its address",
    "version": "is of no directory",
    "completion": "is of no directory",
}


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(cli))


def test_every_command_about_a_directory_takes_it_from_there() -> None:
    without = {
        name
        for name, command in COMMANDS.items()
        if not any(isinstance(parameter, DirectoryArgument) for parameter in command.params)
    }
    assert without == set(OTHERS)


def understood(words: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """What a command that takes these arguments after DIR makes of the words."""
    got: dict[str, Any] = {}

    @click.command()
    @click.argument("directory", cls=DirectoryArgument, type=click.Path(path_type=Path))
    def command(**values: Any) -> None:
        got.update(values)

    kinds: dict[str, dict[str, Any]] = {
        "text": {},
        "number": {"type": MESSAGE_ID, "required": False},
        "numbers": {"type": MESSAGE_ID, "nargs": -1},
    }
    command.params.extend(click.Argument([name], **kinds[name]) for name in arguments)
    done = CliRunner().invoke(command, words.split(), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return {name: value for name, value in got.items() if value not in (None, ())}


HERE = Path("/data")


@pytest.mark.parametrize(
    ("arguments", "words", "wanted"),
    [
        ((), "", {"directory": HERE}),
        ((), "there", {"directory": Path("there")}),
        ((), "7", {"directory": Path("7")}),
        (("text",), "word", {"directory": HERE, "text": "word"}),
        (("text",), "there word", {"directory": Path("there"), "text": "word"}),
        (("text",), "7 word", {"directory": Path("7"), "text": "word"}),
        (("number",), "14", {"directory": HERE, "number": 14}),
        (("number",), "there", {"directory": Path("there")}),
        (("number",), "./14", {"directory": Path("14")}),
        (("number",), "7 14", {"directory": Path("7"), "number": 14}),
        (("numbers",), "1 2 3", {"directory": HERE, "numbers": (1, 2, 3)}),
        (("numbers",), "there 2 3", {"directory": Path("there"), "numbers": (2, 3)}),
        (("text", "number"), "a", {"directory": HERE, "text": "a"}),
        (("text", "number"), "1 14", {"directory": HERE, "text": "1", "number": 14}),
    ],
)
def test_what_is_a_directory_and_what_is_not(
    arguments: tuple[str, ...], words: str, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(HERE))
    assert understood(words, monkeypatch, *arguments) == wanted


def test_without_the_variable_the_first_word_is_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    assert understood("14", monkeypatch, "number") == {"directory": Path("14")}
    assert understood("1 2", monkeypatch, "numbers") == {"directory": Path("1"), "numbers": (2,)}
    for nothing in ("unset", ""):
        if nothing == "":
            monkeypatch.setenv(DIRECTORY_VARIABLE, "")
        done = CliRunner().invoke(cli, ["doctor"])
        assert done.exit_code == 2
        assert f"Missing argument 'DIR' (or {DIRECTORY_VARIABLE})" in done.output


def test_a_whole_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "data"))
    assert CliRunner().invoke(cli, ["init"]).exit_code == 0
    listed = CliRunner().invoke(cli, ["member", "list"])
    assert listed.output == "There are no members.\n"
    shown = CliRunner().invoke(cli, ["queue", "hold", "14", "15", "--reason", "a test"])
    assert "2 messages (14, 15) passed over: there is no such message." in shown.output


# ------------------------------------------------------------------------------------------------ what all have


#: Commands that print for people alone, each with the reason.
WITHOUT_JSON = {
    "serve": "logs JSON lines",
    "log export": "writes JSON lines",
    "completion": "prints a shell's program",
}


def test_every_command_that_prints_can_print_json() -> None:
    without = {
        name
        for name, command in COMMANDS.items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == set(WITHOUT_JSON)
