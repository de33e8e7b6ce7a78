"""A slice of `make fuzz`: by coverage, from servers that say anything, and over HTTP. (`test_inputs.py`: by chance.)"""

from __future__ import annotations

import random
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest

from tests.campaigns import api, coverage, smtp_servers


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not to be had here")
@pytest.mark.parametrize("name", list(coverage.INSTRUMENTED))
def test_inputs_that_coverage_leads(tmp_path: Path, name: str) -> None:
    result = coverage.campaign(name, tmp_path, inputs=2_000, seed=1)
    assert result.findings == []
    assert result.executions >= 2_000
    # It sees the code under test, and has gone where the seeds alone do not lead.
    assert result.edges > result.edges_of_seeds > 0
    assert result.kept > 0


def test_servers_that_say_anything() -> None:
    *_, seen = islice(smtp_servers.campaign(random.Random(1)), 2_000)
    assert seen["told off"] + seen["heard out"] == 2_000
    assert seen["end of data 2xx"] > 0


def test_the_http_api_and_its_document(tmp_path: Path) -> None:
    assert api.campaign(tmp_path / "data", seed=1, examples=2)
