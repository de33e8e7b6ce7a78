"""docs/: every command is run, every code and setting is there, every link leads somewhere."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import requests

from relay.config import Config
from relay.refusals import STATUS_OF_CODE
from tests.world.pages import DOCS, Example, examples, says
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory
from tests.world.relay import DID

PAGES = sorted(DOCS.glob("*.md"))
#: Pages whose examples have tests of their own, beside those of this module.
ELSEWHERE = {"AUDIT.md", "BACKUP.md", "RETENTION.md", "STREAM.md"}
HERE = {"SEND_API.md", "DOMAINS.md", "OPERATING.md", "CORRUPTION.md"}


def run(example: Example, environment: dict[str, str], *, status: int = 0) -> None:
    """As a reader would type it. It ends with this status, and what it prints is what the page says."""
    done = subprocess.run(
        ["bash", "-c", example.command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **environment},
    )
    assert done.returncode == status, (example.command, done.stdout, done.stderr)
    assert says(example.output, done.stdout), (example.command, done.stdout, done.stderr)


@pytest.fixture
def typed(tmp_path: Path) -> dict[str, str]:
    """An environment in which `atmos-relay` is this one's."""
    command = tmp_path / "bin" / "atmos-relay"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m relay "$@"\n')
    command.chmod(0o755)
    return {"PATH": f"{command.parent}:{os.environ['PATH']}", "CURL_HOME": str(tmp_path)}


def of(page: str) -> list[Example]:
    found = list(examples((DOCS / page).read_text()))
    assert found, page
    return found


def in_directory(example: Example, directory: Path, name: str = "DIR") -> Example:
    return example._replace(command=re.sub(rf"\b{name}\b", str(directory), example.command))


def test_the_send_api(tmp_path: Path, typed: dict[str, str]) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    key = relay.enrol()["Authorization"].removeprefix("Bearer ")
    with relay.running():
        for example in of("SEND_API.md"):
            run(example, {**typed, "RELAY": f"http://{relay.address}", "DID": DID, "KEY": key})


def test_domains(tmp_path: Path, typed: dict[str, str]) -> None:
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9")
    for example in of("DOMAINS.md"):
        run(in_directory(example, directory), typed)


def test_operating(tmp_path: Path, typed: dict[str, str]) -> None:
    for example in of("OPERATING.md"):
        run(in_directory(example, tmp_path / "data"), typed)


def test_corruption(tmp_path: Path, typed: dict[str, str]) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    relay.enrol()
    damaged = tmp_path / "damaged"
    shutil.copytree(relay.directory, damaged)
    segment = next((damaged / "log").glob("*.seg"))
    content = bytearray(segment.read_bytes())
    content[120] ^= 1
    segment.write_bytes(content)
    for example in of("CORRUPTION.md"):
        status = 1 if "DAMAGED" in example.command else 0
        run(in_directory(in_directory(example, damaged, "DAMAGED"), relay.directory), typed, status=status)


def test_every_page_with_examples_is_run() -> None:
    assert {page.name for page in PAGES if "```console" in page.read_text()} <= HERE | ELSEWHERE


def test_every_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", (DOCS / "TROUBLESHOOTING.md").read_text(), re.MULTILINE)
    assert {code: int(status) for status, code in rows} == {**STATUS_OF_CODE, "RECIPIENT_SUPPRESSED": 200}


def test_every_setting_is_named() -> None:
    page = (DOCS / "OPERATING.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", page))
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            assert f"`[{field.name}]`" in page
            assert {inner.name for inner in msgspec.structs.fields(field.type)} <= named
        else:
            assert field.name in named


def test_every_metric_exists(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with relay.running():
        exposed = requests.get(f"http://{relay.address}/metrics", timeout=PATIENCE_SECONDS).text
    named = re.findall(r"`(atmos_[a-z_]+)`", (DOCS / "OPERATING.md").read_text())
    assert len(named) >= 7
    for name in named:
        assert f"# TYPE {name.removesuffix('_total')}" in exposed, name


def test_the_unit_starts_this_command_and_gives_it_time() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DOCS / "atmos-relay.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[0].endswith("/.venv/bin/atmos-relay")
    assert service["ExecStart"].split()[1] == "serve"
    assert service["ExecStart"].endswith(service["StateDirectory"])
    assert int(service["TimeoutStopSec"]) > 30 + 10
    assert service["Restart"] == "on-failure"


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
