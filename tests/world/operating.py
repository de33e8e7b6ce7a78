"""What the tests of operator commands share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.world.operator import Operator
from tests.world.relay import make_directory

STRANGER = "did:plc:cccccccccccccccccccccccc"


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Operator:
    """A directory that `init` made, in which nothing has happened."""
    return Operator(make_directory(tmp_path / "data"), monkeypatch, capsys)


def doctor(operator: Operator) -> tuple[int, dict[str, tuple[bool, str]]]:
    said = operator.run("doctor", "DIR", "--json")
    findings = json.loads(said.out)
    assert all(finding.keys() == {"check", "ok", "says"} for finding in findings)
    return said.status, {finding["check"]: (finding["ok"], finding["says"]) for finding in findings}
