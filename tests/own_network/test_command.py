"""`doctor --network` as it is typed: a line a finding, what is wrong with what to do, and a status that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from relay.message.keys import KeyRing
from tests.own_network.world import DOMAIN, NAME, right_records, standing
from tests.world.name_service import running_name_service
from tools import doctor_network
from tools.cli import cli
from tools.init import init_command

SETTINGS = f"""\
operator_domain = "{DOMAIN}"
public_url = "https://www.{DOMAIN}"
[http]
bind = "127.0.0.1:0"
[delivery]
ehlo_name = "{NAME}"
[monitoring]
dnsbl = ["good.list.example"]
[members]
plc_directory = "https://directory.example"
"""


def made(directory: Path) -> Path:
    CliRunner().invoke(
        init_command, [str(directory), "--operator-domain", DOMAIN, "--public-url", f"https://www.{DOMAIN}"]
    )
    (directory / "relay.toml").write_text(SETTINGS)
    return directory


def doctored(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *options: str, without: str = "", **standing_as: Any
) -> Any:
    ring = KeyRing(directory)
    signers = ring.signers(DOMAIN, ring.operator_stem(DOMAIN))

    async def main(service: Any) -> Any:
        async with standing(service, **standing_as) as world:
            monkeypatch.setattr(doctor_network, "_real_world", lambda: world)
            return await trio.to_thread.run_sync(
                CliRunner().invoke, cli, ["doctor", str(directory), "--network", *options]
            )

    zone = right_records(signers)
    assert without in zone
    with running_name_service(zone.replace(without, "")) as service:
        return trio.run(main, service)


def test_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = made(tmp_path / "data")
    right = doctored(directory, monkeypatch)
    assert right.exit_code == 0, right.output
    assert f"ok       reverse name: 127.0.0.25: PTR {NAME}, and back" in right.output
    assert "unknown  own address: 127.0.0.25: expected a public address" in right.output

    wrong = doctored(directory, monkeypatch, without=f"25.0.0.127.in-addr.arpa. PTR {NAME}.\n")
    assert wrong.exit_code == 1
    assert (
        f"PROBLEM  reverse name: 127.0.0.25: expected PTR {NAME}, which leads back to 127.0.0.25; found no PTR record; "
        f"set its reverse name to {NAME} where you rent the address"
    ) in wrong.output


def test_what_a_stranger_says_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = (b"554 5.7.1 \x1b[2J\xe2\x80\xae no\r\n",)
    told = doctored(made(tmp_path / "data"), monkeypatch, provider_says=says)
    assert "554 5.7.1" in told.output
    assert "\x1b" not in told.output
    assert "\u202e" not in told.output


def test_json_has_each_finding_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = json.loads(doctored(made(tmp_path / "data"), monkeypatch, "--json").output)
    (name,) = [finding for finding in findings if finding["check"] == "EHLO name"]
    assert (name["about"], name["ok"], name["found"], name["fix"]) == (NAME, True, "127.0.0.25", None)
    assert {"check", "ok", "says"} <= set.intersection(*map(set, findings))
