"""Who is told of a domain's bounces: set by the member (`PUT /member/forward-to`) or the operator, checked by both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.events import DomainForwardSet
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run
from tools.cli import cli

OWNER = "owner@elsewhere.example"
PATH = "/member/forward-to"


async def put(world: World, domain: str = DOMAIN, to: Any = OWNER, **more: Any) -> tuple[int, Any]:
    body = {"domain": domain, "forward_to": to, **more}
    status, answer, _ = await world.request("PUT", PATH, json=body)
    return status, answer


async def shown(world: World) -> Any:
    _, answer, _ = await world.request("GET", "/member/status")
    (domain,) = answer["domains"]
    return domain["forward_to"]


def test_a_member_sets_it_and_takes_it_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            assert await shown(world) is None
            expected = {
                "domain": DOMAIN,
                "forward_to": "Büro@xn--bcher-kva.example",
                "forward_confirmed": False,
            }
            assert await put(world, DOMAIN.upper(), "Büro@BÜCHER.example") == (200, expected)
            assert await shown(world) == expected["forward_to"]
            (event,) = [event for event in world.events() if isinstance(event, DomainForwardSet)]
            assert event.key_id is not None
            seq = world.core.store.last_seq
            assert await put(world, to="Büro@bücher.example") == (200, expected)
            assert world.core.store.last_seq == seq, "what is so already is no event"
            for nobody in (None, ""):
                set_to = {"domain": DOMAIN, "forward_to": OWNER, "forward_confirmed": False}
                assert await put(world) == (200, set_to)
                assert await put(world, to=nobody) == (200, set_to | {"forward_to": None})
                assert await shown(world) is None

    run(main)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"domain": DOMAIN}, "forward_to"),
        ({"forward_to": OWNER}, "domain"),
        ({"domain": DOMAIN, "forward_to": 5}, "forward_to"),
        ({"domain": None, "forward_to": OWNER}, "domain"),
        ({"domain": DOMAIN, "forward_to": OWNER, "bcc": OWNER}, "bcc"),
        ({"domain": DOMAIN, "forward_to": "owner"}, "forward_to"),
        ({"domain": DOMAIN, "forward_to": f"Owner <{OWNER}>"}, "forward_to"),
        ({"domain": DOMAIN, "forward_to": f"{OWNER}\r\nBcc: all@example.com"}, "forward_to"),
        ({"domain": "x", "forward_to": OWNER}, "domain"),
        ([], ""),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(tmp_path: Path, body: Any, field: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            status, answer, _ = await world.request("PUT", PATH, json=body)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert field in answer["error"]
            assert world.core.store.last_seq == seq

    run(main)


def test_who_may_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.enrol(OTHER_DID, OTHER_DOMAIN)
            for domain in (OTHER_DOMAIN, "unheard-of.example", f"sub.{DOMAIN}"):
                status, answer = await put(world, domain)
                assert (status, answer["code"]) == (403, "DOMAIN_MISMATCH")
            body = {"domain": DOMAIN, "forward_to": OWNER}
            for headers, expected in (
                ({}, (400, "AUTH_REQUIRED")),
                ({**world.credentials, "Authorization": "Bearer atmos_wrong"}, (401, "AUTH_FAILED")),
            ):
                status, answer, _ = await world.request("PUT", PATH, headers=headers, json=body)
                assert (status, answer["code"]) == expected
            headers = {**world.credentials, "Content-Type": "text/plain"}
            status, answer, _ = await world.request("PUT", PATH, headers=headers, data=json.dumps(body))
            assert (status, answer["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
            status, answer, _ = await world.request("PUT", PATH, data=b" " * (16 * 1024 + 1))
            assert (status, answer["code"]) == (413, "PAYLOAD_TOO_LARGE")
            await world.command("member_suspend", did=DID)
            assert (await put(world))[1]["code"] == "MEMBER_SUSPENDED"
            assert not any(isinstance(event, DomainForwardSet) for event in world.events())

    run(main)


def test_the_operator_sets_it_by_command(tmp_path: Path) -> None:
    directory = str(make_directory(tmp_path / "data"))

    def command(*words: str) -> Any:
        return CliRunner().invoke(cli, [words[0], words[1], directory, *words[2:]])

    command("member", "add", "--offline", "--did", DID, "--domain", DOMAIN)
    command("member", "add", "--offline", "--did", OTHER_DID, "--domain", OTHER_DOMAIN)
    set_forward = ("domain", "set-forward", "--domain", DOMAIN)
    assert json.loads(command(*set_forward, "--to", OWNER, "--json").output) == {
        "did": DID,
        "domain": DOMAIN,
        "forwardTo": OWNER,
        "forwardConfirmed": True,
    }
    rows = json.loads(command("domain", "list", "--json").output)
    assert {row["domain"]: row["forwardTo"] for row in rows} == {DOMAIN: OWNER, OTHER_DOMAIN: None}
    assert command(*set_forward, "--none").output == f"nobody is told of the bounces of {DOMAIN}.\n"
    assert command(*set_forward, "--to", OWNER, "--did", DID).exit_code == 0
    assert command(*set_forward, "--to", "").exit_code == 0
    for words in (
        (*set_forward, "--to", "owner"),
        (*set_forward, "--to", OWNER, "--did", OTHER_DID),
        ("domain", "set-forward", "--domain", "unheard-of.example", "--to", OWNER),
    ):
        assert command(*words).exit_code == 1
    assert command(*set_forward).exit_code == 2
    assert command(*set_forward, "--to", OWNER, "--none").exit_code == 2


def test_a_dsn_is_part_of_the_story_that_log_cat_tells(tmp_path: Path) -> None:
    found: dict[str, int] = {}

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to=OWNER)
            found["original"] = await world.send(to="permfail@example.com")
            await world.mx.wait_messages(1)
            _, page, _ = await world.request("GET", "/v1/messages")
            found["dsn"] = page["messages"][0]["messageId"]
            await world.until_final(found["dsn"])

    run(main)

    def types(message_id: int) -> list[str]:
        words = ["log", "cat", str(tmp_path / "data"), "--message", str(message_id), "--json"]
        return [json.loads(line)["type"] for line in CliRunner().invoke(cli, words).output.splitlines()]

    assert types(found["original"]) == [
        "send.accepted",
        "message.queued",
        "attempt.started",
        "message.bounced",
        "dsn.queued",
        "recipient.suppressed",
    ]
    assert types(found["dsn"]) == ["dsn.queued", "attempt.started", "message.sent"]
    lines = CliRunner().invoke(cli, ["log", "cat", str(tmp_path / "data")]).output
    assert f"{OWNER} is told of the bounces of {DOMAIN}" in lines
    assert f"it tells of the bounce of message {found['original']}" in lines
