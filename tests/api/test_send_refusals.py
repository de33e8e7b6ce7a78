"""SPEC 1.1: every refusal of `POST /v1/send` has its code, comes in its order, and leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.config_doors import HttpConfig
from tests.world.relay import DID, DOMAIN, OTHER_DID, World, make_directory, open_world, run

BODY_BYTES_MAX = HttpConfig().send_bytes_max

MAIL = {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Hello", "text": "Hi"}


async def refused(world: World, status: int, code: str, **request: Any) -> str:
    """Send what is to be refused; the error's sentence. Nothing may have changed."""
    before = world.core.store.last_seq
    request.setdefault("headers", world.credentials)
    if not {"json", "data"} & request.keys():
        request["json"] = MAIL
    answered, answer, _ = await world.request("POST", "/v1/send", **request)
    assert (answered, answer["code"]) == (status, code), answer
    assert answer.keys() == {"error", "code"}
    assert len(json.dumps(answer)) < 16_384
    new = [event.TYPE for event in world.events()[before:]]
    assert not [name for name in new if name not in ("attempt.started", "message.sent")]
    sentence: str = answer["error"]
    return sentence


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}


def test_credentials(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            good = world.credentials
            await refused(world, 400, "AUTH_REQUIRED", headers=without(good, "X-Atmos-DID"))
            await refused(world, 400, "AUTH_REQUIRED", headers=without(good, "Authorization"))
            bare_key = good["Authorization"].removeprefix("Bearer ")
            await refused(world, 400, "AUTH_REQUIRED", headers={**good, "Authorization": bare_key})
            await refused(world, 400, "AUTH_REQUIRED", headers={**good, "Authorization": "Basic YTpi"})
            for did in ("did:plc:short", "did:web:", "did:key:z6Mk", "hello", DID + "a"):
                await refused(world, 400, "INVALID_DID", headers={**good, "X-Atmos-DID": did})
            await refused(world, 401, "AUTH_FAILED", headers={**good, "X-Atmos-DID": OTHER_DID})
            await refused(
                world, 401, "AUTH_FAILED", headers={**good, "X-Atmos-DID": "did:web:nobody.example"}
            )
            wrong = {**good, "Authorization": "Bearer atmos_" + "x" * 43}
            await refused(world, 401, "AUTH_FAILED", headers=wrong)
            # Authentication comes before the body is looked at.
            await refused(world, 401, "AUTH_FAILED", headers=wrong, data=b"x" * (BODY_BYTES_MAX + 1))

    run(main)


def test_the_did_as_a_query_parameter_and_headers_in_any_case(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            authorization = {"AUTHORIZATION": world.credentials["Authorization"].replace("Bearer", "bearer")}
            status, _, _ = await world.request(
                "POST", f"/v1/send?did={DID}", headers=authorization, json=MAIL
            )
            assert status == 200
            # The header wins.
            both = {**world.credentials, "X-ATMOS-DID": OTHER_DID}
            del both["X-Atmos-DID"]
            status, answer, _ = await world.request("POST", f"/v1/send?did={DID}", headers=both, json=MAIL)
            assert answer["code"] == "AUTH_FAILED"

    run(main)


def test_a_revoked_key_is_refused_and_its_successor_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            (first,) = await world.command("key_list", did=DID)
            issued = await world.command("key_issue", did=DID)
            second = {**world.credentials, "Authorization": f"Bearer {issued['apiKey']}"}
            for headers in (world.credentials, second):  # both are good: rotation without downtime
                status, _, _ = await world.request("POST", "/v1/send", headers=headers, json=MAIL)
                assert status == 200
            await world.command("key_revoke", did=DID, key_id=first["keyId"])
            await refused(world, 401, "AUTH_FAILED")
            world.credentials = second
            await world.until_final(await world.send())

    run(main)


INVALID: list[tuple[str, dict[str, Any]]] = [
    ("from", {"from": None}),
    ("from", {"from": 7}),
    ("from", {"from": "you"}),
    ("from", {"from": f"you@{DOMAIN}\r\nBcc: x@example.com"}),
    ("from", {"from": f'"a" <you@{DOMAIN}>, b@{DOMAIN}'}),
    ("to", {"to": []}),
    ("to", {"to": ""}),
    ("to", {"to": {"a": 1}}),
    ("to[1]", {"to": ["a@example.com", 2]}),
    ("to[1]", {"to": ["a@example.com", "b@localhost"]}),
    ("to", {"to": "a@[127.0.0.1]"}),
    ("to", {"to": "a@example.com."}),
    ("to", {"to": '"a b"@example.com'}),
    ("to", {"to": "x" * 65 + "@example.com"}),
    ("to", {"to": f"{'n' * 129} <a@example.com>"}),
    ("to", {"to": "a@example.com\0"}),
    ("to", {"to": [f"a{number}@example.com" for number in range(51)]}),
    ("subject", {"subject": None}),
    ("subject", {"subject": "a\nBcc: x@example.com"}),
    ("subject", {"subject": "a\u2028b"}),
    ("subject", {"subject": "a\x85b"}),
    ("text", {"text": ""}),
    ("text", {"text": None}),
    ("text", {"text": "a\0b"}),
    ("html", {"text": None, "html": "\0"}),
    ("text", {"text": ["a"]}),
    ("replyTo", {"replyTo": "nobody"}),
    ("replyTo[1]", {"replyTo": ["a@example.com", "nobody"]}),
    ("headers", {"headers": []}),
    ("headers", {"headers": {"X-A": 1}}),
    ("X-A", {"headers": {"X-A": "a\r\nb"}}),
    ("X-A", {"headers": {"X-A": "a", "x-a": "b"}}),
    ("X-A", {"headers": {"X-A": "x" * 999}}),
    ("headers", {"headers": {f"X-{number}": "a" for number in range(51)}}),
    ("Message-ID", {"headers": {"Message-ID": "no brackets"}}),
    ("category", {"category": "newsletter"}),
    ("category", {"category": "Bulk"}),
    ("cc", {"cc": "nobody"}),
    ("cc", {"cc": "a@example.com", "category": "bulk"}),
    ("bcc", {"bcc": {"a": 1}}),
    ("tag", {"tag": "two words"}),
    ("metadata", {"metadata": ["a"]}),
]


@pytest.mark.parametrize(
    ("names", "fields"), INVALID, ids=[f"{name}-{n}" for n, (name, _) in enumerate(INVALID)]
)
def test_a_bad_field_is_named(tmp_path: Path, names: str, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sentence = await refused(world, 400, "INVALID_REQUEST", json={**MAIL, **fields})
            assert names.lower() in sentence.lower()

    run(main)


RESERVED = (
    *("From", "To", "Cc", "Bcc", "Subject", "Reply-To", "Sender", "Date", "MIME-Version", "Content-Type"),
    *("content-transfer-encoding", "Return-Path", "Received", "DKIM-Signature", "ARC-Seal", "Feedback-ID"),
    *("Authentication-Results", "X-Atmos-Member-Did", "x-atmos-anything"),
)


def test_reserved_headers_are_refused_by_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for name in RESERVED:
                mail = {**MAIL, "headers": {name: "x"}}
                assert name in await refused(world, 400, "INVALID_REQUEST", json=mail)

    run(main)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b'{"from":"\\ud800"}',
        b"[" * 100_000,
        json.dumps(MAIL).encode() + b"x",
        json.dumps(MAIL).encode("utf-16"),
    ],
)
def test_what_is_not_json_is_refused(tmp_path: Path, body: bytes) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            headers = {**world.credentials, "Content-Type": "application/json"}
            await refused(world, 400, "INVALID_REQUEST", headers=headers, data=body)

    run(main)


def test_a_header_given_twice_in_the_json_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            body = json.dumps({**MAIL, "headers": {}}).replace("{}", '{"X-A":"1","X-A":"2"}')
            headers = {**world.credentials, "Content-Type": "application/json"}
            assert "X-A" in await refused(world, 400, "INVALID_REQUEST", headers=headers, data=body.encode())

    run(main)


def test_content_types(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            body = json.dumps(MAIL).encode()
            for wrong in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
                headers = {**world.credentials, "Content-Type": wrong}
                await refused(world, 415, "UNSUPPORTED_MEDIA_TYPE", headers=headers, data=body)
            for right in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON"):
                headers = {**world.credentials, "Content-Type": right}
                status, _, _ = await world.request("POST", "/v1/send", headers=headers, data=body)
                assert status == 200
            status, _, _ = await world.request("POST", "/v1/send", data=body)  # none at all is taken as JSON
            assert status == 200

    run(main)


def test_a_body_of_just_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            empty = json.dumps({**MAIL, "text": ""}).encode()
            body = json.dumps({**MAIL, "text": "x" * (BODY_BYTES_MAX - len(empty))}).encode()
            assert len(body) == BODY_BYTES_MAX
            status, _, _ = await world.request("POST", "/v1/send", data=body)
            assert status == 200
            await refused(world, 413, "PAYLOAD_TOO_LARGE", data=body + b" ")

    run(main)


def test_the_from_domain_must_be_enrolled_exactly_and_by_this_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.enrol(OTHER_DID, "other.example")
            for domain in ("other.example", f"mail.{DOMAIN}", "example", "relay.example", f"x{DOMAIN}"):
                if "." in domain:
                    mail = {**MAIL, "from": f"you@{domain}"}
                    assert domain in await refused(world, 403, "DOMAIN_MISMATCH", json=mail)
            mail = {**MAIL, "from": f"You <you@{DOMAIN.upper()}>"}
            status, _, _ = await world.request("POST", "/v1/send", json=mail)
            assert status == 200

    run(main)


def test_an_unverified_domain_may_not_send(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        config = directory / "relay.toml"
        config.write_text(
            config.read_text().replace("require_verified_domains = false", "require_verified_domains = true")
        )
        async with open_world(directory) as world:
            error = await refused(world, 403, "DOMAIN_UNVERIFIED")
            assert "not verified yet" in error
            assert "first TXT _atmos-verify.yourdomain.com" in error

    run(main)


def test_null_in_an_optional_field_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            nothing = dict.fromkeys(("html", "replyTo", "headers", "category"))
            status, answer, _ = await world.request("POST", "/v1/send", json={**MAIL, **nothing})
            assert status == 200
            message = await world.until_final(answer["accepted"][0]["messageId"])
            assert message["category"] == "bulk"

    run(main)


def test_recipients_are_echoed_as_given_and_each_is_one_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            given = ["Zoë <zoe@EXAMPLE.com>", "zoe@example.com", "jörg@bücher.example", "A@example.com"]
            status, answer = await world.post_send(to=given)
            assert status == 200
            assert answer["rejected"] == []
            # The second is the first again, in normal form.
            assert [accepted["recipient"] for accepted in answer["accepted"]] == [
                given[0],
                given[2],
                given[3],
            ]
            ids = [accepted["messageId"] for accepted in answer["accepted"]]
            assert ids == sorted(set(ids))
            for message_id in ids:
                assert (await world.until_final(message_id))["status"] == "sent"
            assert sorted(message.rcpt_to for message in world.mx.messages) == [
                ("A@example.com",),
                ("jörg@xn--bcher-kva.example",),
                ("zoe@example.com",),
            ]

    run(main)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/v1/send", 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", "/v1/send", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/v1/messages", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/v1/send/", 404, "NOT_FOUND"),
        ("POST", "/v1//send", 404, "NOT_FOUND"),
        ("GET", "/v1/messages/1/", 404, "NOT_FOUND"),
        ("GET", "/static/x", 404, "NOT_FOUND"),
    ],
)
def test_errors_of_the_paths_are_json_too(
    tmp_path: Path, method: str, path: str, status: int, code: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", enrol=False) as world:
            answered, answer, headers = await world.request(method, path, headers={})
            assert (answered, answer["code"]) == (status, code)
            if status == 405:
                assert headers["allow"]

    run(main)
