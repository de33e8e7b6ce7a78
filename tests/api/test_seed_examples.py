"""The examples of the customer's own page work as printed, with the real curl, node and requests.

Only host, DID and key are replaced. What is added is added outside of the example: curl is told by its configuration
file to report the HTTP status on standard error, and the JavaScript example, which ends with `data` in its hands,
gets one more line that prints it.
"""

import ast
import email
import email.policy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from tests.world.mx import open_mx
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory

SEED = Path(__file__).parent.parent / "seed"
PAGE = (SEED / "http-send-api.txt").read_text()
PRINT_DATA = "console.log(JSON.stringify(data));\n"


class Example(NamedTuple):
    file: str
    command: list[str]
    added: str
    decode: Callable[[str], Any]
    #: What else it says, on standard error.
    says: str


EXAMPLES = [
    Example("curl.sh", ["bash"], "", json.loads, "200"),
    Example("fetch.mjs", ["node"], PRINT_DATA, json.loads, ""),
    Example("send.py", [sys.executable], "", ast.literal_eval, ""),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.file)
def test_the_example_sends_a_mail(example: Example, tmp_path: Path) -> None:
    printed = (SEED / example.file).read_text()
    assert printed in PAGE
    (tmp_path / ".curlrc").write_text('silent\nwrite-out = "%{stderr}%{http_code}"\n')

    async def main() -> None:
        async with open_mx() as mx:
            relay = RelayProcess(make_process_directory(tmp_path / "data", route=mx.address))
            credentials = relay.enrol()
            with relay.running():
                script = tmp_path / example.file
                script.write_text(with_real_values(printed, relay.address, credentials) + example.added)
                with trio.fail_after(PATIENCE_SECONDS):
                    done = await trio.to_thread.run_sync(partial(run, [*example.command, str(script)]))
                    assert (done.returncode, done.stderr) == (0, example.says)
                    answer = example.decode(done.stdout)
                    message_id = answer["accepted"][0]["messageId"]
                    assert type(message_id) is int
                    assert answer == {
                        "accepted": [{"recipient": "friend@example.com", "messageId": message_id}],
                        "rejected": [],
                    }
                    (received,) = await mx.wait_messages(1)
                assert received.rcpt_to == ("friend@example.com",)
                assert received.mail_from.startswith(f"bounces+{message_id}-")
                mail = email.message_from_bytes(received.data, policy=email.policy.default)
                assert (mail["From"], mail["To"], mail["Subject"]) == (
                    "you@yourdomain.com",
                    "friend@example.com",
                    "Hello",
                )
                assert mail.get_content().strip() == "Sent via Atmosphere Mail"
                assert await trio.to_thread.run_sync(relay.stop) == 0
            assert mx.violations == []

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CURL_HOME": str(tmp_path)}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=environment
        )

    trio.run(main)


def with_real_values(printed: str, address: str, credentials: dict[str, str]) -> str:
    """The example with its three placeholders replaced; each stands in it exactly once."""
    for placeholder, real in [
        ("https://smtp.atmos.email/", f"http://{address}/"),
        ("did:plc:your-did", credentials["X-Atmos-DID"]),
        ("Bearer atmos_your-api-key", credentials["Authorization"]),
    ]:
        assert printed.count(placeholder) == 1
        printed = printed.replace(placeholder, real)
    return printed
