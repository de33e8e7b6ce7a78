"""What one member may write: so many changes a minute, bytes a day and suppressions; and what a full disk refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.world.process import configure
from tests.world.relay import DOMAIN, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run


def directory_with(tmp_path: Path, **settings: str) -> Path:
    directory = make_directory(tmp_path / "data")
    configure(directory, **settings)
    return directory


async def suppress(world: World, address: str) -> tuple[int, str]:
    status, answer, _ = await world.request("POST", "/v1/suppressions", json={"recipient": address})
    return status, answer.get("code", "")


def test_so_many_writes_a_minute_refused_ones_included(tmp_path: Path) -> None:
    async def main() -> None:
        directory = directory_with(tmp_path, members="writes_per_minute = 3")
        async with open_world(directory) as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            await world.send()
            assert (await world.post_send(subject=None))[0] == 400
            assert await suppress(world, "a@example.com") == (201, "")
            status, answer, headers = await world.request("POST", "/v1/send", data=b"{")
            assert (status, answer["code"], headers["retry-after"]) == (429, "RATE_LIMITED", "20")
            assert await suppress(world, "b@example.com") == (429, "RATE_LIMITED")
            # Reading is none of it, and neither is another member.
            assert (await world.request("GET", "/v1/messages"))[0] == 200
            status, _, _ = await world.request(
                "POST", "/v1/suppressions", json={"recipient": "a@example.com"}, headers=other
            )
            assert status == 201
            await trio.sleep(20)
            assert await suppress(world, "b@example.com") == (201, "")

    run(main)


def test_so_many_bytes_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        directory = directory_with(tmp_path, members="bytes_per_day = 10_000")
        async with open_world(directory) as world:
            await world.send(text="x" * 6_000)
            await trio.sleep(3600)
            mail = {"from": f"you@{DOMAIN}", "to": "a@example.com", "subject": "s", "text": "x" * 6_000}
            status, answer, headers = await world.request("POST", "/v1/send", json=mail)
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            assert "10000 bytes" in answer["error"]
            retry_after = int(headers["retry-after"])
            assert 22 * 3600 < retry_after <= 23 * 3600
            await world.send(text="x" * 2_000)  # what fits passes
            await trio.sleep(retry_after)
            await world.send(text="x" * 6_000)

    run(main)


def test_so_many_suppressions_and_clicks_always_find_room(tmp_path: Path) -> None:
    async def main() -> None:
        directory = directory_with(tmp_path, members="suppressions_per_member_max = 2")
        async with open_world(directory) as world:
            assert await suppress(world, "a@example.com") == (201, "")
            assert await suppress(world, "b@example.com") == (201, "")
            assert await suppress(world, "c@example.com") == (409, "CONFLICT")
            assert await suppress(world, "a@example.com") == (200, "")
            await world.request("GET", "/v1/suppressions")
            answer = await world.client.delete("/v1/suppressions/a@example.com", headers=world.credentials)
            assert answer.status_code == 204
            assert await suppress(world, "c@example.com") == (201, "")

    run(main)


def test_every_write_of_a_member_asks_for_room_and_delivery_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_world(make_directory(tmp_path / "data")) as world:
            assert await suppress(world, "a@example.com") == (201, "")
            waits = await world.send(to="tempfail-1@example.com")
            await world.until(waits, "deferred")
            monkeypatch.setattr(world.core.space, "_free_bytes", lambda: 10_000)
            for method, path, body in (
                ("POST", "/v1/suppressions", {"recipient": "b@example.com"}),
                ("DELETE", "/v1/suppressions/a@example.com", None),
                ("PUT", "/member/forward-to", {"domain": DOMAIN, "forward_to": "me@example.com"}),
                (
                    "POST",
                    "/v1/send",
                    {"from": f"you@{DOMAIN}", "to": "a@example.net", "subject": "s", "text": "t"},
                ),
            ):
                status, answer, headers = await world.request(method, path, json=body)
                assert (status, answer["code"], headers["retry-after"]) == (503, "QUEUE_FULL", "60"), path
            await world.until_final(waits)

    run(main)


def test_a_send_to_nobody_keeps_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(make_directory(tmp_path / "data")) as world:
            await suppress(world, "a@example.com")
            before = world.core.store.log_bytes()
            status, answer = await world.post_send(to="a@example.com", text="secret " * 10_000)
            assert (status, answer["accepted"]) == (200, [])
            assert world.core.store.log_bytes() - before < 2_000
            accepted = world.events()[-1]
            assert accepted.TYPE == "send.accepted"
            assert len(accepted.body_sha256) == 64
            assert accepted.personal.rejected == [("a@example.com", "manual")]
            assert (accepted.personal.text, accepted.personal.subject, accepted.personal.from_address) == (
                None,
                "",
                "",
            )

    run(main)
