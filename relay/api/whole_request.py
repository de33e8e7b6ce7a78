"""A request that has come whole before anybody looked at it, and its answer, as ASGI has them.

Almost every request is one: its head and body are in the first bytes that are read. So nothing can be waited for that
is still to come, and no task has to read on while it is answered: it is answered in the task that has read it, and its
answer is one write. Through hypercorn's stream it would be a task, a channel, and a dozen objects on the way out.

The invariant: **what is written is what h11 would have written**, and whatever is not plain is left to h11:
`plain_head` says what is plain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

Headers = Sequence[tuple[bytes, bytes]]

#: Their answers have no body, and no Content-Length that speaks of one (RFC 9110 15.4.5).
NO_BODY = frozenset({204, 304})


class WholeRequest:
    """`receive` and `send` are given to the application; afterwards the answer is here."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.status = 0
        self.headers: Headers = ()
        self._parts: list[bytes] = []
        self.is_answered = False

    @property
    def answer(self) -> bytes:
        """Its body."""
        return b"".join(self._parts)

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            # Nothing more will come: whether the client is still there is seen when it is answered.
            await trio.sleep_forever()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self._parts.append(message.get("body", b""))
            self.is_answered = not message.get("more_body", False)


def plain_head(status: int, headers: Headers) -> bytes | None:
    """The head of an answer whose length it says, on a connection that stays; None: it is not plain."""
    names = {name for name, _ in headers}
    if status not in NO_BODY and b"content-length" not in names:
        return None
    if b"connection" in names or b"transfer-encoding" in names:
        return None
    lines = [b"%b: %b" % field for field in headers]
    head = b"HTTP/1.1 %d \r\n%b\r\n\r\n" % (status, b"\r\n".join(lines))
    # No value may begin a line of its own.
    return head if head.count(b"\n") == head.count(b"\r") == len(lines) + 2 else None
