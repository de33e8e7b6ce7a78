"""docs/AUDIT.md: every command on it is run, and prints what the page says it prints."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.world.audited import make_story
from tests.world.pages import DOCS, examples, says
from tools.cli import cli

PAGE = DOCS / "AUDIT.md"
EXAMPLES = [(command.removeprefix("atmos-relay "), output) for command, output in examples(PAGE.read_text())]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_story(tmp_path_factory.mktemp("story") / "data")


def test_the_page_has_examples_and_all_are_found() -> None:
    assert len(EXAMPLES) == PAGE.read_text().count("```console") == 4


@pytest.mark.parametrize(("command", "page"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_it_prints_what_the_page_says(story: Path, command: str, page: str) -> None:
    words = [str(story) if word == "DIR" else word for word in shlex.split(command)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0
    assert says(page, result.stdout), result.stdout


def test_the_comparison_can_see() -> None:
    assert says("a\n...\nc\n", "a\nb\nc\n")
    assert not says("a\n...\nd\n", "a\nb\nc\n")
    assert not says("a\n", "a\nb\n")
    assert not says("a.c\n", "abc\n")
