"""The man pages have every command with every option, and mandoc finds nothing wrong with them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.world.daemon import require_daemon
from tests.world.process import PATIENCE_SECONDS
from tools import man
from tools.cli import cli


def read_as_people_do(page: Path) -> str:
    """Without the overstriking by which terminals are told what is bold."""
    words = ["mandoc", "-Tutf8", "-Owidth=200", str(page)]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True).stdout
    return re.sub(".\b", "", shown)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_daemon("mandoc")
    place = tmp_path_factory.mktemp("man")
    man.main(place)
    return place / "man1"


def leaves(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, *path, name)
    else:
        yield path, command


def test_every_command_is_there_with_every_option(pages: Path) -> None:
    shown = {page.stem: read_as_people_do(page) for page in pages.iterdir()}
    assert shown.keys() == {"atmos-relay", *(f"atmos-relay-{name}" for name in cli.commands)}
    for path, command in leaves(cli):
        page = shown[f"atmos-relay-{path[0]}"]
        assert f"atmos-relay {' '.join(path)} [OPTIONS]" in page
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(name in page for name in parameter.opts), (path, parameter.opts)
        first = " ".join((command.help or "").split("\n\n")[0].split()).replace("`", "")
        assert first.rstrip(".") in " ".join(page.split()), path
    for variable in ("ATMOS_RELAY_DIR", "NO_COLOR"):
        assert variable in shown["atmos-relay"]


def test_mandoc_finds_nothing_wrong(pages: Path) -> None:
    for page in pages.iterdir():
        words = ["mandoc", "-Tlint", "-W", "warning", str(page)]
        found = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert (found.returncode, found.stdout) == (0, "")


def test_a_text_is_shown_as_it_is_whatever_it_begins_with(tmp_path: Path) -> None:
    require_daemon("mandoc")
    text = "It ends here.\n.so /etc/passwd \\n(.g is 'this' \"quoted\" one-word --json `typed`\n\n'br is no macro"
    page = tmp_path / "page.1"
    page.write_text("\n".join(['.TH "X" 1 "2026-01-01"', ".SH NAME", "x \\- y", *man._text(text)]) + "\n")
    shown = " ".join(read_as_people_do(page).split())
    assert ".so /etc/passwd \\n(.g is 'this' \"quoted\" one-word --json typed 'br is no macro" in shown


def test_the_same_day_gives_the_same_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    pages = man.pages()
    assert pages == man.pages()
    assert '"2026-01-01"' in pages["atmos-relay-log"].splitlines()[0]
