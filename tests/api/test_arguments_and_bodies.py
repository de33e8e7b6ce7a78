"""Nothing that a client writes is silently left out: unknown arguments and fields, keys that stand twice, wrong bodies.

Each refusal names what is wrong and says what to do.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from relay import json_body
from relay.api.request import QUERY_BYTES_MAX
from relay.config_doors import HttpConfig
from relay.refusals import Refusal
from relay.requests import parse_send
from tests.world.relay import DOMAIN, open_world, run

BODY_BYTES_MAX = HttpConfig().send_bytes_max

MAIL: dict[str, Any] = {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v1/messages?recipeint=a@example.com", "did you mean `recipient`?"),
        ("/v1/messages?Status=sent", "did you mean `status`?"),
        ("/v1/messages?since=yesterday", "?since=: there is no such query parameter here"),
        ("/v1/messages?limit=1&limit=2", "?limit=: is given twice"),
        ("/v1/events?curser=26", "did you mean `cursor`?"),
        ("/v1/suppressions?recipient=x", "?recipient=: there is no such query parameter here"),
        ("/v1/messages/1?asof=3", "did you mean `asOf`?"),
        ("/member/status?verbose", "?verbose="),
        ("/healthz?verbose=1", "?verbose="),
        ("/v1/messages?" + "&".join(f"x{number}=1" for number in range(30)), "more than 20 parameters"),
        # Found by `benchmarks.worst_inputs`: each of them is looked at for what stands behind it.
        ("/v1/messages?recipient=" + "%" * QUERY_BYTES_MAX, "query: longer than 4096 bytes"),
    ],
)
def test_an_argument_that_means_nothing_is_refused(tmp_path: Path, path: str, sentence: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer, _ = await world.request("GET", path)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert sentence in answer["error"]

    run(main)


def test_credentials_come_before_arguments(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, answer, _ = await world.request("GET", "/v1/messages?x=1", headers={})
            assert answer["code"] == "AUTH_REQUIRED"

    run(main)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (json.dumps(MAIL)[:-1] + ', "text": "other"}', "text: stands twice"),
        (json.dumps(MAIL)[:-1] + ', "headers": {"X-A": "1", "X-A": "2"}}', "X-A: stands twice"),
        ("\ufeff" + json.dumps(MAIL), "byte order mark"),
        ("", "the body is empty"),
        ("{", "the body is not JSON"),
        ("[]", "the body: expected an object"),
        ({**MAIL, "category": "marketing"}, "category: 'marketing' is none of transactional, login-link, "),
        ({**MAIL, "headers": {"X-B": "1", "X-A": 1}}, "headers.X-A: expected a string, got a number"),
        ({**MAIL, "headers": {"X-A": None}}, "headers.X-A: expected a string"),
        ({**MAIL, "reply_to": "a@example.com"}, "reply_to: there is no such field; write `replyTo`"),
        ({**MAIL, "subjct": "x"}, "subjct: there is no such field; did you mean `subject`?"),
        ({**MAIL, "Subject": "x"}, "did you mean `subject`?"),
        (
            {**MAIL, "template": "welcome"},
            "template: there are no templates; send the text as it is to be read",
        ),
        (
            {**MAIL, "xyzzy": 1},
            "there are from, to, subject, text, html, cc, bcc, replyTo, attachments, calendar, scheduledAt, tag, "
            "metadata, headers, category",
        ),
        ({key: MAIL[key] for key in ("from", "to", "text")}, "subject: is required"),
        ({**MAIL, "to": 5}, "to: expected a string or an array"),
        ({**MAIL, "to": ["a@example.com", 5]}, "to[1]: expected a string, got a number"),
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_refused_in_words(
    tmp_path: Path, body: Any, sentence: str
) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.store.last_seq
            status, answer, _ = await world.request("POST", "/v1/send", data=data)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert sentence in answer["error"], answer["error"]
            assert world.core.store.last_seq == before

    run(main)


def test_suppressions_speak_as_sends_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for data, sentence in (
                (b'{"recipient": "a@example.com", "recipient": "b@example.com"}', "recipient: stands twice"),
                (
                    b'{"recipent": "a@example.com"}',
                    "recipent: there is no such field; did you mean `recipient`?",
                ),
                (b"{}", "recipient: is required"),
                (b'{"recipient": 5}', "recipient: expected a string, got a number"),
            ):
                status, answer, _ = await world.request("POST", "/v1/suppressions", data=data)
                assert (status, answer["code"]) == (400, "INVALID_REQUEST")
                assert sentence in answer["error"], answer["error"]

    run(main)


def test_a_coded_body_is_415(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            headers = {**world.credentials, "Content-Encoding": "gzip"}
            data = gzip.compress(json.dumps(MAIL).encode())
            status, answer, _ = await world.request("POST", "/v1/send", data=data, headers=headers)
            assert (status, answer["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
            assert "not compressed" in answer["error"]
            headers["Content-Encoding"] = "identity"
            status, _, _ = await world.request("POST", "/v1/send", json=MAIL, headers=headers)
            assert status == 200

    run(main)


@pytest.mark.parametrize("field", ["replyTo", "category", "html"])
def test_an_empty_string_in_an_optional_field_is_absent(tmp_path: Path, field: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message = await world.message(await world.send(**{field: ""}))
            assert message["category"] == "bulk"

    run(main)


def _filled(before: str, piece: str, behind: str) -> bytes:
    """A body of a megabyte. `#` in the piece is a number, always another."""
    pieces, size = [], 0
    while size < BODY_BYTES_MAX - 1000:
        pieces.append(piece.replace("#", str(len(pieces))))
        size += len(pieces[-1])
    return (before + "".join(pieces) + behind).encode()


_BEGUN = json.dumps(MAIL).removesuffix("}")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (_filled(f'{_BEGUN},"headers":{{', '"#":1,', '"z":1}}'), "more than 2000 strings"),
        (_filled(f'{_BEGUN},"headers":{{', '"#\\\\":"",', '"z":1}}'), "more than 2000 strings"),
        (_filled(f'{_BEGUN},"headers":{{"X":[', "1,", "1]}}"), "headers.X: expected a string"),
        (_filled(f'{_BEGUN},"replyTo":"","x":[', "1,", "1]}"), "x: there is no such field"),
        (_filled(f'{_BEGUN},"category":"","x":[', "[],", "1]}"), "x: there is no such field"),
        (_filled("[", "1,", "1]"), "the body: expected an object"),
    ],
)
def test_nothing_is_made_of_a_large_body_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, body: bytes, sentence: str
) -> None:
    """Found by `benchmarks.worst_inputs`: half a million objects, made in one go, to say which of them is wrong."""

    def loads(*_: Any, **__: Any) -> Any:
        pytest.fail("all of it was made")

    monkeypatch.setattr(json_body.json, "loads", loads)
    with pytest.raises(Refusal, match=sentence):
        parse_send(body)


def test_a_text_may_have_as_many_quotes_as_it_likes(tmp_path: Path) -> None:
    assert parse_send(json.dumps({**MAIL, "html": '<a b="\\">' * 50_000}).encode()).content.html
