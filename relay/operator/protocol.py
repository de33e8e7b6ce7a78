"""How an operator's command goes to a running relay: a Unix socket in its data directory, one line of JSON each way.

    {"command": "queue_hold", "arguments": {"message": [448], "reason": "a look"}}
    {"result": {...}}    or    {"error": "a sentence", "code": "NOT_FOUND"}

`relay.operator.client` gives orders, `relay.operator.socket` takes them. Nothing here takes time to import, because
every command begins with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay.file_names import ADMIN_SOCKET
from relay.refusals import Refusal

#: What a command answers, as JSON has it.
CommandAnswer = dict[str, Any] | list[dict[str, Any]]

#: Why an order to the queue passes over a message that was selected; or `sent` or `bounced`, where it is final.
BEING_TRIED = "being tried"  # or another order has it in hand; giving the order again settles it
ALREADY = "already"  # in the state that the order would bring about
HELD = "held"  # by something that this order does not concern
SCHEDULED = "scheduled"  # by its member for later; a flush that does not name it is not meant for it
UNKNOWN = "unknown"


def request_line(command: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"


def result_in(line: bytes) -> CommandAnswer:
    """What a relay has answered. Raises Refusal: what the relay refused, or where it went without a whole answer."""
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise Refusal(
            "TEMPORARILY_UNAVAILABLE",
            "the relay stopped before it answered; look whether the command was carried out, and try again",
        ) from error
    if "error" in answer:
        raise Refusal(answer["code"], answer["error"])
    result: CommandAnswer = answer["result"]
    return result


@contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """The socket's path by way of a descriptor: the path of a Unix socket may have 107 bytes only."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{ADMIN_SOCKET}"
    finally:
        os.close(descriptor)
