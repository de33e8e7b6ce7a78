"""Asks mailparser and postal-mime, which share no code with the relay, what stands in many messages.

One node process reads a whole batch, because starting it costs more than reading hundreds of messages.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

READERS = Path(__file__).parent / "readers"
NAMES = ("mailparser", "postal-mime")


class ReadFile(NamedTuple):
    filename: str | None
    content_type: str
    disposition: str | None
    content_id: str | None
    content: bytes


class ReadMail(NamedTuple):
    subject: str
    sender: list[tuple[str, str]]
    to: list[tuple[str, str]]
    cc: list[tuple[str, str]]
    reply_to: list[tuple[str, str]]
    message_id: str
    text: str | None
    html: str | None
    files: list[ReadFile]


def read_all(messages: Sequence[bytes]) -> list[dict[str, ReadMail]]:
    """What each of NAMES reads in each message; skips where they are not there."""
    node = shutil.which("node")
    if node is None or not (READERS / "node_modules" / "mailparser").is_dir():
        pytest.skip("needs node and mail readers: run `make tests/readers/node_modules/.ready`")
    answer = subprocess.run(
        [node, str(READERS / "read.js")],
        input=json.dumps([base64.b64encode(one).decode() for one in messages]).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return [{name: _mail(one[name]) for name in NAMES} for one in json.loads(answer.stdout)]


def _mail(found: dict[str, Any]) -> ReadMail:
    files = [
        ReadFile(
            one["filename"],
            one["contentType"],
            one["disposition"],
            one["contentId"],
            base64.b64decode(one["content"]),
        )
        for one in found["attachments"]
    ]
    mailboxes = [
        [(name, address) for name, address in found[field]] for field in ("from", "to", "cc", "replyTo")
    ]
    return ReadMail(found["subject"], *mailboxes, found["messageId"], found["text"], found["html"], files)
