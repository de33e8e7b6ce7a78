"""`/v1/stream` and `/v1/events`: each of a member's events once, in the order of the log, and nobody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from relay.api.stream import PAGE_EVENTS
from relay.events import EVENT_TYPES
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run
from tests.world.stream import Closed, Refused, open_stream
from tests.world.streaming import events, expected, nothing_comes

# ------------------------------------------------------------------------------------------------ what is streamed


def test_the_story_of_a_mail(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_stream(world) as stream:
            message_id = await world.send(to="tempfail@example.com")
            queued, started, deferred = await stream.take(3)
            assert queued == {
                "seq": message_id,
                "time": queued["time"],
                "type": "message.queued",
                "messageId": message_id,
                "sendId": message_id - 1,
                "recipient": "tempfail@example.com",
                "status": "queued",
            }
            assert started["type"] == "attempt.started"
            assert (deferred["type"], deferred["status"]) == ("message.deferred", "deferred")
            assert deferred["recipient"] == "tempfail@example.com"
            assert deferred["reply"]["code"] == 451
            # The same objects as in the timeline and in /v1/events.
            timeline = (await world.message(message_id))["timeline"]
            more = {
                "messageId": message_id,
                "sendId": message_id - 1,
                "recipient": "tempfail@example.com",
            }
            assert [entry | more for entry in timeline] == [queued, started, deferred]
            page = await events(world, query=f"?cursor={message_id - 1}")
            assert page == {"events": [queued, started, deferred], "cursor": deferred["seq"]}

    run(main)


def test_what_is_recorded_about_a_member_its_domains_and_its_suppressions(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.request(
                "POST", "/v1/suppressions", json={"recipient": "a@b.example", "reason": "asked"}
            )
            await world.client.delete("/v1/suppressions/a@b.example", headers=world.credentials)
            await world.request(
                "PUT", "/member/forward-to", json={"domain": DOMAIN, "forward_to": "me@b.example"}
            )
            await world.request("PUT", "/member/forward-to", json={"domain": DOMAIN, "forward_to": None})
            await world.command("domain_pause", did=DID, domain=DOMAIN, reason="ask us")
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            await world.command("member_suspend", did=DID, reason="ask us")
            await world.command("member_resume", did=DID)
            await world.command("member_limits", did=DID, hour=1, day=2)
            await world.command("member_set_handle", did=DID, handle="mira.yourdomain.com", offline=True)
            await world.command("member_set_handle", did=DID, handle="")
            seen = (await events(world))["events"]
            assert [without_place(event) for event in seen] == [
                {"type": "member.added", "status": "active"},
                {"type": "domain.added", "domain": DOMAIN},
                {
                    "type": "recipient.suppressed",
                    "reason": "manual",
                    "recipient": "a@b.example",
                    "note": "asked",
                },
                {"type": "recipient.unsuppressed", "recipient": "a@b.example"},
                {
                    "type": "domain.forward_set",
                    "domain": DOMAIN,
                    "forwardTo": "me@b.example",
                    "forwardConfirmed": False,
                    "keyId": seen[4]["keyId"],
                },
                {
                    "type": "domain.forward_set",
                    "domain": DOMAIN,
                    "forwardTo": None,
                    "keyId": seen[4]["keyId"],
                },
                {"type": "domain.paused", "domain": DOMAIN, "status": "paused", "reason": "ask us"},
                {"type": "domain.resumed", "domain": DOMAIN, "status": "active"},
                {"type": "member.suspended", "status": "suspended", "reason": "ask us"},
                {"type": "member.resumed", "status": "active"},
                {"type": "member.limits_set", "hour": 1, "day": 2},
                {"type": "member.handle_set", "handle": "mira.yourdomain.com", "handleProved": False},
                {"type": "member.handle_lost", "handle": "mira.yourdomain.com", "because": "operator"},
            ]

    run(main)


def without_place(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("seq", "time")}


def test_every_kind_of_event_is_streamed_or_left_out_on_purpose() -> None:
    left_out = {"send.accepted", "key.issued", "key.revoked", "unsubscribe.called", "confirmation.queued"}
    # What is told to a webhook must not be of webhooks, or it would feed itself.
    left_out |= {name for name in EVENT_TYPES if name.startswith("webhook.")}
    left_out |= {"mail.received"}  # the `forward.queued` behind it is
    left_out |= {"operator.key_created", "operator.key_switched", "signing_key.deleted", "pepper.rotated"}
    left_out |= {"held.released", "payload.erased", "log.stripped", "log.torn_tail_cut", "log.views_rebuilt"}
    left_out |= {
        "source.listed",
        "source.delisted",
        "provider.reported",
        "console.epoch_raised",
        "node.leads",
    }
    streamed = {name for name, event_type in EVENT_TYPES.items() if event_type.STREAMED}
    assert streamed == EVENT_TYPES.keys() - left_out


def test_a_bounce_and_the_dsn_that_tells_of_it_with_what_the_operator_did_in_between(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="me@b.example")
            begin = world.core.store.last_seq
            bounced = await world.send(to="permfail@example.com")
            await world.until_final(bounced)
            seen = (await events(world, query=f"?cursor={begin}"))["events"]
            (dsn,) = (event for event in seen if event["type"] == "dsn.queued")
            assert dsn["messageId"] == dsn["seq"]
            assert (dsn["about"], dsn["recipient"], dsn["status"]) == (bounced, "me@b.example", "queued")
            await world.until_final(dsn["seq"])

            deferred = await world.send(to="tempfail@example.com")
            await world.until(deferred, "deferred")
            before = world.core.store.last_seq
            for command in ("queue_hold", "queue_release"):
                await world.command(command, message=[deferred], by="alice", reason="look")
            orders = (await events(world, query=f"?cursor={before}"))["events"]
            assert [event["type"] for event in orders[:2]] == ["message.held", "message.released"]
            assert "alice" not in json.dumps(orders)
            assert {event["recipient"] for event in orders[:2]} == {"tempfail@example.com"}

    run(main)


def test_two_members_never_see_each_others_events(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            async with open_stream(world) as ours, open_stream(world, credentials=other) as theirs:
                mine = await world.send()
                ours_seen = await ours.take(3)
                status, answer, _ = await world.request(
                    "POST",
                    "/v1/send",
                    headers=other,
                    json={"from": f"o@{OTHER_DOMAIN}", "to": "x@example.com", "subject": "", "text": "x"},
                )
                assert status == 200
                theirs_seen = await theirs.take(3)
                assert {event["messageId"] for event in ours_seen} == {mine}
                assert {event["messageId"] for event in theirs_seen} == {answer["accepted"][0]["messageId"]}
                await nothing_comes(ours)
                await nothing_comes(theirs)
            for did, credentials in ((DID, world.credentials), (OTHER_DID, other)):
                seen = [event["seq"] for event in (await events(world, credentials))["events"]]
                assert seen == expected(world, did)

    run(main)


# ------------------------------------------------------------------------------------------------ cursors


def test_without_a_cursor_it_begins_now_and_says_where(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await world.send())
            async with open_stream(world) as stream:
                begin = int(stream.headers["atmos-cursor"])
                assert begin == world.core.store.last_seq
                await nothing_comes(stream)
            # Gone before its first event: nothing is lost.
            message_id = await world.send()
            async with open_stream(world, cursor=begin) as stream:
                assert (await stream.next())["seq"] == message_id

    run(main)


def test_from_the_beginning_and_across_what_comes_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            to = [f"friend{number}@example.com" for number in range(PAGE_EVENTS)]
            await world.post_send(to=to, category="transactional")
            async with open_stream(world, cursor=0) as stream:
                seen = await stream.take(5)
                _, answer = await world.post_send(to=to, category="transactional")
                await world.until_final(answer["accepted"][-1]["messageId"])
                await wait_all_tasks_blocked()
                seen += await stream.take(len(expected(world)) - 5)
                assert [event["seq"] for event in seen] == expected(world)
                await nothing_comes(stream)

    run(main)


def test_a_cursor_of_the_future(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            last = world.core.store.last_seq
            async with open_stream(world, cursor=last + 1) as stream:
                frame = await stream.next()
                assert frame.keys() == {"error", "message"}
                assert frame["error"] == "FutureCursor"
                with pytest.raises(Closed) as closed:
                    await stream.next()
                assert closed.value.code == 1008
            async with open_stream(world, cursor=last) as stream:
                await nothing_comes(stream)
            status, answer, _ = await world.request("GET", f"/v1/events?cursor={last + 1}")
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")

    run(main)


def test_a_cursor_older_than_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send()
            await world.until_final(message_id)
            # As if the segments before it had been taken away.
            monkeypatch.setattr(world.core.store, "first_seq", lambda: message_id)
            async with open_stream(world, cursor=1) as stream:
                frame = await stream.next()
                assert frame.keys() == {"info", "message"}
                assert frame["info"] == "OutdatedCursor"
                assert (await stream.next())["seq"] == message_id
            for cursor in (0, message_id - 1):
                async with open_stream(world, cursor=cursor) as stream:
                    assert (await stream.next())["seq"] == message_id
            page = await events(world, query="?cursor=1")
            assert (page["info"], page["events"][0]["seq"]) == ("OutdatedCursor", message_id)
            assert "info" not in await events(world, query="?cursor=0")

    run(main)


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.5", "+1", " 1", "1" * 17, "٣", "0x1"])
def test_a_cursor_that_is_none(tmp_path: Path, cursor: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with pytest.raises(Refused) as refused:
                async with open_stream(world, cursor=cursor):
                    pass
            assert (refused.value.status, refused.value.answer["code"]) == (400, "INVALID_REQUEST")
            assert refused.value.answer["error"].startswith("cursor: ")
            status, answer, _ = await world.request("GET", "/v1/events", query_string={"cursor": cursor})
            assert (status, answer) == (400, refused.value.answer)

    run(main)


def test_pages_of_events(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for _ in range(2):
                to = [f"friend{number}@example.com" for number in range(50)]
                _, answer = await world.post_send(to=to, category="transactional")
            for accepted in answer["accepted"]:
                await world.until_final(accepted["messageId"])
            assert len((await events(world))["events"]) == 100
            for limit in (1000, PAGE_EVENTS, 7):
                seen: list[int] = []
                cursor = 0
                while (page := await events(world, query=f"?cursor={cursor}&limit={limit}"))["events"]:
                    seen += [event["seq"] for event in page["events"]]
                    assert page["cursor"] == seen[-1]
                    cursor = page["cursor"]
                assert page == {"events": [], "cursor": cursor}
                assert seen == expected(world)
            for limit in (0, 1001, "x"):
                status, answer, _ = await world.request("GET", f"/v1/events?limit={limit}")
                assert (status, answer["code"]) == (400, "INVALID_REQUEST")

    run(main)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_however_often_it_is_cut_each_event_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Sends of two members, readings of any length and restarts, in any order."""
    directory = make_directory(tmp_path_factory.mktemp("stream") / "data")
    steps = data.draw(
        st.lists(st.sampled_from(["ours", "theirs", "read", "restart"]), min_size=3, max_size=12)
    )
    seen: list[int] = []
    credentials: list[dict[str, str]] = []

    async def send(world: World, domain: str, credentials: dict[str, str]) -> None:
        to = [f"{number}@example.com" for number in range(data.draw(st.integers(1, 30)))]
        mail = {"from": f"x@{domain}", "to": to, "subject": "x", "text": "x"}
        status, _, _ = await world.request("POST", "/v1/send", headers=credentials, json=mail)
        assert status == 200

    async def read(world: World) -> None:
        waiting = [seq for seq in expected(world) if seq > (seen[-1] if seen else 0)]
        count = data.draw(st.integers(0, len(waiting)))
        async with open_stream(world, cursor=seen[-1] if seen else 0) as stream:
            seen.extend([event["seq"] for event in await stream.take(count)])

    async def live() -> None:
        async with open_world(directory, enrol=False) as world:
            if not credentials:
                credentials.append(await world.enrol())
                credentials.append(await world.enrol(OTHER_DID, OTHER_DOMAIN))
            world.credentials = credentials[0]
            while steps:
                match steps.pop():
                    case "ours":
                        await send(world, DOMAIN, credentials[0])
                    case "theirs":
                        await send(world, OTHER_DOMAIN, credentials[1])
                    case "read":
                        await read(world)
                    case _:
                        return
            assert seen == expected(world)[: len(seen)]

    while steps:
        run(live)
