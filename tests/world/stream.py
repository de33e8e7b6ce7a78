"""A status stream without a network: what a websocket server and the relay say to each other, event by event.

    async with open_stream(world, cursor=0) as stream:
        assert (await stream.next())["type"] == "member.added"

A frame is handed over only when the test takes it, so a test that does not is a reader that does not read.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import trio

from relay.api import create_app
from relay.edge import Edge
from tests.world.relay import World

#: Of the clock that jumps.
PATIENCE_SECONDS = 3600.0


class Refused(Exception):
    """The request for a websocket was answered by HTTP."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.headers = headers
        self.answer = json.loads(body)


class Closed(Exception):
    """The relay closed the stream."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Stream:
    """One open stream. Made by `open_stream`."""

    def __init__(self, headers: dict[str, str], said: trio.MemoryReceiveChannel[Any], tell: Any) -> None:
        self.headers = headers
        self._said = said
        self._tell = tell

    async def next(self) -> Any:
        """The next frame, decoded. Raises Closed, and TooSlowError where none comes: the relay itself never rests."""
        with trio.fail_after(PATIENCE_SECONDS):
            message = await self._said.receive()
        if message["type"] == "websocket.close":
            await self._tell({"type": "websocket.disconnect", "code": message["code"]})
            raise Closed(message["code"], message["reason"])
        assert message["type"] == "websocket.send"
        return json.loads(message["text"])

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]

    async def say(self, text: str) -> None:
        await self._tell({"type": "websocket.receive", "text": text, "bytes": None})


@asynccontextmanager
async def open_stream(
    world: World, *, credentials: dict[str, str] | None = None, edge: Edge | None = None, **query: Any
) -> AsyncIterator[Stream]:
    """Raises Refused. When the block ends, the reader is gone without a word. `edge`: None is the one in the core."""
    headers = world.credentials if credentials is None else credentials
    scope = {
        "type": "websocket",
        "path": "/v1/stream",
        "query_string": urlencode(query).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    send, said = trio.open_memory_channel[Any](0)
    tell, receive = trio.open_memory_channel[Any](1)
    refused: Refused | None = None  # raised outside the nursery, which would make a group of it
    async with trio.open_nursery() as nursery:
        nursery.start_soon(create_app(edge or world.core.edge), scope, receive.receive, send.send)
        await tell.send({"type": "websocket.connect"})
        first = await said.receive()
        if first["type"] == "websocket.http.response.start":
            body = await said.receive()
            found = {name.decode(): value.decode() for name, value in first["headers"]}
            refused = Refused(first["status"], found, body["body"])
        else:
            assert first["type"] == "websocket.accept"
            accepted = {name.decode(): value.decode() for name, value in first["headers"]}
            try:
                yield Stream(accepted, said, tell.send)
            finally:
                nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused
