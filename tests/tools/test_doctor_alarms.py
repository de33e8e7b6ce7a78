"""`doctor` shows the alarms of the relay that runs."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from tests.world.process import RelayProcess, make_process_directory
from tools.cli import cli

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def test_doctor_shows_the_alarms_of_a_running_relay(tmp_path: Path) -> None:
    directory = str(tmp_path / "data")
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))

    def typed(*words: str) -> str:
        return CliRunner().invoke(cli, list(words)).output

    def found() -> dict[str, str]:
        findings = json.loads(typed("doctor", directory, "--json"))
        return {one["check"]: one["says"] for one in findings if one["check"].startswith("alarm")}

    with relay.running():
        typed("member", "add", directory, "--did", DID, "--domain", "a.example", "--offline")
        assert found() == {"alarms": "none is active"}
        typed("domain", "pause", directory, "--domain", "a.example", "--reason", "a \x1b[31mspammer")
        (says,) = found().values()
        assert says.startswith(f"The domain a.example of {DID} is paused since ")
        assert "\x1b" not in says
    assert found() == {}
