"""Who asks for a websocket, and does not wait for the answer: told so, and gone, however long the answer takes."""

from __future__ import annotations

from typing import Any

import trio

from tests.api.test_stream_process import UPGRADE
from tests.world.http import open_http
from tests.world.serving import run_on_a_jumping_clock, serving


def test_an_application_that_takes_its_time_hears_that_it_is_over() -> None:
    """As one does that asks another process. It was left waiting for ever, with its connection and its stream's place,
    after its client had been told 400 and had gone."""
    ended = trio.Event()

    async def takes_its_time(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()  # websocket.connect
            await trio.sleep(1)
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            await trio.sleep_forever()
        finally:
            ended.set()

    async def main() -> None:
        async with serving(takes_its_time) as address:
            with trio.fail_after(60):
                async with open_http(address) as http:
                    head = "GET / HTTP/1.1\r\n" + "".join(
                        f"{name}: {value}\r\n" for name, value in UPGRADE.items()
                    )
                    await http.stream.send_all(head.encode() + b"\r\n\x81\x80" + bytes(4))
                    assert (await http.read_to_end()).startswith(b"HTTP/1.1 400 ")
                await ended.wait()

    run_on_a_jumping_clock(main)
