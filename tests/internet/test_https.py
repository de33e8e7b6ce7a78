"""The HTTPS client against servers that mean well and servers that do not, and URLs that nobody should write."""

from __future__ import annotations

import ssl
from functools import partial

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from relay.internet.https import (
    ADDRESSES_TRIED_MAX,
    INTERIM_ANSWERS_MAX,
    FetchError,
    FetchLimits,
    HttpAnswer,
    fetch,
)
from tests.world.dns import FakeDns
from tests.world.https import Authority, Outside, Stream, serve_https
from tests.world.https_requests import AUTHORITY, HOST, OTHER, PUBLIC, PUBLIC_V6, SERVER, URL, Visit, says

# ------------------------------------------------------------------------------------------------ good servers


def test_an_answer_is_its_status_its_headers_and_its_body() -> None:
    visit = Visit(says(b"HTTP/1.1 201 Created\r\nX-Note: A\r\nContent-Length: 2\r\n\r\nhi"))
    assert visit.answer == HttpAnswer(201, (("x-note", "A"), ("content-length", "2")), b"hi")
    assert visit.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "framing",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\n\r\nhi",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_a_body_may_be_framed_in_every_way_of_http(framing: bytes) -> None:
    answer = Visit(says(framing)).answer
    assert answer is not None
    assert (answer.status, answer.body, answer.truncated) == (200, b"hi", False)


def test_the_request_is_what_was_asked_for() -> None:
    visit = Visit(
        method="POST",
        url=f"https://{HOST.upper()}:8443/a%20b?c=d&e#fragment",
        body=b"List-Unsubscribe=One-Click",
        headers=[("Content-Type", "application/x-www-form-urlencoded")],
    )
    head, _, body = visit.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /a%20b?c=d&e HTTP/1.1"
    assert set(lines[1:]) == {
        b"Host: host.example:8443",
        b"User-Agent: atmos-relay",
        b"Accept-Encoding: identity",
        b"Connection: close",
        b"Content-Length: 26",
        b"Content-Type: application/x-www-form-urlencoded",
    }
    assert body == b"List-Unsubscribe=One-Click"
    assert visit.connected == [(PUBLIC, 8443)]


@pytest.mark.parametrize(("url", "target"), [(f"https://{HOST}", b"/"), (f"https://{HOST}?a=b", b"/?a=b")])
def test_a_url_without_a_path_asks_for_the_root(url: str, target: bytes) -> None:
    assert Visit(url=url).requests[0].startswith(b"GET " + target + b" HTTP/1.1\r\n")


def test_the_name_is_told_to_the_server_and_to_no_second_resolver() -> None:
    """SNI is the URL's host, and what is connected to is the very address that was judged."""
    server, names = AUTHORITY.certificate(HOST), []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    visit = Visit(server=server)
    assert names == [HOST]
    assert visit.connected == [(PUBLIC, 443)]
    assert visit.dns.asked == [("A", HOST)]  # once: a second answer could be another one


def test_the_next_address_has_its_turn_where_no_connection_can_be_made() -> None:
    visit = Visit(addresses=(PUBLIC_V6, PUBLIC), unreachable=(PUBLIC_V6,))
    assert visit.answer is not None
    assert visit.connected == [(PUBLIC_V6, 443), (PUBLIC, 443)]


def test_a_host_with_a_thousand_dead_addresses_is_not_asked_at_all_of_them() -> None:
    many = tuple(f"8.8.{number // 250}.{number % 250 + 1}" for number in range(1000))
    visit = Visit(addresses=many, unreachable=many)
    assert visit.error == "no connection to host.example: Connection refused"
    assert len(visit.connected) == ADDRESSES_TRIED_MAX


@pytest.mark.parametrize("url", [f"https://{PUBLIC}/", f"https://[{PUBLIC_V6}]/"])
def test_an_address_in_the_url_is_taken_at_its_word(url: str) -> None:
    visit = Visit(url=url)
    assert visit.answer is not None
    assert visit.dns.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    location = b"Location: https://host.example/elsewhere\r\n"
    visit = Visit(says(b"HTTP/1.1 %d Moved\r\n%sContent-Length: 0\r\n\r\n" % (status, location)))
    assert visit.answer is not None
    assert visit.answer.status == status
    assert len(visit.requests) == 1


# ------------------------------------------------------------------------------------------------ bad servers


async def _for_ever(stream: Stream, first: bytes, more: bytes) -> None:
    await stream.send_all(first)
    while True:
        await stream.send_all(more)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"Connection: close\r\n\r\n", b"x" * 10_000),
        (b"Content-Length: 1000000000000\r\n\r\n", b"x" * 10_000),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"x" * 1000 + b"\r\n"),
    ],
)
def test_an_endless_body_is_read_to_its_limit_and_no_further(first: bytes, more: bytes) -> None:
    async def handle(stream: Stream, request: bytes) -> None:
        await _for_ever(stream, b"HTTP/1.1 200 OK\r\n" + first, more)

    answer = Visit(handle, limits=FetchLimits(body_bytes_max=5_000)).answer
    assert answer is not None
    assert (answer.status, answer.body, answer.truncated) == (200, b"x" * 5_000, True)


