"""What the tests of https share."""

from __future__ import annotations

import ssl
from typing import Any

import trio

from relay.internet.https import (
    FetchError,
    HttpAnswer,
    fetch,
)
from tests.world.dns import FakeDns
from tests.world.https import Authority, Handler, Outside, Stream, open_https_server

AUTHORITY = Authority()


HOST = "host.example"


URL = f"https://{HOST}/"


# Public by registry; nothing here connects to it.
PUBLIC, OTHER, PUBLIC_V6 = "93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


SERVER = AUTHORITY.certificate(HOST, PUBLIC, PUBLIC_V6)


def says(answer: bytes) -> Handler:
    async def handle(stream: Stream, request: bytes) -> None:
        await stream.send_all(answer)

    return handle


OK = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


class Visit:
    """One fetch from one server on loopback: what came of it, and what the server and the network saw."""

    def __init__(
        self,
        handler: Handler = OK,
        *,
        url: str = URL,
        method: str = "GET",
        addresses: tuple[str, ...] = (PUBLIC,),
        server: ssl.SSLContext = SERVER,
        unreachable: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.requests: list[bytes] = []
        self.dns = FakeDns(addresses={HOST: list(addresses)})
        self.connected: list[tuple[str, int]] = []
        self.answer: HttpAnswer | None = None
        self.error = ""

        async def handle(stream: Stream, request: bytes) -> None:
            self.requests.append(request)
            await handler(stream, request)

        async def main() -> None:
            async with open_https_server(server, handle) as port:
                outside = Outside(port, unreachable=unreachable)
                try:
                    self.answer = await fetch(
                        method,
                        url,
                        resolver=self.dns,
                        open_stream=outside.open_stream,
                        tls=AUTHORITY.trust,
                        **options,
                    )
                except FetchError as error:
                    self.error = str(error)
                self.connected = outside.connected

        trio.run(main)
