"""The README's pictures show what a relay does today: `make picture` would draw the same again, but for times and
keys."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.world.pages import DOCS
from tests.world.process import PATIENCE_SECONDS

COLOURS = ("light", "dark")


def lines_of(picture: Path) -> list[str]:
    """What it says, without what differs from run to run."""
    lines = []
    for text in re.findall(r"<text [^>]*>(.*)</text>", picture.read_text()):
        said = unescape(re.sub(r"<[^>]*>", "", text))
        said = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", said)
        said = re.sub(r"atmos\d{8}", "SELECTOR", said)
        lines.append(re.sub(r"\b(?=\w*\d)[0-9a-f]{12,64}\b|(?<=<5\.)[0-9a-f]+", "HEX", said))
    return lines


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of today."""
    directory = tmp_path_factory.mktemp("pictures")
    command = [sys.executable, "-m", "tools.picture", "--directory", directory, "--retry-seconds", "1"]
    subprocess.run(command, check=True, timeout=PATIENCE_SECONDS, stdout=subprocess.DEVNULL)
    return directory


@pytest.mark.parametrize("colours", COLOURS)
def test_the_picture_of_the_readme_is_what_the_command_would_draw(drawn: Path, colours: str) -> None:
    kept = lines_of(DOCS / f"picture-{colours}.svg")
    assert len(kept) > 15
    assert "    nothing contradicts the log" in kept
    assert kept == lines_of(drawn / f"picture-{colours}.svg"), "run: make picture"


@pytest.mark.parametrize("colours", COLOURS)
def test_it_is_an_image_that_needs_nothing_else(colours: str) -> None:
    root = ElementTree.parse(DOCS / f"picture-{colours}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not any("href" in name for element in root.iter() for name in element.attrib)


def test_both_say_the_same_and_the_readme_shows_them() -> None:
    light, dark = (DOCS / f"picture-{colours}.svg" for colours in COLOURS)
    assert lines_of(light) == lines_of(dark)
    readme = (DOCS.parent / "README.md").read_text()
    assert '<source media="(prefers-color-scheme: dark)" srcset="docs/picture-dark.svg">' in readme
    assert 'src="docs/picture-light.svg"' in readme
