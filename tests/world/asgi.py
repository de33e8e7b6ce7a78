"""One request to an ASGI application, without a server and without a socket; safe to be cancelled at any moment.

Cancelling it is a client that hangs up: what serves the request is cancelled, as hypercorn does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio


async def call(
    application: Any, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, bytes]:
    """Status and body of the answer. `path` may have a query."""
    scope = {
        **_scope("http", path, {**headers, "Content-Length": str(len(body))}),
        "method": method,
        "scheme": "http",
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


async def listen(
    application: Any,
    path: str,
    headers: dict[str, str],
    *,
    opened: Callable[[int], None],
    frame: Callable[[str], Awaitable[None]],
) -> int:
    """A websocket, until the application closes it; the status where it is not opened, or 101.

    `opened` is told the `Atmos-Cursor`. The application waits with its next frame until `frame` has taken this one.
    """
    status = 0
    closed = trio.Event()
    incoming = [{"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if incoming:
            return incoming.pop()
        await closed.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        await trio.lowlevel.checkpoint()
        match message["type"]:
            case "websocket.accept":
                status = 101
                opened(int(dict(message["headers"])[b"atmos-cursor"]))
            case "websocket.send":
                await frame(message["text"])
            case "websocket.http.response.start":
                status = message["status"]
            case _:
                closed.set()

    scope = {**_scope("websocket", path, headers), "scheme": "ws", "subprotocols": []}
    await application(scope, receive, send)
    return status


def _scope(kind: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    path, _, query = path.partition("?")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"relay.example"),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("192.0.2.1", 40_000),
        "server": ("192.0.2.2", 80),
    }