def test_a_body_of_exactly_the_limit_is_whole() -> None:
    answer = Visit(
        says(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"), limits=FetchLimits(body_bytes_max=5)
    ).answer
    assert answer is not None
    assert (answer.body, answer.truncated) == (b"hello", False)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 1000),
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
)
def test_an_endless_head_is_no_answer(first: bytes, more: bytes) -> None:
    async def handle(stream: Stream, request: bytes) -> None:
        await _for_ever(stream, first, more)

    assert Visit(handle).error.startswith("host.example does not speak HTTP within bounds: ")


def test_as_many_interim_answers_as_a_server_may_give() -> None:
    interim, final = b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
    assert Visit(says(interim * INTERIM_ANSWERS_MAX + final)).answer == HttpAnswer(204, (), b"")
    assert "interim" in Visit(says(interim * (INTERIM_ANSWERS_MAX + 1) + final)).error


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n",
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_not_http_or_ends_too_early_is_no_answer(answer: bytes) -> None:
    visit = Visit(says(answer))
    assert visit.answer is None
    assert visit.error.startswith("host.example ")


def test_one_byte_a_second_does_not_stretch_the_deadline() -> None:
    """On a clock that jumps, through memory: every byte is real, only the seconds are not."""
    seen: list[float] = []

    async def drip(stream: Stream, request: bytes) -> None:
        for octet in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000:
            await trio.sleep(1)
            await stream.send_all(bytes([octet]))

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def open_stream(address: str, port: int) -> Stream:
                ours, theirs = memory_stream_pair()
                nursery.start_soon(serve_https, theirs, SERVER, drip)
                return ours

            dns = FakeDns(addresses={HOST: [PUBLIC]})
            with pytest.raises(FetchError, match="did not answer within 30 seconds"):
                await fetch(
                    "GET",
                    URL,
                    resolver=dns,
                    open_stream=open_stream,
                    tls=AUTHORITY.trust,
                    limits=FetchLimits(seconds_max=30),
                )
            seen.append(trio.current_time())

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert seen == [30.0]


@pytest.mark.parametrize("stage", ["resolving", "connecting", "handshake"])
def test_silence_before_the_request_is_in_the_deadline_too(stage: str) -> None:
    class SilentDns(FakeDns):
        async def lookup_addresses(self, host: str) -> list[str]:
            if stage == "resolving":
                await trio.sleep_forever()
            return [PUBLIC]

    async def open_stream(address: str, port: int) -> Stream:
        if stage == "connecting":
            await trio.sleep_forever()
        return memory_stream_pair()[0]

    async def main() -> None:
        with pytest.raises(FetchError, match="did not answer within 15 seconds"):
            await fetch("GET", URL, resolver=SilentDns(), open_stream=open_stream, tls=AUTHORITY.trust)
        assert trio.current_time() == 15.0

    trio.run(main, clock=MockClock(autojump_threshold=0))


# ------------------------------------------------------------------------------------------------ certificates


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Authority().certificate(HOST), "unable to get local issuer certificate"),
        (AUTHORITY.certificate(HOST, expired=True), "certificate has expired"),
        (AUTHORITY.certificate("other.example"), "Hostname mismatch"),
        (AUTHORITY.certificate("*.example.org"), "Hostname mismatch"),
        (AUTHORITY.certificate(PUBLIC), "Hostname mismatch"),
    ],
)
def test_a_certificate_that_is_not_the_hosts_is_refused(server: ssl.SSLContext, why: str) -> None:
    visit = Visit(server=server)
    assert visit.error.startswith("no TLS with host.example: its certificate is refused: ")
    assert why in visit.error
    assert visit.requests == []


def test_an_address_needs_a_certificate_of_its_own() -> None:
    visit = Visit(url=f"https://{OTHER}/")
    assert "IP address mismatch" in visit.error
    assert visit.requests == []


@pytest.mark.parametrize("greeting", [b"220 mx.example ESMTP\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_server_without_tls(greeting: bytes) -> None:
    async def plain(transport: Stream) -> None:
        async with transport:
            await transport.send_all(greeting)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, plain, 0, host="127.0.0.1"))
            outside = Outside(listeners[0].socket.getsockname()[1])
            dns = FakeDns(addresses={HOST: [PUBLIC]})
            with pytest.raises(FetchError, match=r"^no TLS with host\.example: "):
                await fetch("GET", URL, resolver=dns, open_stream=outside.open_stream, tls=AUTHORITY.trust)
            nursery.cancel_scope.cancel()

    trio.run(main)
