"""Whatever a client sends, none of its connections is left that neither goes on nor ends: it would hold its place for
ever."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.api import request
from relay.api.places import Places
from relay.api.request import Request
from tests.world.http import open_http
from tests.world.serving import give_ok, run_on_a_jumping_clock, serving

HEAD = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"
ENDLESS = b"POST / HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000


async def answer_and_drop(scope: Any, receive: Any, send: Any) -> None:
    """As the relay answers what it need not read: an answer, then a while of reading, then its end. It begins when so
    much has come that there is no more room for it."""
    await wait_all_tasks_blocked()
    asked = Request(scope, receive)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok", "more_body": True})
    await asked.drop_the_rest()
    await send({"type": "http.response.body", "body": b""})


def test_a_body_that_never_ends_and_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """More pieces of it wait to be read than there is room for, and nobody will read them any more."""
    monkeypatch.setattr(request, "REST_OF_REQUEST_SECONDS_MAX", 0.2)

    async def main() -> None:
        places = Places(lambda: 10)
        async with (
            serving(answer_and_drop, places=places) as address,
            trio.open_nursery() as nursery,
            open_http(address) as http,
        ):

            async def send_on() -> None:
                try:
                    while True:
                        await http.stream.send_all(b"1\r\nx\r\n" * 1000)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

            await http.stream.send_all(ENDLESS)
            nursery.start_soon(send_on)
            assert (await http.stream.receive_some(13)).startswith(b"HTTP/1.1 200 ")
            with trio.move_on_after(60):
                await http.read_to_end()
            await wait_all_tasks_blocked(0.05)
            assert places.connections == 0

    trio.run(main)  # a clock that jumps when nothing happens never would


def test_a_request_behind_the_last_one_does_not_hold_up_a_stop() -> None:
    """One request waits behind another when the relay stops: it is not begun, and nothing waits for it."""

    async def main() -> None:
        asked, answer, close = trio.Event(), trio.Event(), trio.Event()

        async def answer_when_told(scope: Any, receive: Any, send: Any) -> None:
            asked.set()
            await answer.wait()
            await give_ok(send)

        async with serving(answer_when_told, close=close) as address, open_http(address) as http:
            await http.stream.send_all(HEAD + HEAD)
            await asked.wait()
            began = trio.current_time()
            close.set()
            await wait_all_tasks_blocked()
            answer.set()
            assert (await http.read_to_end()).count(b"HTTP/1.1 200 ") == 1
        assert trio.current_time() - began < 1

    run_on_a_jumping_clock(main)
