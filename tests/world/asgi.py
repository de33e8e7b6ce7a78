"""One HTTP request to an ASGI application, without a server and without a socket; safe to be cancelled at any moment.

Cancelling it is a client that hangs up: what serves the request is cancelled, as hypercorn does it.
"""

from __future__ import annotations

from typing import Any

import trio


async def call(
    application: Any, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, bytes]:
    """Status and body of the answer. `path` may have a query."""
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"relay.example"),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("192.0.2.1", 40_000),
        "server": ("192.0.2.2", 80),
    }
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    status = 0
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if not incoming:
            await trio.sleep_forever()  # the client stays
        return incoming.pop()

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await application(scope, receive, send)
    return status, b"".join(parts)
