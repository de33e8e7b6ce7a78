"""A receiver that has the whole message, and says so only when it is let go: an attempt between its dot and its
reply, for as long as a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.world.mx import Mx


@dataclass
class HeldMx(Mx):
    #: Until it is set, nothing more is said to anybody once a message has been accepted.
    let_go: trio.Event = field(default_factory=trio.Event)

    async def serve(self, stream: trio.abc.Stream) -> None:
        await super().serve(_HeldStream(stream, self))


class _HeldStream(trio.abc.Stream):
    def __init__(self, stream: trio.abc.Stream, mx: HeldMx) -> None:
        self._stream = stream
        self._mx = mx

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._mx.messages:
            await self._mx.let_go.wait()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def open_held_mx() -> AsyncIterator[HeldMx]:
    """On 127.0.0.1, stopped at the end of the block."""
    mx = HeldMx()
    listeners = await trio.open_tcp_listeners(0, host=mx.host)
    mx.port = listeners[0].socket.getsockname()[1]
    mx.address = f"{mx.host}:{mx.port}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, mx.serve, listeners)
        yield mx
        nursery.cancel_scope.cancel()
