"""The receivers of docs/WEBHOOKS.md, as they stand there: what a real relay sends verifies with the libraries of
Standard Webhooks (Python, JavaScript) and of Svix, and nothing else does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.world.daemon import free_port, is_listening, require_file, require_program
from tests.world.pages import DOCS
from tests.world.process import PATIENCE_SECONDS, RelayProcess, configure, make_process_directory, wait_until
from tests.world.relay import DID

NODE = Path(__file__).parent / "node"
KINDS = ("python", "standardwebhooks", "svix")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / "WEBHOOKS.md").read_text(), re.M | re.S)
    assert isinstance(found, str)
    return found


class Receiver:
    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.port = free_port()
        self.output = directory / f"{kind}.output"
        self.secret = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        command, source = [sys.executable, "-c", block("python")], None
        if self.kind != "python":
            command = [require_program("node", package="nodejs"), "--input-type=module", "-"]
            source = block("js").replace('from "standardwebhooks"', f'from "{self.kind}"')
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                env={**os.environ, "SECRET": self.secret, "PORT": str(self.port)},
                cwd=NODE,
            )
            try:
                assert process.stdin is not None
                process.stdin.write((source or "").encode())
                process.stdin.close()
                wait_until(lambda: is_listening(self.port), lambda: f"{self.kind} listens")
                yield
            finally:
                process.kill()
                process.wait()

    @property
    def told(self) -> list[str]:
        return self.output.read_text().splitlines()


def test_they_are_twenty_lines_or_so() -> None:
    for language in ("python", "js"):
        assert len([line for line in block(language).splitlines() if line.strip()]) <= 22


def test_what_a_relay_sends_verifies_with_libraries_that_nobody_here_wrote(tmp_path: Path) -> None:
    require_file(NODE / "node_modules" / "svix", "make tests/webhooks/node/node_modules/.ready")
    receivers = [Receiver(kind, tmp_path) for kind in KINDS]
    directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9")
    configure(
        directory, webhooks=f"allow = {json.dumps([f'{DID} 127.0.0.1:{one.port}' for one in receivers])}"
    )
    relay = RelayProcess(directory)
    credentials = relay.enrol()
    with relay.running():
        hooks = f"http://{relay.address}/v1/webhooks"
        made = {}
        for receiver in receivers:
            body = {"url": f"http://127.0.0.1:{receiver.port}/", "ed25519": True}
            answer = requests.post(hooks, json=body, headers=credentials, timeout=PATIENCE_SECONDS).json()
            receiver.secret, made[receiver.kind] = answer["secret"], answer["webhookId"]
        # With both secrets, of which the receivers know the older one.
        for webhook_id in made.values():
            requests.post(
                f"{hooks}/{webhook_id}/rotate", headers=credentials, timeout=PATIENCE_SECONDS
            ).raise_for_status()
        with receivers[0].running(), receivers[1].running(), receivers[2].running():
            # Once in ten seconds.
            tested = requests.post(
                f"{hooks}/{made['python']}/test", headers=credentials, timeout=PATIENCE_SECONDS
            ).json()
            assert tested["httpStatus"] == 204
            for receiver in receivers:
                forged = requests.post(
                    f"http://127.0.0.1:{receiver.port}/",
                    data=b"{}",
                    headers={"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
                    timeout=PATIENCE_SECONDS,
                )
                assert forged.status_code == 401
            for number in range(3):
                requests.post(
                    f"http://{relay.address}/v1/suppressions",
                    json={"recipient": f"friend{number}@example.com", "reason": "ü — 'é' 😀"},
                    headers=credentials,
                    timeout=PATIENCE_SECONDS,
                ).raise_for_status()
            wait_until(
                lambda: all(len(receiver.told) >= 3 for receiver in receivers),
                lambda: f"all are told: {[receiver.told for receiver in receivers]} {relay.output}",
            )
        for receiver in receivers:
            assert receiver.told == receivers[0].told
            assert [line.split()[0] for line in receiver.told] == ["recipient.suppressed"] * 3
