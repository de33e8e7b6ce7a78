"""What a client is told that asked for something else than it wanted: what is wrong, and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from relay.refusals import Refusal
from tests.world.relay import DOMAIN, open_world, run

SEVERAL = "a@example.com, b@example.com"
HANDLE = "is a handle; give the DID that it stands for"

SENDS: list[tuple[dict[str, Any], str]] = [
    ({"replyTo": SEVERAL}, "replyTo: this looks like several addresses; give each its own entry in an array"),
    ({"from": f"a@{DOMAIN}; b@{DOMAIN}"}, "from: this looks like several addresses; give one"),
    ({"to": SEVERAL}, "to: this looks like several addresses; give each its own entry in an array"),
    ({"to": [SEVERAL]}, "to[0]: this looks like several addresses; give each its own entry in an array"),
    ({"from": f"a@news.{DOMAIN}"}, f"{DOMAIN} is, and one below it or above it is another domain"),
    (
        {"category": "marketing"},
        "none of transactional, login-link, password-reset, mfa-otp, verification, bulk",
    ),
    ({"headers": {"X-A": 1}}, "headers.X-A: expected a string"),
    ({"reply_to": "a@example.com"}, "write `replyTo`"),
    ({"subjct": "x"}, "did you mean `subject`?"),
    ({"cc": "a@example.com"}, "list them all in `to`, without cc and bcc"),
]
BODIES = [
    (b"\xef\xbb\xbf{}", "byte order mark"),
    (b"\x1f\x8b\x08", "compressed (gzip); send it as it is"),
    (b"\xff\xfe{\x00", "UTF-16; send UTF-8"),
    (b"", "the body is empty"),
]
QUERIES = [
    ("/v1/messages?recipient=ann+tag@example.com", "write %2B"),
    ("/v1/messages?recipient=+tag@example.com", "write %2B"),
    ("/v1/messages?recipient=ann@example.com,bob@example.com", "several addresses; give one"),
    ("/v1/messages?since=1", "there are after, did, limit, recipient, status"),
    ("/v1/messages?recipeint=a", "did you mean `recipient`?"),
    ("/v1/messages/{}?asOf=2026-01-01T00:00:00+02:00", "write %2B"),
    ("/v1/messages/{}?asOf=yesterday", "or a time that is not to come, like"),
    ("/v1/messages/{}?asof=1", "did you mean `asOf`?"),
]
DIDS = [
    ("alice.bsky.social", HANDLE),
    ("@alice.example", HANDLE),
    ("did:plc:short", "ends in 24 characters of a-z and 2-7"),
    ("did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ", "written in lower case"),
    ("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz", "at:// address"),
    ("did:key:z6Mk", "another method"),
    ("did:web:example.com:user", "a host name in lower case, without port or path"),
    ("ann@example.com", "is not a valid did:plc: or did:web:"),
]


def test_each_says_what_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            mail = {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}
            message_id = await world.send()
            asked: list[tuple[Any, Any, str]] = []
            for fields, sentence in SENDS:
                asked.append((fields, await world.request("POST", "/v1/send", json=mail | fields), sentence))
            for body, sentence in BODIES:
                asked.append((body, await world.request("POST", "/v1/send", data=body), sentence))
            for query, sentence in QUERIES:
                path = query.format(message_id)
                asked.append((path, await world.request("GET", path), sentence))
            for path, fields in (
                ("POST /v1/suppressions", {"recipient": SEVERAL}),
                ("PUT /member/forward-to", {"domain": DOMAIN, "forward_to": SEVERAL}),
            ):
                answer = await world.request(*path.split(" "), json=fields)
                asked.append((path, answer, "this looks like several addresses; give one"))
            for did, sentence in DIDS:
                headers = {**world.credentials, "X-Atmos-DID": did}
                asked.append((did, await world.request("GET", "/v1/messages", headers=headers), sentence))
                with pytest.raises(Refusal, match=re.escape(sentence)):
                    await world.command("member_add", did=did, domains=["a.example"], offline=True)
            for what, (status, answer, _), sentence in asked:
                assert 400 <= status < 500, what
                assert sentence in answer["error"], what
                # Nobody is advised an array that is then refused.
                assert ("array" in answer["error"]) == ("array" in sentence), what

    run(main)


def test_a_plus_is_written_as_it_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="ann+tag@example.com")
            for written in ("ann%2Btag@example.com", quote("ann+tag@example.com")):
                _, answer, _ = await world.request("GET", f"/v1/messages?recipient={written}")
                assert [message["messageId"] for message in answer["messages"]] == [message_id]

    run(main)
