"""docs/OPERATING.md, the five questions: every command on it is run, and prints what the page says it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.world.asked_about import PAGE, SECTION, ask, asked, make_story

EXAMPLES = asked()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_story(tmp_path_factory.mktemp("story") / "data")


def test_all_examples_are_found() -> None:
    (section,) = SECTION.findall(PAGE.read_text())
    assert len(EXAMPLES) == section.count("\n$ ") > 5
    assert all(example.output.strip() for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.command)
def test_it_prints_what_the_page_says(story: Path, example: tuple[str, str]) -> None:
    command, page = example
    answer = ask(story, command)
    # `why` finds a problem.
    assert answer.exit_code == (1 if " why " in command else 0)
    assert answer.output.rstrip("\n") == page.rstrip("\n").removesuffix("```").rstrip("\n")
    assert max(map(len, answer.output.splitlines())) <= 80
