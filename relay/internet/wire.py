"""The stream beneath TLS: what was read too early is put back, and TLS cannot read on for ever for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

#: So much may come under TLS without a word of SMTP in it: a handshake with the longest chain that OpenSSL takes
#: (100 kB) fits. A peer that sends legal records without meaning for ever (HelloRequest, KeyUpdate, empty ones) would
#: have us decrypt them until the time is up.
UNPRODUCTIVE_BYTES_MAX: Final = 256 * 1024


class Wire(trio.abc.Stream):
    """Raises an error where more comes than UNPRODUCTIVE_BYTES_MAX, unless `is_heard` says in time that something was
    understood."""

    def __init__(
        self, stream: trio.abc.Stream, *, error: Callable[[str], Exception] = trio.BrokenResourceError
    ) -> None:
        self._stream = stream
        self._error = error
        self._put_back = b""
        self._unproductive_bytes = 0

    def put_back(self, octets: bytes) -> None:
        """The next thing that is read."""
        self._put_back = octets

    def is_heard(self) -> None:
        self._unproductive_bytes = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._put_back:
            await trio.lowlevel.checkpoint()
            octets, self._put_back = self._put_back, b""
            return octets
        octets = bytes(await self._stream.receive_some(max_bytes))
        self._unproductive_bytes += len(octets)
        if self._unproductive_bytes > UNPRODUCTIVE_BYTES_MAX:
            raise self._error("endless octets without a word in them")
        return octets

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def send_eof(self) -> None:
        """Where the stream can be closed by halves."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
