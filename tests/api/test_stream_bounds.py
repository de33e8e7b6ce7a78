"""The status stream: who may read it, and what it may cost."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.events import MessageQueued
from relay.stream_places import TICKET_SECONDS
from relay.streams import TICKETS_PER_MEMBER_MAX
from tests.world.relay import DID, OTHER_DID, OTHER_DOMAIN, make_directory, open_world, run
from tests.world.stream import Closed, Refused, open_stream
from tests.world.streaming import events, expected, nothing_comes

# ------------------------------------------------------------------------------------------------ who may read


def test_who_has_no_credentials_gets_no_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            wrong = {"X-Atmos-DID": DID, "Authorization": "Bearer atmos_wrong"}
            for credentials, status, code in (
                ({}, 400, "AUTH_REQUIRED"),
                ({"X-Atmos-DID": "did:x", "Authorization": "Bearer x"}, 400, "INVALID_DID"),
                (wrong, 401, "AUTH_FAILED"),
            ):
                with pytest.raises(Refused) as refused:
                    async with open_stream(world, credentials=credentials):
                        pass
                assert (refused.value.status, refused.value.answer["code"]) == (status, code)
                assert refused.value.headers["content-type"] == "application/json"
                for method, path in (
                    ("GET", "/v1/events"),
                    ("POST", "/v1/stream/ticket"),
                    ("GET", "/v1/stream"),
                ):
                    found, answer, _ = await world.request(method, path, headers=credentials)
                    assert (found, answer["code"]) == (status, code)
            status, answer, _ = await world.request("GET", "/v1/stream")
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert "/v1/events" in answer["error"]
            # The DID may be in the query, as everywhere.
            key = {"Authorization": world.credentials["Authorization"]}
            async with open_stream(world, credentials=key, did=DID, cursor=0) as stream:
                assert (await stream.next())["type"] == "member.added"

    run(main)


def test_a_suspended_member_may_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_stream(world) as stream:
            await world.command("member_suspend", did=DID)
            assert (await stream.next())["type"] == "member.suspended"
            await nothing_comes(stream)
            async with open_stream(world, cursor=0) as another:
                assert (await another.next())["type"] == "member.added"
            assert (await events(world))["events"][-1]["type"] == "member.suspended"

    run(main)


def test_a_revoked_key_ends_its_streams_and_no_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            second = await world.command("key_issue", did=DID)
            credentials = {**world.credentials, "Authorization": f"Bearer {second['apiKey']}"}
            _, ticket, _ = await world.request("POST", "/v1/stream/ticket", headers=credentials)
            async with AsyncExitStack() as stack:
                by_first = await stack.enter_async_context(open_stream(world))
                by_second = await stack.enter_async_context(open_stream(world, credentials=credentials))
                in_the_middle = await stack.enter_async_context(
                    open_stream(world, credentials=credentials, cursor=0)
                )
                at_the_last = await stack.enter_async_context(
                    open_stream(world, credentials=credentials, cursor=1)
                )
                await wait_all_tasks_blocked()
                await world.command("key_revoke", did=DID, key_id=second["keyId"])
                with pytest.raises(Closed) as closed:
                    await by_second.next()
                assert closed.value.code == 1008
                assert "revoked" in closed.value.reason
                await in_the_middle.next()  # it was on its way
                with pytest.raises(Closed) as closed:
                    await in_the_middle.next()
                assert closed.value.code == 1008
                assert (await at_the_last.next())["type"] == "domain.added"
                with pytest.raises(Closed):
                    await at_the_last.next()
                await world.send()
                assert (await by_first.next())["type"] == "message.queued"
            with pytest.raises(Refused) as refused:
                async with open_stream(world, credentials={}, ticket=ticket["ticket"]):
                    pass
            assert refused.value.status == 401

    run(main)


def test_a_ticket_opens_one_stream_within_a_minute(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:

            async def ticket() -> str:
                status, answer, _ = await world.request("POST", "/v1/stream/ticket")
                assert status == 200
                assert answer.keys() == {"ticket", "expiresAt"}
                value: str = answer["ticket"]
                return value

            async def refused(value: str) -> Any:
                with pytest.raises(Refused) as refused:
                    async with open_stream(world, credentials={}, ticket=value):
                        pass
                return refused.value.answer["code"]

            good = await ticket()
            await trio.sleep(TICKET_SECONDS - 1)
            async with open_stream(world, credentials={}, ticket=good, cursor=0) as stream:
                assert (await stream.next())["type"] == "member.added"
            assert await refused(good) == "AUTH_FAILED"
            late = await ticket()
            await trio.sleep(TICKET_SECONDS)
            assert await refused(late) == "AUTH_FAILED"
            assert await refused("x") == "AUTH_FAILED"
            # It is good for a stream and for nothing else.
            status, answer, _ = await world.request("GET", f"/v1/events?ticket={await ticket()}", headers={})
            assert (status, answer["code"]) == (400, "AUTH_REQUIRED")

            for _ in range(TICKETS_PER_MEMBER_MAX - 1):
                await ticket()
            status, answer, headers = await world.request("POST", "/v1/stream/ticket")
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            await trio.sleep(float(headers["retry-after"]))
            await ticket()

    run(main)


# ------------------------------------------------------------------------------------------------ bounds


def test_no_more_streams_than_allowed(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        config = directory / "relay.toml"
        limits = "[http]\nstreams_max = 3\nstreams_per_member_max = 2\n"
        config.write_text(config.read_text().replace("[http]\n", limits))
        async with open_world(directory) as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            async with AsyncExitStack() as stack:

                async def refused(credentials: dict[str, str]) -> Refused:
                    with pytest.raises(Refused) as refused:
                        async with open_stream(world, credentials=credentials):
                            pass
                    return refused.value

                for _ in range(2):
                    await stack.enter_async_context(open_stream(world))
                refusal = await refused(world.credentials)
                assert (refusal.status, refusal.answer["code"]) == (429, "RATE_LIMITED")
                assert int(refusal.headers["retry-after"]) > 0
                await stack.enter_async_context(open_stream(world, credentials=other))
                refusal = await refused(other)
                assert (refusal.status, refusal.answer["code"]) == (503, "TEMPORARILY_UNAVAILABLE")
                assert int(refusal.headers["retry-after"]) > 0
                assert world.core.streams.count == 3
            await wait_all_tasks_blocked()
            assert world.core.streams.count == 0
            async with open_stream(world):  # a refused one holds no place
                assert world.core.streams.count == 1

    run(main)


def test_a_reader_that_does_not_read_holds_up_nobody_and_gets_everything_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_stream(world, cursor=0) as slow:
            async with open_stream(world, cursor=0) as quick:
                for _ in range(3):
                    to = [f"friend{number}@example.com" for number in range(50)]
                    _, answer = await world.post_send(to=to, category="transactional")
                    for accepted in answer["accepted"]:
                        await world.until_final(accepted["messageId"])
                seen = await quick.take(len(expected(world)))
                assert [event["seq"] for event in seen] == expected(world)
            assert await slow.take(len(seen)) == seen

    run(main)


def test_what_a_reader_says_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_stream(world) as stream:
            for _ in range(100):
                await stream.say("hello")
            await world.send()
            assert (await stream.next())["type"] == "message.queued"

    run(main)


def test_an_idle_stream_waits_for_nothing_but_its_members_events(tmp_path: Path) -> None:
    """Of another member's events it does not hear, and an hour of quiet wakes it never."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            async with open_stream(world, credentials=other):
                (subscriber,) = world.core.streams._open[OTHER_DID]
                woken = 0

                def wake() -> None:
                    nonlocal woken
                    woken += 1

                subscriber.wake = wake
                await world.until_final(await world.send())
                assert woken == 0
                await world.command("member_suspend", did=OTHER_DID)
                assert woken == 1

    run(main)


def test_stopping_tells_the_readers_and_waits_for_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", stop=False) as world, open_stream(world) as stream:
            await wait_all_tasks_blocked()
            await world.relay.stop()
            with pytest.raises(Closed) as closed:
                await stream.next()
            assert closed.value.code == 1001
            with pytest.raises(Refused) as refused:
                async with open_stream(world):
                    pass
            assert refused.value.status == 503

    run(main)


def test_what_retention_removed_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send()
            await world.until_final(message_id)
            store = world.core.store
            whole = store.get

            def without_payload(seq: int) -> Any:
                recorded = whole(seq)
                event = recorded.event
                fields = {name: getattr(event, name) for name in event.__struct_fields__}
                return recorded._replace(event=type(event)(**{**fields, "personal": None}))

            monkeypatch.setattr(store, "get", without_payload)
            seen = (await events(world, query=f"?cursor={message_id - 1}"))["events"]
            assert isinstance(whole(message_id).event, MessageQueued)
            assert [event["recipient"] for event in seen] == [None, None, None]
            assert seen[-1]["reply"]["text"] is None

    run(main)
