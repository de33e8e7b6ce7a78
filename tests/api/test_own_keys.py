"""`/v1/keys`: a member sees, makes and revokes its keys; and what whoever stole one cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.world.asgi import call
from tests.world.process import configure
from tests.world.relay import DID, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run
from tests.world.stream import Closed, open_stream

PATH = "/v1/keys"


async def make(
    world: World, headers: dict[str, str] | None = None, **body: Any
) -> tuple[str, dict[str, str]]:
    """The id of a new key, and credentials by it."""
    status, answer, _ = await world.request("POST", PATH, json=body, headers=headers)
    assert status == 201, answer
    return answer["keyId"], {"X-Atmos-DID": DID, "Authorization": f"Bearer {answer['apiKey']}"}


async def listed(world: World, headers: dict[str, str] | None = None) -> dict[str, Any]:
    status, answer, _ = await world.request("GET", PATH, headers=headers)
    assert status == 200, answer
    return {key["keyId"]: key for key in answer["keys"]}


async def delete(
    world: World, key_id: str, query: str = "", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    status, answer, _ = await world.request("DELETE", f"{PATH}/{key_id}{query}", headers=headers)
    return status, answer


def test_a_key_is_made_listed_used_and_revoked(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            (first,) = await listed(world)
            status, made, headers = await world.request("POST", PATH, json={"category": "mfa-otp"})
            assert status == 201
            assert headers["cache-control"] == "no-store"
            assert made["apiKey"].startswith("atmos_")
            by_it = {**world.credentials, "Authorization": f"Bearer {made['apiKey']}"}
            status, answer, _ = await world.request(
                "POST",
                "/v1/send",
                headers=by_it,
                json={"from": "you@yourdomain.com", "to": "a@example.com", "subject": "s", "text": "t"},
            )
            assert status == 200
            (accepted,) = answer["accepted"]
            assert (await world.until_final(accepted["messageId"]))["category"] == "mfa-otp"
            key = (await listed(world))[made["keyId"]]
            assert {name: made[name] for name in key if name != "isYours"} == {
                name: value for name, value in key.items() if name != "isYours"
            }
            assert "apiKey" not in key
            assert (key["scope"], key["category"], key["status"]) == ("send", "mfa-otp", "active")
            assert (key["issuedBy"], key["revokedAt"], key["isYours"]) == (first, None, False)
            assert (await listed(world))[first]["isYours"] is True
            async with open_stream(world, credentials=by_it) as stream:
                expected = {"keyId": made["keyId"], "status": "revoked", "made": [], "webhooks": []}
                assert await delete(world, made["keyId"]) == (200, expected)
                with pytest.raises(Closed):
                    await stream.next()
            key = (await listed(world))[made["keyId"]]
            assert key["status"] == "revoked"
            assert key["revokedAt"] >= key["issuedAt"]
            assert (await world.request("GET", "/v1/messages", headers=by_it))[0] == 401
            issued, revoked = [event for event in world.events() if event.TYPE.startswith("key.")][1:]
            assert (getattr(issued, "issued_by", ""), getattr(revoked, "revoked_by", "")) == (first, first)

    run(main)


@pytest.mark.parametrize(
    ("body", "scope", "category"),
    [
        ({}, "full", None),
        ({"scope": None, "category": None}, "full", None),
        ({"scope": "", "category": ""}, "full", None),
        ({"scope": "send"}, "send", None),
        ({"category": "bulk", "scope": "full"}, "full", "bulk"),
    ],
)
def test_what_nobody_said_is_as_at_the_operators_door(
    tmp_path: Path, body: Any, scope: str, category: str | None
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, answer, _ = await world.request("POST", PATH, json=body)
            assert (answer["scope"], answer["category"]) == (scope, category)

    run(main)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"scope": "all"}, "scope: 'all' is none of send, full"),
        ({"category": "marketing"}, "category: 'marketing' is none of transactional, "),
        ({"category": "dsn"}, "category: 'dsn' is none of "),
        ({"scopes": "send"}, "did you mean `scope`?"),
        ([], "the body: "),
        ("", "the body is empty"),
    ],
)
def test_what_is_wrong_is_named_and_makes_no_key(tmp_path: Path, body: Any, named: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            before = world.core.store.last_seq
            data = body if body == "" else json.dumps(body)
            status, answer, _ = await world.request("POST", PATH, data=data)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert named in answer["error"]
            assert world.core.store.last_seq == before

    run(main)


def test_the_key_that_asks_ends_only_where_that_is_said(tmp_path: Path) -> None:
    """Alone, or as one of all that came of another."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            (first,) = await listed(world)
            second, by_second = await make(world)
            for key_id, query in ((second, ""), (first, "?allOfIt=1"), (second, "?allOfIt=1")):
                status, answer = await delete(world, key_id, query, by_second)
                assert (status, answer["code"]) == (409, "CONFLICT")
                assert "?self=1" in answer["error"]
            for query in ("?self=0", "?self=true", "?self=", "?allOfIt=yes"):
                assert (await delete(world, second, query, by_second))[0] == 400
            status, answer = await delete(world, second, "?itself=1", by_second)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert "did you mean `self`?" in answer["error"]
            assert (await listed(world))[second]["status"] == "active"
            assert (await delete(world, second, "?self=1", by_second))[0] == 200
            status, answer, _ = await world.request("GET", PATH, headers=by_second)
            assert (status, answer["code"]) == (401, "AUTH_FAILED")

    run(main)


