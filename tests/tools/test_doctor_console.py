"""`doctor` says where the operator's console is, or whether it can be where it is to be."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from relay.file_names import CONSOLE_ADDRESS_FILE
from tests.world.process import RelayProcess
from tests.world.relay import make_directory
from tools.cli import cli


def found(directory: Path) -> dict[str, Any]:
    findings = json.loads(CliRunner().invoke(cli, ["doctor", str(directory), "--json"]).output)
    (one,) = [one for one in findings if one["check"] == "operator's console"]
    return dict(one)


def test_an_address_that_somebody_else_has_is_a_problem_before_the_relay_is_started(tmp_path: Path) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        address = f"127.0.0.1:{somebody.getsockname()[1]}"
        directory = make_directory(tmp_path / "data", operator_bind=address)
        taken = found(directory)
        assert (taken["ok"], f"{address} is taken by another program" in taken["says"]) == (False, True)
    assert found(directory) == {**taken, "ok": True, "says": f"{address} is free for it"}


def test_no_address_is_no_problem(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")
    assert found(directory)["says"] == "none: [console] operator_bind is empty"


def test_where_a_relay_runs_it_says_where_its_console_is(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data", operator_bind="127.0.0.1:0")
    with RelayProcess(directory).running():
        address = (directory / CONSOLE_ADDRESS_FILE).read_text().strip()
        says = found(directory)
        assert (says["ok"], says["says"].startswith(f"on {address}; `atmos-relay console login")) == (
            True,
            True,
        )
