"""`Idempotency-Key`: the first answer again, byte for byte; the key lives in the accepted event (SPEC 1.1)."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.events import MessageQueued, SendAccepted
from tests.world.gate import Gate
from tests.world.relay import DID, OTHER_DID, OTHER_DOMAIN, World, open_world, run

BODY = json.dumps(
    {"from": "you@yourdomain.com", "to": ["a@example.com", "b@example.com"], "subject": "Hello", "text": "Hi"}
).encode()


async def post(world: World, key: str, body: bytes = BODY, **more: str) -> tuple[int, bytes, bool]:
    """Status, the answer's bytes, and whether it was a replay."""
    headers = {**world.credentials, "Content-Type": "application/json", "Idempotency-Key": key, **more}
    answer = await world.client.post("/v1/send", headers=headers, data=body)
    return answer.status_code, await answer.get_data(), answer.headers.get("Idempotent-Replayed") == "true"


def sends(world: World) -> int:
    return sum(isinstance(event, SendAccepted) for event in world.events())


def test_a_replay_is_the_first_answer_byte_for_byte_and_sends_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first = await post(world, "key 1")
            assert first[0] == 200
            assert not first[2]
            for _ in range(3):
                assert await post(world, "key 1") == (200, first[1], True)
            assert (await post(world, "key 2"))[1] != first[1]
            assert sends(world) == 2
            assert sum(isinstance(event, MessageQueued) for event in world.events()) == 4

    run(main)


def test_the_same_key_with_another_body_is_a_conflict_and_another_member_has_keys_of_its_own(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await post(world, "key")
            status, answer, _ = await post(world, "key", BODY + b" ")
            assert (status, json.loads(answer)["code"]) == (422, "IDEMPOTENCY_CONFLICT")
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            body = BODY.replace(b"yourdomain.com", OTHER_DOMAIN.encode())
            assert (await post(world, "key", body, **other))[::2] == (200, False)

    run(main)


def test_two_at_the_same_instant_are_one_send(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answers: list[tuple[int, bytes, bool]] = []

            async def one() -> None:
                answers.append(await post(world, "key"))

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(one)
            assert sends(world) == 1
            assert len({answer for _, answer, _ in answers}) == 1
            assert sorted(replayed for _, _, replayed in answers) == [False] + [True] * 19

    run(main)


def test_a_refused_request_leaves_its_key_unused(tmp_path: Path) -> None:
    async def main() -> None:
        settings = "\n[warming]\ntiers = [ { hour = 2, day = 9 } ]\n"
        async with open_world(tmp_path / "data", settings=settings) as world:
            assert (await post(world, "bad", b"{"))[0] == 400
            assert (await post(world, "bad"))[::2] == (200, False)
            assert (await post(world, "late"))[0] == 429
            # A replay counts nothing and is not limited.
            assert (await post(world, "bad"))[::2] == (200, True)
            await trio.sleep(3600)
            assert (await post(world, "late"))[::2] == (200, False)

    run(main)


def test_it_survives_a_restart_and_a_rebuild(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            first = await post(world, "key")
        shutil.rmtree(tmp_path / "data" / "views")
        async with open_world(tmp_path / "data", enrol=False) as world:
            world.credentials = credentials
            assert await post(world, "key") == (200, first[1], True)

    run(main)


def test_it_is_forgotten_after_24_hours_of_the_logs_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first = await post(world, "key")
            await trio.sleep(24 * 3600 - 1)
            assert await post(world, "key") == (200, first[1], True)
            await trio.sleep(1)
            again = await post(world, "key")
            assert again[::2] == (200, False)
            assert again[1] != first[1]
            assert await post(world, "key") == (200, again[1], True)

    run(main)


def test_a_suspended_member_gets_no_replay(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await post(world, "key")
            await world.command("member_suspend", did=DID)
            status, answer, _ = await post(world, "key")
            assert (status, json.loads(answer)["code"]) == (403, "MEMBER_SUSPENDED")

    run(main)


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
def test_a_bad_key_is_refused_by_name(tmp_path: Path, key: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer, _ = await post(world, key)
            assert (status, json.loads(answer)["code"]) == (400, "INVALID_REQUEST")
            assert "Idempotency-Key" in json.loads(answer)["error"]

    run(main)


def test_a_send_whose_recipients_are_all_suppressed_replays_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for address in ("a@example.com", "b@example.com"):
                status, _, _ = await world.request("POST", "/v1/suppressions", json={"recipient": address})
                assert status == 201
            first = await post(world, "key")
            answer: Any = json.loads(first[1])
            assert first[0] == 200
            assert answer["accepted"] == []
            assert [entry["code"] for entry in answer["rejected"]] == ["RECIPIENT_SUPPRESSED"] * 2
            assert answer["rejected"][0]["error"] == answer["rejected"][0]["reason"]
            assert await post(world, "key") == (200, first[1], True)

    run(main)


def test_a_retry_after_the_disk_stalled_is_the_same_send(tmp_path: Path) -> None:
    """The first answer was a 503 that promised just that."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            gate.shut()
            assert (await post(world, "key"))[0] == 503
            retries: list[tuple[int, bytes, bool]] = []

            async def retry() -> None:
                retries.append(await post(world, "key"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(retry)  # while nobody knows yet
                await trio.sleep(0.5)
                gate.open()
            assert [(status, replayed) for status, _, replayed in retries] == [(200, True)]
            assert sends(world) == 1

    run(main)
