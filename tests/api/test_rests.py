"""A connection that waits for a request's head has a time for that: 10 s for the first one, from the moment of
connecting, and as long as connections are kept alive for each further one. Half a head changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from relay.api.places import HEAD_SECONDS_MAX
from relay.api.server import REST_WATCH_SECONDS
from tests.world.http import HttpConnection, open_http
from tests.world.serving import KEEP_ALIVE_SECONDS, give_ok, run_on_a_jumping_clock, serving

HEAD = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"


async def seconds_until_closed(http: HttpConnection) -> float:
    began = trio.current_time()
    await http.read_to_end()
    return trio.current_time() - began


def test_one_that_never_says_a_word() -> None:
    async def main() -> None:
        async with serving() as address, open_http(address) as http:
            seconds = await seconds_until_closed(http)
            assert HEAD_SECONDS_MAX <= seconds <= HEAD_SECONDS_MAX + REST_WATCH_SECONDS

    run_on_a_jumping_clock(main)


@pytest.mark.parametrize("drip", [HEAD[:-4], b"\r\n" * 40], ids=["half a head", "empty lines"])
def test_what_drips_buys_no_time(drip: bytes) -> None:
    async def main() -> None:
        async with serving() as address, open_http(address) as http, trio.open_nursery() as nursery:

            async def send_slowly() -> None:
                for byte in drip:
                    try:
                        await http.stream.send_all(bytes([byte]))
                    except trio.BrokenResourceError:
                        return
                    await trio.sleep(1)

            nursery.start_soon(send_slowly)
            assert await seconds_until_closed(http) <= HEAD_SECONDS_MAX + REST_WATCH_SECONDS

    run_on_a_jumping_clock(main)


def test_a_head_that_comes_in_time_is_answered() -> None:
    async def main() -> None:
        async with serving() as address, open_http(address) as http:
            await http.stream.send_all(HEAD[:20])
            await trio.sleep(HEAD_SECONDS_MAX - 1)
            await http.stream.send_all(HEAD[20:])
            assert await http.stream.receive_some(15) == b"HTTP/1.1 200 \r\n"

    run_on_a_jumping_clock(main)


def test_between_two_requests_it_is_kept_alive() -> None:
    async def main() -> None:
        async with serving() as address, open_http(address) as http:
            for _ in range(3):
                assert (await http.request("GET", "/")).status == 200
                await trio.sleep(KEEP_ALIVE_SECONDS - 1)
            assert (await http.request("GET", "/")).status == 200
            await http.stream.send_all(HEAD[:-2])
            seconds = await seconds_until_closed(http)
            assert KEEP_ALIVE_SECONDS <= seconds <= KEEP_ALIVE_SECONDS + REST_WATCH_SECONDS

    run_on_a_jumping_clock(main)


def test_one_at_work_has_all_the_time_that_the_work_takes() -> None:
    async def main() -> None:
        async def answer_slowly(scope: Any, receive: Any, send: Any) -> None:
            await trio.sleep(300)
            await give_ok(send)

        async with serving(answer_slowly) as address, open_http(address) as http:
            assert (await http.request("GET", "/")).status == 200
            assert trio.current_time() >= 300

    run_on_a_jumping_clock(main)


def test_stopping_waits_for_none_of_them() -> None:
    async def main() -> None:
        close = trio.Event()
        async with serving(close=close) as address, open_http(address) as silent, open_http(address) as kept:
            assert (await kept.request("GET", "/")).status == 200
            await silent.stream.send_all(HEAD[:20])
            await trio.sleep(1)
            began = trio.current_time()
            close.set()
            assert await silent.read_to_end() == await kept.read_to_end() == b""
        assert trio.current_time() - began < 0.5

    run_on_a_jumping_clock(main)
