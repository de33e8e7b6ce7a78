"""One request, whatever path it is for: what handlers of `relay.api.operations` are given.

A request through quart-trio costs a nursery, two tasks, two contexts, a routing and three header objects, together
twice what accepting a mail costs (docs/PERFORMANCE.md). So everything that answers JSON is a function from a `Request`
to an `Answer`; only pages for people go through Quart.

A body is read once, never beyond its limit, and never for ever: `limit` has the time that the whole request has, and
whoever has read the body says how long the rest may take. A large body has more time, by its size. When a client hangs
up after its request, that is carried to its end all the same; nobody is there to be answered. Half a request is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

import trio

from relay.buffers import ALWAYS_OCTETS, Held
from relay.refusals import Refusal, crowded, invalid, nearest_of

#: Query parameters of one request.
ARGUMENTS_MAX = 20
#: Twice what the longest legal ones take. Decoding a head full of percent signs takes 5 ms.
QUERY_BYTES_MAX = 4096
#: So long a body has to arrive; what is more of it than LARGE_OCTETS, a second for each further OCTETS_A_SECOND.
BODY_SECONDS_MAX = 4.0
LARGE_OCTETS = 1024 * 1024
OCTETS_A_SECOND = 256 * 1024
#: So long a large body waits for room; its own time stands still meanwhile.
ROOM_SECONDS_MAX = 2.0
#: So long the end of an answer waits for the end of its request.
REST_OF_REQUEST_SECONDS_MAX = 2.0
#: Among the extensions of an HTTP scope: to be called when nothing more is done for the client but to wait for it.
RESTS = "relay.rests"

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Request:
    """One HTTP request, as ASGI has it."""

    def __init__(
        self,
        scope: Any,
        receive: Receive,
        in_path: Mapping[str, str] | None = None,
        legal_arguments: Collection[str] = (),
    ) -> None:
        self.method: str = scope.get("method", "GET")  # a websocket's has none
        #: What stands in the path in the place of `{name}`, decoded.
        self.in_path: Mapping[str, str] = in_path or {}
        #: When its time is over (`trio.current_time`). Where it is cancelled, `is_over` tells whose fault that was.
        self.limit = trio.CancelScope()
        self._scope = scope
        self._receive = receive
        self._legal = legal_arguments
        self._headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:  # names are in lower case already
            self._headers.setdefault(name, value)
        #: Called when it has been answered.
        self.at_end: list[Callable[[], None]] = []
        #: So long its body has to arrive.
        self.body_seconds = BODY_SECONDS_MAX
        #: Nothing more is to come: all of its body has been received, or its client has gone.
        self.is_over = False
        self._has_gone = False

    def header(self, name: bytes) -> str | None:
        """The first header of this name, given in lower case."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def argument(self, name: str) -> str | None:
        """The first argument of this name in the query string."""
        values = self._arguments.get(name)
        return values[0] if values else None

    def check_arguments(self) -> None:
        """Raises Refusal(INVALID_REQUEST) for an argument that means nothing here: what is silently left out answers
        another question than was asked."""
        for name, values in self._arguments.items():
            if name not in self._legal:
                nearest = nearest_of(name, self._legal)
                if nearest:
                    hint = f"; did you mean `{nearest}`?"
                else:
                    hint = f"; there are {', '.join(sorted(self._legal))}" if self._legal else ""
                raise invalid(f"?{name}=", f"there is no such query parameter here{hint}")
            if len(values) > 1:
                raise invalid(f"?{name}=", "is given twice; give it once")

    @cached_property
    def _arguments(self) -> dict[str, list[str]]:
        query: bytes = self._scope["query_string"]
        if len(query) > QUERY_BYTES_MAX:
            raise invalid("query", f"longer than {QUERY_BYTES_MAX} bytes")
        try:
            return (
                parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=ARGUMENTS_MAX)
                if query
                else {}
            )
        except ValueError:
            raise invalid("query", f"more than {ARGUMENTS_MAX} parameters") from None

    @property
    def client_address(self) -> str | None:
        client = self._scope.get("client")  # optional in ASGI
        return str(client[0]) if client else None

    @property
    def media_type(self) -> str:
        """Of the Content-Type, in lower case and without parameters; empty where there is none."""
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    async def json(
        self, bytes_max: int, held: Held | None = None, *, then_seconds: float = math.inf
    ) -> bytes:
        """The whole body, which says that it is JSON or says nothing. What comes after it has `then_seconds`; after a
        large body, also the time in which a small one has to arrive.

        A body that may be large is `held`. Raises Refusal(UNSUPPORTED_MEDIA_TYPE, or as `whole`),
        Refusal(TEMPORARILY_UNAVAILABLE) where there is no room for it in time, and Refusal(INVALID_REQUEST), which
        nobody will read, where the client goes before it was whole.
        """
        if self.media_type not in ("", "application/json"):
            raise Refusal("UNSUPPORTED_MEDIA_TYPE", "Content-Type: send application/json")
        return await self._body(bytes_max, held, then_seconds=then_seconds)

    async def form(self, bytes_max: int) -> bytes:
        """The whole body, which a page's form has sent. Raises Refusal as `json` does."""
        if self.media_type != "application/x-www-form-urlencoded":
            raise Refusal("UNSUPPORTED_MEDIA_TYPE", "Content-Type: send application/x-www-form-urlencoded")
        return await self._body(bytes_max, None)

    async def _body(self, bytes_max: int, held: Held | None, *, then_seconds: float = math.inf) -> bytes:
        coding = self.header(b"content-encoding")
        if coding is not None and coding.strip().lower() not in ("", "identity"):
            raise Refusal(
                "UNSUPPORTED_MEDIA_TYPE", "Content-Encoding: send the body as it is, not compressed"
            )
        length = self.header(b"content-length") or ""
        said = min(int(length), bytes_max) if _is_length(length) else None
        self.body_seconds = _seconds_for(said or 0)
        self.limit.deadline = trio.current_time() + self.body_seconds
        parts = self._parts() if held is None else self._held_parts(held, said, bytes_max)
        async with aclosing(parts if said is not None else self._timed(parts)) as timely:
            body = await whole(timely, length, bytes_max)
        if self._has_gone:
            raise Refusal("INVALID_REQUEST", "the request ended before its body was whole")
        if len(body) > LARGE_OCTETS:
            then_seconds += BODY_SECONDS_MAX
        self.limit.deadline = trio.current_time() + then_seconds
        return body

    async def drop_the_rest(self) -> None:
        """Read what is still to come of the body, for a while, and forget it. Who comes meanwhile may have the
        connection's place."""
        say_that_it_rests(self._scope)
        with trio.move_on_after(REST_OF_REQUEST_SECONDS_MAX):
            while not self.is_over:
                await self._next_part()

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        while not self.is_over:
            yield await self._next_part()

    async def _timed(self, parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The same parts, of a body that does not say how large it is; known to be large, it has more time."""
        size = 0
        async with aclosing(parts):
            async for part in parts:
                size += len(part)
                seconds = _seconds_for(size)
                if seconds > self.body_seconds:
                    self.limit.deadline += seconds - self.body_seconds
                    self.body_seconds = seconds
                yield part

    async def _held_parts(self, held: Held, said: int | None, bytes_max: int) -> AsyncGenerator[bytes, None]:
        """As `_parts`; when it is known to be large, it goes on as soon as there is room for all that it may be."""
        size, is_held = 0, False
        while not self.is_over:
            if not is_held and (size if said is None else said) > ALWAYS_OCTETS:
                begun = trio.current_time()
                self.limit.deadline += ROOM_SECONDS_MAX
                with trio.move_on_after(ROOM_SECONDS_MAX) as waiting:
                    await held.take(bytes_max if said is None else said)
                if waiting.cancelled_caught:
                    raise crowded()
                self.limit.deadline += trio.current_time() - begun - ROOM_SECONDS_MAX
                is_held = True
            part = await self._next_part()
            size += len(part)
            yield part

    async def _next_part(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":  # http.disconnect
            self.is_over = self._has_gone = True
            return b""
        self.is_over = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


_is_length = re.compile("[0-9]{1,15}").fullmatch


def _seconds_for(octets: int) -> float:
    """So long a body of this size has to arrive."""
    more = max(0, octets - LARGE_OCTETS)
    return BODY_SECONDS_MAX + -(-more // OCTETS_A_SECOND)


def say_that_it_rests(scope: Any) -> None:
    """The answer is out, and its request is not whole."""
    rests = scope.get("extensions", {}).get(RESTS)
    if rests is not None:
        rests()


async def whole(parts: AsyncIterator[bytes], content_length: str | None, bytes_max: int) -> bytes:
    """All of a body. Raises Refusal(PAYLOAD_TOO_LARGE) as soon as it is known to be larger."""
    too_large = Refusal("PAYLOAD_TOO_LARGE", f"the request body is larger than {bytes_max} bytes")
    length = content_length or ""
    if length.isascii() and length.isdigit() and int(length[:20]) > bytes_max:
        raise too_large
    body: list[bytes] = []
    size = 0
    async for part in parts:
        if part:
            body.append(part)
            size += len(part)
            if size > bytes_max:
                raise too_large
    return body[0] if len(body) == 1 else b"".join(body)
