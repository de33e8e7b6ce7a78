"""Bodies of JSON: what is made of them is bounded, and nobody waits while it is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import emails
from relay.api.batch import _BODY as BATCH
from relay.json_body import _without_escapes, outside_strings
from relay.refusals import Refusal
from relay.requests import parse_send
from relay.resend import request_of_email

BEGUN = b'{"from":"a@b.example","to":"c@d.example","subject":"s","text":"t",'
OCTETS = 12 * 1024 * 1024


def filled(before: bytes, each: bytes, after: bytes) -> bytes:
    return before + each * (OCTETS // len(each)) + b"0" + after


def email_of(body: bytes) -> Any:
    return request_of_email(body, "transactional")


def batch_of(body: bytes) -> Any:
    return BATCH.decode_outside(body, 100)


MANY: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "messages: has over 100": (batch_of, filled(b'{"messages":[', b"0,", b"]}")),
    "the body: has over 100": (emails._entries, filled(b"[", b"{},", b"]")),
    "the body holds more than 4000 values": (email_of, filled(BEGUN + b'"template":{"a":[', b"[],", b"]}}")),
    "attachments: content": (
        email_of,
        filled(BEGUN + b'"attachments":[{"filename":"a","content":[', b"256,", b"]}]}"),
    ),
}


@pytest.mark.parametrize("problem", MANY)
def test_millions_of_values_are_refused_before_they_are_made(problem: str) -> None:
    read, body = MANY[problem]
    began = time.thread_time()
    with pytest.raises(Refusal, match=problem):
        read(body)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("name", [b"content", b"conte\\u006et"])
def test_millions_of_octets_are_read_in_short_steps(name: bytes) -> None:
    """Nobody else runs while one call into C does. The worst of it is what is written for a member's file."""
    numbers = b",".join(b"%d" % (number % 256) for number in range(3_000_000))
    body = BEGUN + b'"attachments":[{"%b": [ %b ] ,"filename":"a"}]}' % (name, numbers)
    longest = 0.0
    ended = threading.Event()

    def look() -> None:
        nonlocal longest
        while not ended.is_set():
            before = time.thread_time(), time.perf_counter()
            time.sleep(0.001)
            longest = max(longest, time.perf_counter() - before[1])

    looking = threading.Thread(target=look)
    looking.start()
    try:
        (attachment,) = email_of(body).content.attachments
    finally:
        ended.set()
        looking.join()
    assert attachment.content == bytes(number % 256 for number in range(3_000_000))
    assert longest < 0.3  # of a list of all of them it would be a second


@pytest.mark.parametrize(
    "numbers", [b"[1,]", b"[,1]", b"[1,,2]", b"[256]", b"[-1]", b"[1.5]", b'[1,"2"]', b"[[1]]"]
)
@pytest.mark.parametrize("before", [b"", b"1," * 20_000])
def test_what_is_no_array_of_octets_is_refused(numbers: bytes, before: bytes) -> None:
    with pytest.raises(Refusal):
        email_of(BEGUN + b'"attachments":[{"filename":"a","content":[%b]}]}' % (before + numbers[1:-1]))


@pytest.mark.parametrize("count", [0, 1, 10_000, 16_384, 100_000])
def test_what_stands_in_a_text_is_text(count: int) -> None:
    """Also where it looks like an array of octets, or like the end of a string."""
    text = '\\"content": [' + "7," * count + '7] \\\\"content":[1,2]' + "\\" * count
    given = {**json.loads(BEGUN[:-1] + b"}"), "text": text}
    given["attachments"] = [{"filename": "a", "content": [7] * count}]
    sent = email_of(json.dumps(given).encode())
    assert sent.content.text == text
    assert sent.content.attachments[0].content == b"\7" * count
    assert parse_send(json.dumps({**given, "attachments": None}).encode()).content.text == text


@pytest.mark.parametrize("more", [b"", b'"html":"%b",' % (b"\\\\\\u0022," * 20_000)])
def test_a_key_that_stands_twice_is_seen_in_large_bodies(more: bytes) -> None:
    for twice in (b'"headers":{"X-A":"1","X-A":"2"}', b'"subject":"s"', b'"h\\u0065aders":{},"headers":{}'):
        with pytest.raises(Refusal, match="stands twice"):
            parse_send(BEGUN + more + twice + b"}")
    parse_send(BEGUN + more + b'"headers":{"X-A":"1","X-B":"1"}}')


@given(
    st.recursive(
        st.none() | st.integers() | st.text(st.sampled_from('ab"\\,[]{}:\u00e9\n')),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('a"\\,')), inner),
    ),
    st.booleans(),
)
def test_what_is_outside_of_strings(value: Any, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    pieces = [body[start:end] for start, end in outside_strings(body)]
    assert not any(set(piece) & set(b'"\\ab') for piece in pieces if piece != b"null")
    assert len(_without_escapes(body)) == len(body)
    strings = 0
    at = 0
    for start, end in outside_strings(body):
        if start:
            assert isinstance(msgspec.json.decode(body[at:start]), str)
            strings += 1
        at = end
    assert b"".join(pieces).count(b'"') == 0
    assert at == len(body)
