"""Asks mailauth, a DKIM verifier that shares no code with the relay, about many messages at once.

One node process serves a whole batch, because starting it costs more than verifying hundreds of messages.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from relay.message.signing import DkimVerdict

VERIFIER = Path(__file__).parent / "verifier"


def verify_all(messages: Iterable[bytes], records: Mapping[str, str]) -> list[list[DkimVerdict]]:
    """Return mailauth's verdicts on each message, topmost signature first; skips without mailauth."""
    node = shutil.which("node")
    if node is None or not (VERIFIER / "node_modules" / "mailauth").is_dir():
        pytest.skip("needs node and mailauth: run `make tests/verifier/node_modules/.ready`")
    question = {"records": dict(records), "messages": [base64.b64encode(one).decode() for one in messages]}
    answer = subprocess.run(
        [node, str(VERIFIER / "verify.js")],
        input=json.dumps(question).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return [
        [DkimVerdict(one["d"], one["s"], one["result"] == "pass") for one in verdicts]
        for verdicts in json.loads(answer.stdout)
    ]