def test_what_came_of_a_stolen_key_is_named_and_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            stolen, by_stolen = await make(world)
            between, by_between = await make(world, by_stolen)
            hidden, by_hidden = await make(world, by_between, scope="send")
            assert (await delete(world, between, headers=by_stolen))[0] == 200
            status, answer = await delete(world, stolen)
            assert status == 200
            assert [(key["keyId"], key["status"]) for key in answer["made"]] == [(hidden, "active")]
            assert (await world.request("GET", "/v1/messages", headers=by_hidden))[0] == 200
            status, answer = await delete(world, stolen, "?allOfIt=1")
            assert status == 200
            (key,) = answer["made"]
            assert (key["keyId"], key["status"], key["scope"]) == (hidden, "revoked", "send")
            assert key["revokedAt"] is not None
            assert (await world.request("GET", "/v1/messages", headers=by_hidden))[0] == 401
            assert (await delete(world, stolen, "?allOfIt=1"))[1]["code"] == "CONFLICT"

    run(main)


def test_a_request_that_is_under_way_when_its_key_is_revoked_makes_no_key(tmp_path: Path) -> None:
    """Its head was right, and its body is still coming: a thief who keeps such requests open comes out with nothing."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            stolen, by_stolen = await make(world)
            more, revoked = trio.Event(), trio.Event()
            answers: list[int] = []

            async def steal(method: str, path: str, body: bytes) -> None:
                async def receive() -> Any:
                    more.set()
                    await revoked.wait()
                    return {"type": "http.request", "body": body, "more_body": False}

                async def send(message: Any) -> None:
                    if message["type"] == "http.response.start":
                        answers.append(message["status"])

                headers = [(name.lower().encode(), value.encode()) for name, value in by_stolen.items()]
                await world.app(
                    {
                        "type": "http",
                        "method": method,
                        "path": path,
                        "query_string": b"",
                        "headers": headers,
                        "scheme": "http",
                        "client": ("127.0.0.1", 1),
                    },
                    receive,
                    send,
                )

            before = world.core.store.last_seq
            async with trio.open_nursery() as nursery:
                nursery.start_soon(steal, "POST", PATH, b"{}")
                nursery.start_soon(steal, "POST", "/v1/suppressions", b'{"recipient": "a@example.com"}')
                await more.wait()
                assert (await delete(world, stolen, "?allOfIt=1"))[0] == 200
                revoked.set()
            assert answers == [401, 401]
            assert world.core.store.last_seq == before + 1

    run(main)


def test_a_member_has_its_own_keys_and_no_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            (theirs,) = await listed(world, other)
            assert theirs not in await listed(world)
            for key_id in (theirs, "unheard-of", "x" * 2_000, "%00", "atmos_" + "k" * 43):
                status, answer = await delete(world, key_id)
                assert (status, answer["code"]) == (404, "NOT_FOUND")
                assert len(answer["error"]) < 300
            assert (await listed(world, other))[theirs]["status"] == "active"
            await world.command("member_suspend", did=DID)
            assert len(await listed(world)) == 1, "a suspended member may read"
            status, answer, _ = await world.request("POST", PATH, json={})
            assert (status, answer["code"]) == (403, "MEMBER_SUSPENDED")

    run(main)


def test_keys_are_bounded_like_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="writes_per_minute = 12")
        async with open_world(directory) as world:
            keys = [(await make(world))[0] for _ in range(9)]
            status, answer, _ = await world.request("POST", PATH, json={})
            assert (status, answer["code"]) == (409, "CONFLICT")
            assert "10 active keys" in answer["error"]
            with monkeypatch.context() as full:
                full.setattr(world.core.space, "_free_bytes", lambda: 10_000)
                status, answer = await delete(world, keys[0])
                assert (status, answer["code"]) == (503, "QUEUE_FULL")
            assert (await delete(world, keys[0]))[0] == 200
            status, answer = await delete(world, keys[1])
            assert (status, answer["code"]) == (429, "RATE_LIMITED")

    run(main)


def test_many_at_once_are_no_more_than_one_after_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            statuses: list[int] = []

            async def one() -> None:
                status, _ = await call(world.app, "POST", PATH, world.credentials, b"{}")
                statuses.append(status)

            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(one)
            assert sorted(statuses) == [201] * 9 + [409] * 21
            assert len(await listed(world)) == 10

    run(main)


def test_a_member_that_makes_and_revokes_keys_without_end_costs_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for _ in range(120):
                key_id, _ = await make(world)
                await delete(world, key_id)
            keys = await listed(world)
            assert len(keys) == 101
            assert sum(key["status"] == "active" for key in keys.values()) == 1

    run(main)


def test_a_key_is_in_no_log_and_on_no_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            key_id, by_it = await make(world)
            await delete(world, key_id)
            _, page, _ = await world.request("GET", "/v1/events?cursor=0")
            assert {event["type"] for event in page["events"]} == {"member.added", "domain.added"}
            secret = by_it["Authorization"].removeprefix("Bearer ").encode()
            files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
            assert not any(secret in path.read_bytes() for path in files)

    run(main)
