"""The worst requests: heads, queries, keys, and JSON bodies. See `benchmarks.worst_inputs`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

import h11
import trio

from benchmarks.search import Frame
from benchmarks.worst_kinds import Kind, Work, at_once
from relay.api.http1 import HEAD_BYTES_MAX, Http1
from relay.api.request import Request
from relay.api.send import idempotency_key
from relay.config_doors import HttpConfig
from relay.heavy_work import HeavyWork
from relay.refusals import Refusal
from relay.requests import parse_send
from tests.world.relay import DOMAIN

BODY_BYTES_MAX = HttpConfig().send_bytes_max

#: As they stand in JSON.
LETTERS = (
    "a",
    " ",
    "\\t",
    "\\n",
    "\\r",
    "é",
    "€",
    "😀",
    "From ",
    "=",
    ".",
    "<",
    "\\u00e9",
    "\\ud83d\\ude00",
    "a a",
)
_FROM_TO = f'"from":"you@{DOMAIN}","to":"friend@example.com"'


def _head(text: str) -> None:
    connection = Http1()
    with suppress(h11.RemoteProtocolError):
        connection.receive_data(text.encode("latin-1", "replace"))
        if isinstance(connection.next_event(), h11.Request):
            assert connection.head is not None
            connection.next_event()


def _request(query: str = "", headers: Sequence[tuple[bytes, bytes]] = ()) -> Request:
    scope = {"method": "GET", "headers": headers, "query_string": query.encode("latin-1", "replace")}
    return Request(scope, trio.sleep_forever, legal_arguments=("status", "recipient", "after", "limit"))


def _query(text: str) -> None:
    with suppress(Refusal):
        request = _request(text)
        request.check_arguments()
        request.argument("status")


def _key(text: str) -> None:
    with suppress(Refusal):
        idempotency_key(_request(headers=[(b"idempotency-key", text.encode("latin-1", "replace"))]))


def _body(text: str) -> None:
    with suppress(Refusal):
        parse_send(text.encode())


def read(heavy: HeavyWork, text: str) -> Work:
    """As `POST /v1/send` reads a body."""
    body = text.encode()

    async def work() -> None:
        with suppress(Refusal):
            async with heavy.turn("a", len(body)) as do:
                await do(hashlib.sha256, body)
                await do(parse_send, body)

    return work


def of_requests(heavy: HeavyWork) -> Iterator[Kind]:
    yield Kind(
        "request head",
        (
            Frame(
                "POST /v1/send HTTP/1.1\r\nHost: relay\r\n",
                ("a", "A#: b\r\n", "a: ", ":", " ", "\t", ","),
                "\r\n\r\n",
            ),
            Frame(
                "GET /",
                ("a", "%41", "/", "?", "&a=", "../", ";", "http://a:1"),
                " HTTP/1.1\r\nHost: relay\r\n\r\n",
            ),
            Frame("GET / HTTP/1.1\r\nHost: ", ("a", ".", "[", ":", "%", "a."), "\r\n\r\n"),
            Frame("GET / HTTP/1.1\r\nTransfer-Encoding: ", ("chunked", ",", " ", "a"), "\r\n\r\n"),
            Frame("", ("\r\n", "\n", "\r", " ", "A", "\n\n"), "GET / HTTP/1.1\r\n\r\n"),
        ),
        HEAD_BYTES_MAX,
        _head,
        at_once(_head),
        crowd=8,
    )
    yield Kind(
        "query",
        (
            Frame("", ("a", "a#=b&", "&", "=", "%41", "%", "+", "recipient", "_", ";", "status"), ""),
            Frame("recipient=", ("a", "@", "%40", ".", "%C3%A9", "<", "%22"), ""),
            Frame("", ("statu", "sttaus#", "a#&", "limit", "after"), "=1"),
        ),
        HEAD_BYTES_MAX,
        _query,
        at_once(_query),
        crowd=8,
    )
    yield Kind(
        "idempotency key",
        (Frame("", ("a", " ", "~", "é", "\0", "aa "), ""),),
        HEAD_BYTES_MAX,
        _key,
        at_once(_key),
        crowd=8,
    )
    numbers = ("0", "1", "-1", "1e9", "[", "]", "{", "}", ",", '"a":', "true", "null", " ", "\n")
    frames = (
        Frame(f'{{{_FROM_TO},"subject":"s","text":"', LETTERS, '"}'),
        Frame(f'{{{_FROM_TO},"text":"t","subject":"', LETTERS, '"}'),
        Frame(
            f'{{{_FROM_TO},"subject":"s","text":"t","headers":{{',
            ('"X-#":"a",', '"X-#":"é",', '"#":1,'),
            '"Z":"a"}}',
        ),
        Frame(f'{{{_FROM_TO},"subject":"s","text":"t","headers":{{', ('"X-#":"a",',), '"Z":1}}'),
        Frame("{", ('"#":1,', '"texr":1,', '"a":[],', '"#":"",', '"a":{"a":1},'), '"text":"t"}'),
        Frame(
            f'{{"from":"you@{DOMAIN}","subject":"s","text":"t","to":[',
            ('"a#@example.com",', '"a",', "[", '"é#@é.é",'),
            '"b@example.com"]}',
        ),
        Frame(f'{{{_FROM_TO},"subject":"s","text":', (*numbers, '"a",', "[1,", '{"a":'), "}"),
        Frame(f'{{{_FROM_TO},"subject":"","replyTo":"","category":"","text":"', LETTERS, '"}'),
        Frame("", (*numbers, '"', "\ufeff", "é"), ""),
    )
    yield Kind("JSON body", frames, BODY_BYTES_MAX, _body, lambda text: read(heavy, text), crowd=4)
