"""HTTP without a framework, for the one path that is asked thousands of times a second: `POST /v1/send`.

A request through quart-trio costs a nursery, two tasks, two contexts, a routing and three header objects, together
twice what accepting a mail costs (docs/PERFORMANCE.md). This is what is left when all of that is not needed: an ASGI
application made of one function from a `Request` to an `Answer`.

The contract is that of every other path (`relay.api.app`): every error is JSON, a body over the limit is refused as
soon as it is known to be larger, an answer that comes before the request is whole leaves no dead connection
(`relay.api.exchange` says why), a defect is a 500 with a request id. When a client hangs up after its request, that is
carried to its end all the same; nobody is there to be answered. Half a request is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import trio

from relay.api.answers import Answer, error_answer, path_answer
from relay.refusals import Refusal

#: So long the end of an answer waits for the end of its request.
REST_OF_REQUEST_SECONDS_MAX = 2.0

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Request:
    """One HTTP request, as ASGI has it."""

    def __init__(self, scope: Any, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:  # names are in lower case already
            self._headers.setdefault(name, value)
        #: Nothing more is to come: all of its body has been received, or its client has gone.
        self.is_over = False
        self._has_gone = False

    def header(self, name: bytes) -> str | None:
        """The first header of this name, given in lower case."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def argument(self, name: str) -> str | None:
        """The first argument of this name in the query string."""
        query: bytes = self._scope["query_string"]
        values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name) if query else None
        return values[0] if values else None

    @property
    def client_address(self) -> str | None:
        client = self._scope.get("client")  # optional in ASGI
        return str(client[0]) if client else None

    @property
    def media_type(self) -> str:
        """Of the Content-Type, in lower case and without parameters; empty where there is none."""
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    async def body(self, bytes_max: int) -> bytes:
        """The whole body. Raises Refusal(PAYLOAD_TOO_LARGE) as soon as it is known to be larger, and
        Refusal(INVALID_REQUEST), which nobody will read, where the client goes before it was whole."""
        too_large = Refusal("PAYLOAD_TOO_LARGE", f"the request body is larger than {bytes_max} bytes")
        length = self.header(b"content-length") or ""
        if length.isascii() and length.isdigit() and int(length[:20]) > bytes_max:
            raise too_large
        parts: list[bytes] = []
        size = 0
        while not self.is_over:
            part = await self._next_part()
            if part:
                parts.append(part)
                size += len(part)
                if size > bytes_max:
                    raise too_large
        if self._has_gone:
            raise Refusal("INVALID_REQUEST", "the request ended before its body was whole")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def drop_the_rest(self) -> None:
        """Read what is still to come of the body, for a while, and forget it."""
        with trio.move_on_after(REST_OF_REQUEST_SECONDS_MAX):
            while not self.is_over:
                await self._next_part()

    async def _next_part(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":  # http.disconnect
            self.is_over = self._has_gone = True
            return b""
        self.is_over = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


Handler = Callable[[Request], Awaitable[Answer]]


class PlainPath:
    """An ASGI application for one path and the method POST. `count` is told the code of every refusal."""

    def __init__(self, path: str, handler: Handler, count: Callable[[str], None]) -> None:
        self.path = path
        self._handler = handler
        self._count = count

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if scope["method"] != "POST":
                answer, code = path_answer(405, allow="POST")
                self._count(code)
            else:
                answer = await self._handler(request)
        except Exception as error:  # noqa: BLE001 (the one place that answers for a defect)
            answer, code = error_answer(error, method=scope["method"], route=self.path)
            self._count(code)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
        if request.is_over:
            await send({"type": "http.response.body", "body": answer.body})
            return
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        await request.drop_the_rest()
        await send({"type": "http.response.body", "body": b""})
