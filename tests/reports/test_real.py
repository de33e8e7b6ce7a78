"""What Postfix, Exim and OpenSMTPD really send is read as a person would."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.reports.read import read_mail

REAL = Path(__file__).parent / "real"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((REAL / "expected.toml").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_report(name: str) -> None:
    expected = dict(EXPECTED[name])
    reading = read_mail((REAL / f"{name}.eml").read_bytes())
    assert expected.pop("words") in reading.diagnostic
    assert {field: getattr(reading, field) for field in expected} == expected
    # Whatever it quotes, it has the field that says which message it is about.
    assert re.fullmatch(r"[0-9]+-[a-z2-7]{16}", reading.tokens[0])


def test_every_file_is_expected() -> None:
    assert {file.stem for file in REAL.glob("*.eml")} == set(EXPECTED)
