"""An HTTP/1.1 client over TCP that hides nothing: what is sent when, and what came back before the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import h11
import trio


class NoAnswerError(Exception):
    """The connection ended before the answer was whole."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_json(self) -> bool:
        return self.headers.get("content-type") == "application/json"

    @property
    def code(self) -> str:
        """The code of an error."""
        assert self.is_json, self
        code: str = self.json()["code"]
        return code


class HttpConnection:
    """One connection, kept alive. Made by `open_http`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    @property
    def is_over(self) -> bool:
        """The last answer said that the connection is closed behind it."""
        return self._h11.our_state in (h11.MUST_CLOSE, h11.CLOSED)

    async def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send a request and read its answer. Raises NoAnswerError."""
        lines = {"Host": "relay", "Content-Length": str(len(body)), **(headers or {})}
        data = self._head(method, path, lines)
        data += self._h11.send(h11.Data(data=body)) + self._h11.send(h11.EndOfMessage())
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            raise NoAnswerError from None
        return await self.read_answer()

    async def post_send(self, credentials: dict[str, str], **fields: Any) -> Answer:
        """`POST /v1/send`."""
        mail = {
            "from": "you@yourdomain.com",
            "to": "friend@example.com",
            "subject": "Hello",
            "text": "Hi\n",
            **fields,
        }
        headers = {**credentials, "Content-Type": "application/json"}
        return await self.request("POST", "/v1/send", headers, json.dumps(mail).encode())

    async def send_head(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Send the head of a request; its body, if any, goes straight to `stream`."""
        await self.stream.send_all(self._head(method, path, headers))

    async def send_rest(self, body: bytes) -> None:
        """The end of a body of which the beginning went straight to `stream`, maybe after the answer was read."""
        await self.stream.send_all(body)
        self._h11 = h11.Connection(h11.CLIENT)

    async def read_answer(self) -> Answer:
        """Read the answer to a request of which at least the head was sent. Raises NoAnswerError."""
        status, headers, body = 0, dict[str, str](), bytearray()
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self._receive())
            elif event is h11.PAUSED:  # what comes now is in another protocol
                raise NoAnswerError
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
                    self._h11.start_next_cycle()
                return Answer(status, headers, bytes(body))

    async def _receive(self) -> bytes:
        """Every answer of the relay has a length, so an end before its end is no answer."""
        try:
            data = bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            raise NoAnswerError from None
        if not data:
            raise NoAnswerError
        return data

    async def read_to_end(self) -> bytes:
        """Wait until the other side has closed; what it still said until then."""
        data = b""
        try:
            while part := await self.stream.receive_some(65536):
                data += part
        except trio.BrokenResourceError:
            pass
        return data

    def _head(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        data = self._h11.send(h11.Request(method=method, target=path, headers=list(headers.items())))
        assert data is not None
        return data


@asynccontextmanager
async def open_http(address: str, *, source: str | None = None) -> AsyncIterator[HttpConnection]:
    """A connection to `host:port`, from the address `source` of this machine. Raises OSError where nobody listens."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    async with await trio.open_tcp_stream(host, int(port), local_address=source) as stream:
        yield HttpConnection(stream)
