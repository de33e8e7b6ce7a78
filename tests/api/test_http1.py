"""What is on the wire is read in one way, or refused: the bytes alone, without a relay.

Every input is read whole and byte by byte, and the same comes of it. Whatever comes, it is requests or
`h11.RemoteProtocolError`, never anything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.api.http1 import FIELDS_MAX, HEAD_BYTES_MAX, Http1

GET = b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n"
Said = list[Any]


def read(parts: Iterable[bytes], *, eof: bool = False) -> Said:
    """The requests as (method, target, body), each answered once it is whole; and how it ends: the status of an error,
    or nothing."""
    wire, said = Http1(), list[Any]()
    body = bytearray()
    for part in [*parts, b""] if eof else parts:
        wire.receive_data(part)
        while True:
            try:
                event = wire.next_event()
            except h11.RemoteProtocolError as error:
                assert wire.why
                assert b"SECRET" not in wire.why.encode()
                return [*said, error.error_status_hint]
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                break
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert wire.head is not None
                said.append((wire.head.method, wire.head.target, bytes(body)))
                body.clear()
                if wire.their_state is h11.DONE:
                    wire.send(h11.Response(status_code=204, headers=[]))
                    wire.send(h11.EndOfMessage())
                    wire.start_next_cycle()
    return said


def both_ways(data: bytes) -> Said:
    whole = read([data])
    assert read(bytes([byte]) for byte in data) == whole
    return whole


def post(
    *fields: bytes,
    body: bytes = b"",
    target: bytes = b"/v1/send",
    version: bytes = b"1.1",
    host: bytes = b"relay",
) -> bytes:
    lines = [b"POST " + target + b" HTTP/" + version, b"Host: " + host, *fields, b"", body]
    return b"\r\n".join(lines)


CHUNKED = b"Transfer-Encoding: chunked"
HEALTH = ("GET", b"/healthz", b"")


def sent(body: bytes = b"hello") -> tuple[str, bytes, bytes]:
    return ("POST", b"/v1/send", body)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # RFC 9112, 2.2: an empty line before a request; older clients send it behind a body.
        (b"\r\n" + GET, [HEALTH]),
        (b"\r\n\r\n" + GET + b"\r\n" + GET, [HEALTH, HEALTH]),
        (post(b"Content-Length: 5", body=b"hello") + b"\r\n" + GET, [sent(), HEALTH]),
        (post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n") + b"\r\n" + GET, [sent(), HEALTH]),
        # 9.6: what comes behind the last request is none.
        (post(b"Content-Length: 5", b"Connection: close", body=b"hello") + b"\r\n", [sent()]),
        (post(b"Content-Length: 5", b"Connection: close", body=b"hello") + GET, [sent()]),
        (post(b"Content-Length: 5", version=b"1.0", body=b"hello") + b"\r\n", [sent()]),
        (GET.replace(b"1.1", b"1.0") + GET, [HEALTH]),
        # 3.2.2: absolute form is as the path alone.
        (post(b"Content-Length: 0", target=b"http://relay:8025/v1/send"), [sent(b"")]),
        (post(b"Content-Length: 0", target=b"HTTPS://[2001:db8::1]:1/v1/send"), [sent(b"")]),
        (GET.replace(b"/healthz", b"http://relay"), [("GET", b"/", b"")]),
        (GET.replace(b"/healthz", b"http://relay?a=b"), [("GET", b"/?a=b", b"")]),
        (GET.replace(b"/healthz", b"http://relay/a//b?http://c/"), [("GET", b"/a//b?http://c/", b"")]),
        # What is no such form stays, and leads nowhere.
        (GET.replace(b"/healthz", b"http://user@relay/"), [("GET", b"http://user@relay/", b"")]),
        (GET.replace(b"/healthz", b"http:///healthz"), [("GET", b"http:///healthz", b"")]),
        (GET.replace(b"/healthz", b"http://[/healthz"), [("GET", b"http://[/healthz", b"")]),
        (GET.replace(b"/healthz", b"ftp://relay/healthz"), [("GET", b"ftp://relay/healthz", b"")]),
        (GET.replace(b"/healthz", b"*"), [("GET", b"*", b"")]),
        (GET.replace(b"GET /healthz", b"CONNECT relay:80"), [("CONNECT", b"relay:80", b"")]),
        # Codings.
        (post(b"Transfer-Encoding: Chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), [sent()]),
        (
            post(b"Transfer-Encoding:\tchunked \t", body=b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n") + GET,
            [sent(), HEALTH],
        ),
        (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), [sent()]),
        (post(b"Content-Length: 5, 5", body=b"hello"), [sent()]),
        # Requests behind one another, and one that is not whole.
        (GET * 5, [HEALTH] * 5),
        (post(b"Content-Length: 5", body=b"hello") + GET[:-1], [sent()]),
        (GET.replace(b"Host: relay\r\n", b"").replace(b"1.1", b"1.0"), [HEALTH]),
        (GET.replace(b"relay", b""), [HEALTH]),
    ],
)
def test_what_has_one_reading_is_read(data: bytes, said: Said) -> None:
    assert both_ways(data) == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # Two lengths.
        (post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + GET), [400]),
        (post(CHUNKED, b"Content-Length: 0", body=b"0\r\n\r\n"), [400]),
        (post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), [400]),
        (post(b"Content-Length: 5, 6", body=b"hello"), [400]),
        (post(b"Content-Length: +5", body=b"hello"), [400]),
        (post(b"Content-Length: 0x5", body=b"hello"), [400]),
        (post(b"Content-Length: -5", body=b"hello"), [400]),
        (post(b"Content-Length: 5 5", body=b"hello"), [400]),
        (post(b"Content-Length:", body=b"hello"), [400]),
        (post(b"Content-Length: " + b"9" * 21), [400]),
        (post(CHUNKED, version=b"1.0", body=b"0\r\n\r\n"), [400]),
        # Codings that a proxy may take for chunked, or for none.
        (post(b"Transfer-Encoding: identity"), [501]),
        (post(b"Transfer-Encoding: chunked, chunked"), [501]),
        (post(b"Transfer-Encoding: gzip, chunked"), [501]),
        (post(b"Transfer-Encoding: chunked;a=b"), [501]),
        (post(b'Transfer-Encoding: "chunked"'), [501]),
        (post(b"Transfer-Encoding:"), [501]),
        (post(CHUNKED, CHUNKED), [501]),
        (post(b"Transfer-Encoding : chunked"), [400]),
        (post(b"Transfer-Encoding\t: chunked"), [400]),
        (post(b"Transfer-Encoding: \x0bchunked"), [400]),
        (post(b"Transfer-Encoding: chunked\x00"), [400]),
        (post(b"\x0bTransfer-Encoding: chunked"), [400]),
        # Lines.
        (GET.replace(b"\r\n", b"\n"), [400]),
        (GET.replace(b"relay\r\n", b"relay\n"), [400]),
        (post(b"X: y\nTransfer-Encoding: chunked", b"Content-Length: 5", body=b"hello"), [400]),
        (post(b"X: y\rTransfer-Encoding: chunked", b"Content-Length: 5", body=b"hello"), [400]),
        (post(b"X: y", b" Transfer-Encoding: chunked", b"Content-Length: 5", body=b"hello"), [400]),
        (post(b"X: y", b"\tTransfer-Encoding: chunked", b"Content-Length: 5", body=b"hello"), [400]),
        (b"GET /healthz HTTP/1.1\r\n Host: relay\r\n\r\n", [400]),
        (GET[:-2] + b"\n", [400]),
        (b"\n" + GET, [400]),
        (b" " + GET, [400]),
        (GET.replace(b" HTTP", b"  HTTP"), [400]),
        (GET.replace(b"GET ", b"GET\t"), [400]),
        (GET.replace(b"/healthz", b"/\x00"), [400]),
        (GET.replace(b"/healthz", b"/\xff"), [400]),
        (GET.replace(b"relay", b"re\x00lay"), [400]),
        (GET.replace(b"Host", b"Ho st"), [400]),
        (GET.replace(b"Host:", b"Host"), [400]),
        (GET.replace(b"Host:", b":"), [400]),
        # Hosts.
        (GET.replace(b"Host: relay\r\n", b""), [400]),
        (GET.replace(b"Host: relay\r\n", b"Host: a\r\nHost: b\r\n"), [400]),
        (GET.replace(b"relay", b"relay/healthz"), [400]),
        (GET.replace(b"relay", b"user@relay"), [400]),
        (GET.replace(b"relay", b"a, b"), [400]),
        (GET.replace(b"relay", b"relay:80x"), [400]),
        # Methods and versions.
        (GET.replace(b"GET", b"get"), [501]),
        (GET.replace(b"GET", b"Head"), [501]),
        (GET.replace(b"1.1", b"2.0"), [505]),
        (GET.replace(b"1.1", b"0.9"), [505]),
        (GET.replace(b"1.1", b"11"), [400]),
        (GET.replace(b"HTTP", b"http"), [400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [505]),
        (b"GET /healthz\r\n\r\n", [400]),
        (b"EHLO mx.example\r\n\r\n", [400]),
        (bytes.fromhex("16030100a5010000a10303") + GET, [400]),
        # Sizes.
        (GET.replace(b"/healthz", b"/" + b"a" * HEAD_BYTES_MAX), [431]),
        (post(b"X: " + b"a" * HEAD_BYTES_MAX), [431]),
        # Found by `benchmarks.worst_inputs`: each is a match and two objects.
        (GET.replace(b"\r\n\r\n", b"\r\n" + b"A: b\r\n" * FIELDS_MAX + b"\r\n"), [431]),
        (b"GET /" + b"a" * HEAD_BYTES_MAX, [431]),
        # Bodies.
        (post(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"5;a\nb\r\nhello\r\n0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"5\r\nhelloXX0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"5\r\nhello\n0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n"), [400]),
        (post(CHUNKED, body=b"f" * 21 + b"\r\nhello"), [400]),
        (post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\n" + GET), [400]),
        (post(CHUNKED, body=b"5\r\nhello\r\n0\r\nX: y\n\r\n" + GET), [400]),
        (post(CHUNKED, body=b"5\r\nhello\r\n0\r\nX: y\r\n\n" + GET), [400]),
        # What is refused behind a request that is not, ends the connection, and nothing else.
        (GET + GET.replace(b"\r\n", b"\n"), [HEALTH, 400]),
        (post(b"Content-Length: 5", body=b"hello") + post(b"Content-Length: 1", CHUNKED), [sent(), 400]),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes, said: Said) -> None:
    assert both_ways(data) == said


def test_the_host_is_what_an_absolute_target_names() -> None:
    wire = Http1()
    wire.receive_data(b"GET http://one.example:80/ HTTP/1.1\r\nHost: two.example\r\nX: y\r\n\r\n")
    assert isinstance(wire.next_event(), h11.Request)
    assert wire.head is not None
    assert wire.head.headers == [(b"host", b"one.example:80"), (b"x", b"y")]


UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: relay\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("before", "after", "is_websocket"),
    [
        (b"", b"", True),
        (b"/v1/stream", b"http://relay:8025/v1/stream", True),
        (b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n", True),
        # A body would be read as frames.
        (b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", False),
        (b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        # Hypercorn would not accept these.
        (b"GET", b"POST", False),
        (b"HTTP/1.1", b"HTTP/1.0", False),
        (b"-Version: 13", b"-Version: 8", False),
        (b"Sec-WebSocket-Key", b"X-Key", False),
        (b"Connection: keep-alive, Upgrade", b"Connection: keep-alive", False),
        (b"Connection: keep-alive, Upgrade", b"Connection: Upgrade\r\nConnection: close", False),
        (b"Connection: keep-alive, Upgrade", b"Connection: \xff, Upgrade", False),
        (b"Upgrade: WebSocket", b"Upgrade: h2c", False),
        (b"Upgrade: WebSocket", b"Upgrade: websocket, h2c", False),
    ],
)
def test_only_a_handshake_that_can_be_accepted_is_one(
    before: bytes, after: bytes, is_websocket: bool
) -> None:
    assert before in UPGRADE
    wire = Http1()
    wire.receive_data(UPGRADE.replace(before, after, 1))
    assert isinstance(wire.next_event(), h11.Request)
    assert wire.head is not None
    assert wire.head.is_websocket is is_websocket


def test_a_client_that_has_closed_is_done_or_has_broken_off() -> None:
    assert read([b""], eof=True) == []
    assert read([GET], eof=True) == [HEALTH]
    assert read([b"\r\n"], eof=True) == []
    assert read([GET[:-2]], eof=True) == [400]
    assert read([post(b"Content-Length: 5", body=b"hell")], eof=True) == [400]
    assert read([post(b"Content-Length: 5", b"Connection: close", body=b"hello") + b"\r\n"], eof=True) == [
        sent()
    ]


def test_a_connection_that_is_being_closed_reads_no_more() -> None:
    wire = Http1()
    wire.receive_data(GET)
    wire.read_no_more()
    assert wire.next_event() is h11.NEED_DATA


PIECES = [
    b"GET ", b"POST ", b"HEAD ", b"/", b"http://relay/", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n",
    b"Host: relay", b"Content-Length: 5", b"Content-Length: 0", CHUNKED, b"Connection: close", b"Upgrade: websocket",
    b"hello", b"5", b"0", b";a=b", b" ", b"\t", b"\0", b"\xff", b":", b"X: y", GET, post(CHUNKED), UPGRADE,
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"Expect: 100-continue",
]  # fmt: skip


@example([GET, b"\r", GET])
@given(st.lists(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=5), max_size=30))
def test_whatever_comes_is_a_request_or_refused(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert both_ways(data) == read(pieces)
    read([data], eof=True)
