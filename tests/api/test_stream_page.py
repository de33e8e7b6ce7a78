"""What docs/STREAM.md says works as printed, with the real curl, trio-websocket, browser and command.

Only the relay's address, DID and key are replaced.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import requests
import trio

from relay.api import connection, server
from relay.api.events import LIMIT_DEFAULT, LIMIT_MAX
from relay.config_doors import HttpConfig
from relay.stream_places import TICKET_SECONDS
from tests.world.browser import open_browser
from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory
from tests.world.relay import DID

PAGE = (Path(__file__).parent.parent.parent / "docs" / "STREAM.md").read_text()
NOWHERE = "127.0.0.1:9"


def example(language: str, relay: RelayProcess, credentials: dict[str, str]) -> str:
    (printed,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return with_real_values(printed, relay, credentials)


def with_real_values(printed: str, relay: RelayProcess, credentials: dict[str, str]) -> str:
    for placeholder, value in (
        ("https://relay.example", f"http://{relay.address}"),
        ("wss://relay.example", f"ws://{relay.address}"),
        ("did:plc:YOUR_DID", DID),
        ("atmos_YOUR_API_KEY", credentials["Authorization"].removeprefix("Bearer ")),
    ):
        printed = printed.replace(placeholder, value)
    return printed


def test_curl(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        done = subprocess.run(
            ["bash", "-c", example("bash", relay, credentials)],
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            env={**os.environ, "CURL_HOME": str(tmp_path)},
        )
        page = json.loads(done.stdout)
        assert [event["type"] for event in page["events"]] == ["member.added", "domain.added"]
        assert page["cursor"] == page["events"][-1]["seq"]


def test_python(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        script = tmp_path / "stream.py"
        script.write_text(example("python", relay, credentials))
        assert_prints([sys.executable, str(script)], "1 member.added active")


def test_the_terminal(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route=NOWHERE))
    credentials = relay.enrol()
    with relay.running():
        (printed,) = re.findall(r"^    (ATMOS_DID=.*)$", PAGE, re.MULTILINE)
        command = with_real_values(printed, relay, credentials)
        command = command.replace("atmos-relay", f"exec {sys.executable} -m relay")
        assert_prints(["bash", "-c", command], "member.added")


def assert_prints(command: list[str], wanted: str) -> None:
    """It prints that in its first line, and ends on Ctrl-C."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert wanted in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()


def test_a_browser(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_mx() as mx, open_browser() as browser:
            relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
            credentials = relay.enrol()
            with relay.running(), trio.fail_after(PATIENCE_SECONDS):
                page = await browser.open_page(width=640)
                await page.call("Emulation.setScriptExecutionDisabled", value=False)
                await page.go(f"http://{relay.address}/healthz")
                ticket = requests.post(
                    f"http://{relay.address}/v1/stream/ticket", headers=credentials, timeout=PATIENCE_SECONDS
                ).json()["ticket"]
                await page.evaluate(example("javascript", relay, credentials))
                # The event is awaited in the page, where it arrives.
                first = await page.call(
                    "Runtime.evaluate",
                    expression=f"new Promise(told => listen({json.dumps(ticket)}, 0, e => told(e.type)))",
                    awaitPromise=True,
                )
                assert first["result"]["value"] == "member.added"

    trio.run(main)


def test_the_numbers_are_those_of_the_code() -> None:
    for sentence in (
        f"{LIMIT_DEFAULT} by default and at most {LIMIT_MAX:,}",
        f"within {TICKET_SECONDS} seconds",
        f"more than {HttpConfig().streams_per_member_max} streams",
        f"takes nothing for {connection.WRITE_SECONDS_MAX:.0f} seconds",
        f"no ping for {connection.SILENT_SECONDS_MAX:.0f}",
        f"a ping every {server.PING_SECONDS:.0f} seconds",
        f"more than {server.WEBSOCKET_MESSAGE_BYTES_MAX:,} bytes",
    ):
        assert sentence in " ".join(PAGE.split()), sentence
