"""A message is named by its id or by `--message`, everywhere; and the lists of commands say whole sentences."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from tools.cli import cli


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.commands:
        command = group.commands[name]
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


ALL = dict(commands(cli))
WITH_MESSAGE = [
    path for path, command in ALL.items() if any("--message" in each.opts for each in command.params)
]


def test_every_command_that_names_a_message_takes_both_forms() -> None:
    names = "audit cat export replay diff erase show list flush hold release cancel record"
    assert {path[-1] for path in WITH_MESSAGE} >= set(names.split())
    for path in WITH_MESSAGE:
        given = [each for each in ALL[path].params if isinstance(each, click.Argument)]
        assert str(given[0].metavar) == "DIR"
        assert str(given[-1].metavar) in ("[MESSAGE_ID]", "[MESSAGE_ID]..."), path


@pytest.mark.parametrize("arguments", [["7"], ["--message", "7"], ["7", "--message", "7"]])
def test_both_forms_mean_the_same(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["log", "audit", "/nowhere", *arguments])
    assert "holds no log" in result.output


def test_two_messages_where_one_is_meant_are_a_wrong_use() -> None:
    result = CliRunner().invoke(cli, ["log", "audit", "/nowhere", "7", "--message", "8"])
    assert (result.exit_code, "MESSAGE_ID is 7" in result.output) == (2, True)
    result = CliRunner().invoke(cli, ["log", "audit", "/nowhere"])
    assert (result.exit_code, "say which message" in result.output) == (2, True)


@pytest.mark.parametrize(
    "path", [(), *[path for path, command in ALL.items() if isinstance(command, click.Group)]]
)
def test_a_list_of_commands_says_whole_sentences(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert "..." not in result.output.replace("COMMAND [ARGS]...", "")
