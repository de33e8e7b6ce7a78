"""Members' own unsubscribe URLs, called over TLS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import memory_stream_pair

from relay.events import (
    UnsubscribeCalled,
)
from relay.unsubscribe_calls import (
    BODY,
)
from tests.world.https import Outside, Stream, open_https_server, serve_https
from tests.world.one_click import delivered, one_click
from tests.world.relay import open_world, run
from tests.world.unsubscribe_calls import (
    ADDRESS,
    AUTHORITY,
    HOST,
    PUBLIC,
    URL,
    click,
    error_of,
    open_caller,
    until_settled,
)

SERVER = AUTHORITY.certificate(HOST)


def answering(status: str, requests: list[bytes]) -> Callable[[Stream, bytes], Awaitable[None]]:
    async def handle(stream: Stream, request: bytes) -> None:
        requests.append(request)
        head = f"HTTP/1.1 {status}\r\nLocation: https://{HOST}/elsewhere\r\nContent-Length: 5\r\n\r\n"
        await stream.send_all(head.encode() + b"hello")

    return handle


def test_the_member_hears_what_rfc_8058_says_over_real_https(tmp_path: Path) -> None:
    async def main() -> None:
        requests: list[bytes] = []
        async with open_https_server(SERVER, answering("200 OK", requests)) as port:
            outside = Outside(port)
            async with open_caller(tmp_path / "data", open_stream=outside.open_stream) as core:
                await click(core)
                (recorded,) = await until_settled(core)
        assert isinstance(recorded.event, UnsubscribeCalled)
        assert (recorded.event.status, error_of(recorded.event)) == (200, None)
        assert outside.connected == [(PUBLIC, 443)]
        (request,) = requests
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /off?u=1 HTTP/1.1"
        assert b"content-type: application/x-www-form-urlencoded" in [line.lower() for line in lines]
        assert body == BODY == b"List-Unsubscribe=One-Click"
        # Nothing of whose click it was, beyond what the member put into its URL.
        assert ADDRESS.encode() not in request

    trio.run(main)  # real sockets: a clock that jumps would not wait for them


class Inside:
    """HTTPS in memory, on a clock that jumps."""

    def __init__(self, nursery: trio.Nursery, status: str) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._nursery = nursery
        self._handle = answering(status, self.requests)

    async def open_stream(self, address: str, port: int) -> Stream:
        self.connections += 1
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(serve_https, theirs, SERVER, self._handle)
        return ours


def test_a_real_redirect_leads_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inside = Inside(nursery, "307 Temporary Redirect")
            async with open_caller(tmp_path / "data", open_stream=inside.open_stream) as core:
                await click(core)
                made = await until_settled(core)
            assert len(made) > 5
            assert {error_of(recorded.event) for recorded in made} == {
                "the server answered 307; redirects are not followed"
            }
            assert {request.partition(b" HTTP/1.1\r\n")[0] for request in inside.requests} == {
                b"POST /off?u=1"
            }

    run(main)


@pytest.mark.parametrize("private", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1"])
def test_an_address_that_is_not_public_is_never_connected_to_and_that_is_recorded(
    tmp_path: Path, private: str
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inside = Inside(nursery, "200 OK")
            addresses = (PUBLIC, private)
            async with open_caller(
                tmp_path / "data", addresses=addresses, open_stream=inside.open_stream
            ) as core:
                await click(core)
                made = await until_settled(core)
            assert inside.connections == 0
            for recorded in made:
                assert isinstance(recorded.event, UnsubscribeCalled)
                assert recorded.event.status is None
                assert private in (error_of(recorded.event) or "")

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://nowhere.example/",
        "https://a:b@c.example/",
    ],
)
def test_a_url_that_is_not_to_be_called_is_recorded_and_given_up_in_the_end(tmp_path: Path, url: str) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            inside = Inside(nursery, "200 OK")
            async with open_caller(tmp_path / "data", open_stream=inside.open_stream) as core:
                await click(core, url)
                made = await until_settled(core)
            assert inside.connections == 0
            assert all(error_of(recorded.event) for recorded in made)

    run(main)


def test_a_server_that_never_answers_is_left_after_a_bounded_time(tmp_path: Path) -> None:
    async def main() -> None:
        silent: list[Stream] = []

        async def open_stream(address: str, port: int) -> Stream:
            ours, theirs = memory_stream_pair()
            silent.append(theirs)
            return ours

        async with open_caller(tmp_path / "data", open_stream=open_stream) as core:
            await click(core)
            made = await until_settled(core)
            assert error_of(made[0].event) == f"{HOST} did not answer within 20 seconds"

    run(main)


def test_in_a_whole_relay_a_click_has_the_member_called(tmp_path: Path) -> None:
    """From the mail that was delivered to the event of the call; nobody may be called at this address."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            world.dns.addresses[HOST] = ["127.0.0.1"]
            _, path = await delivered(world, headers={"List-Unsubscribe": f"<{URL}>"})
            assert (await one_click(world, path)).status == 200
            first, *_ = await until_settled(world.core)
            assert "127.0.0.1" in (error_of(first.event) or "")

    run(main)
