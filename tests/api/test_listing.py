"""`GET /v1/messages`: a member's own messages, newest first, page by page and by filter (SPEC 1.3 and 12)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from trio.testing import wait_all_tasks_blocked

from relay.events import MemberSuspended
from tests.world.relay import DID, OTHER_DID, World, open_world, run


async def page(world: World, query: str = "", headers: dict[str, str] | None = None) -> Any:
    status, answer, _ = await world.request("GET", f"/v1/messages{query}", headers=headers)
    assert status == 200, answer
    assert answer.keys() == {"messages", "next"}
    return answer


async def ids(world: World, query: str = "", headers: dict[str, str] | None = None) -> list[int]:
    answer = await page(world, query, headers)
    return [message["messageId"] for message in answer["messages"]]


async def send_many(world: World, count: int) -> list[int]:
    """Send to so many recipients; their message ids, newest first."""
    found: list[int] = []
    for begin in range(0, count, 50):
        recipients = [f"r{number}@example.com" for number in range(begin, min(count, begin + 50))]
        status, answer = await world.post_send(to=recipients)
        assert status == 200, answer
        found += [accepted["messageId"] for accepted in answer["accepted"]]
    return found[::-1]


def test_newest_first_and_every_page_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sent = await send_many(world, 7)
            assert await ids(world) == sent
            pages: list[list[int]] = []
            query = "?limit=3"
            while True:
                answer = await page(world, query)
                pages.append([message["messageId"] for message in answer["messages"]])
                if answer["next"] is None:
                    break
                query = f"?limit=3&after={answer['next']}"
            assert pages == [sent[:3], sent[3:6], sent[6:]]

    run(main)


def test_a_page_that_is_just_full_is_the_last(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sent = await send_many(world, 3)
            answer = await page(world, "?limit=3")
            assert [message["messageId"] for message in answer["messages"]] == sent
            assert answer["next"] is None
            assert await page(world, f"?after={sent[-1]}") == {"messages": [], "next": None}

    run(main)


def test_fifty_unless_asked_and_two_hundred_at_most(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sent = await send_many(world, 201)
            assert await ids(world) == sent[:50]
            assert await ids(world, "?limit=1") == sent[:1]
            assert await ids(world, "?limit=200") == sent[:200]
            await wait_all_tasks_blocked()

    run(main)


def test_what_is_accepted_between_two_pages_does_not_shift_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sent = await send_many(world, 4)
            first = await page(world, "?limit=2")
            await send_many(world, 3)
            assert await ids(world, f"?limit=9&after={first['next']}") == sent[2:]

    run(main)


def test_a_message_in_a_list_is_the_message_without_its_timeline(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for to in ("Friend <friend@example.com>", "permfail@example.com"):
                message = await world.until_final(await world.send(to=to, subject="Grüße"))
                del message["timeline"], message["reports"]
                assert (await page(world, "?limit=1"))["messages"] == [message]

    run(main)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%D9%A3", "limit"),  # a digit, but not an ASCII one
        ("limit=99999999999999999999", "limit"),
        ("after=0", "after"),
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=", "after"),
        ("after=01", "after"),
        ("after=9007199254740992", "after"),
        ("after=99999999999999999999999", "after"),
        ("status=delivered", "status"),
        ("status=Sent", "status"),
        ("status=", "status"),
        ("recipient=", "recipient"),
        ("recipient=friend", "recipient"),
        ("recipient=a@example.com,b@example.com", "recipient"),
        ("recipient=Friend%20%3Cfriend@example.com%3E", "recipient"),
        ("recipient=a%0D%0A@example.com", "recipient"),
    ],
)
def test_a_bad_parameter_is_named(tmp_path: Path, query: str, parameter: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer, _ = await world.request("GET", f"/v1/messages?{query}")
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert answer["error"].startswith(f"{parameter}: ")

    run(main)


def test_by_status(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            found = {
                "sent": await world.send(to="friend@example.com"),
                "bounced": await world.send(to="permfail@example.com"),
                "deferred": await world.send(to="tempfail-99@example.com"),
            }
            for status, message_id in found.items():
                await world.until(message_id, status)
            # The answer to this one never comes: it stays queued.
            found["queued"] = await world.send(to="hang@example.net")
            await wait_all_tasks_blocked()
            for status, message_id in found.items():
                assert await ids(world, f"?status={status}") == [message_id]
            assert await ids(world) == sorted(found.values(), reverse=True)

    run(main)


def test_by_recipient_in_any_spelling(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            mine = [
                await world.send(to="Jörg <jo@BÜCHER.example>"),
                await world.send(to="jo@xn--bcher-kva.example"),
                await world.send(to=" jo@bücher.example "),
            ]
            # It goes out as given, and is looked for in any case, like on the suppression list.
            mine.append(await world.send(to="Jo@bücher.example"))
            mine.reverse()
            for spelling in ("jo@bücher.example", "JO@BÜCHER.Example", "jo@xn--bcher-kva.example"):
                assert await ids(world, f"?recipient={quote(spelling)}") == mine
            assert await ids(world, "?recipient=nobody@xn--bcher-kva.example") == []

    run(main)


def test_filters_and_pages_together(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sent = []
            for _ in range(3):
                sent.append(await world.send(to="friend@example.com"))
                await world.until_final(await world.send(to="refuse-message@example.com"))
                await world.until_final(sent[-1])
            sent.reverse()
            query = "?status=sent&recipient=friend@example.com&limit=2"
            first = await page(world, query)
            assert [message["messageId"] for message in first["messages"]] == sent[:2]
            assert await ids(world, f"{query}&after={first['next']}") == sent[2:]
            assert await ids(world, "?status=bounced&recipient=friend@example.com") == []
            # A cursor is a place in the order, whatever the filter was.
            assert await ids(world, f"?status=sent&after={sent[0]}") == sent[1:]

    run(main)


def test_another_members_messages_are_not_listed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            mine = await world.send()
            other = await world.enrol(OTHER_DID, "other.example")
            status, answer, _ = await world.request(
                "POST",
                "/v1/send",
                headers=other,
                json={"from": "x@other.example", "to": "friend@example.com", "subject": "", "text": "x"},
            )
            assert status == 200, answer
            theirs = answer["accepted"][0]["messageId"]
            await world.until_final(mine)
            await wait_all_tasks_blocked()
            for query in ("", "?status=sent", "?recipient=friend@example.com", "?after=9007199254740991"):
                assert await ids(world, query) == [mine]
                assert await ids(world, query, other) == [theirs]

    run(main)


def test_the_credentials_are_those_of_everywhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            good = world.credentials
            key = {"Authorization": good["Authorization"]}
            for headers, expected in (
                ({}, (400, "AUTH_REQUIRED")),
                (key, (400, "AUTH_REQUIRED")),
                ({**good, "X-Atmos-DID": "did:plc:x"}, (400, "INVALID_DID")),
                ({**good, "X-Atmos-DID": OTHER_DID}, (401, "AUTH_FAILED")),
                ({**good, "Authorization": "Bearer atmos_wrong"}, (401, "AUTH_FAILED")),
            ):
                # Before the parameters are looked at.
                status, answer, _ = await world.request("GET", "/v1/messages?limit=x", headers=headers)
                assert (status, answer["code"]) == expected
            assert await ids(world, f"?did={DID}", key) == []

    run(main)


def test_a_suspended_member_may_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send()
            await world.until_final(message_id)
            await world.core.store.append([MemberSuspended(did=DID)])
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "MEMBER_SUSPENDED")
            assert await ids(world) == [message_id]
            assert (await world.message(message_id))["status"] == "sent"

    run(main)


@pytest.mark.parametrize("path", ["/v1/messages?limit=200", "/v1/events?limit=1000"])
def test_a_long_answer_is_made_in_short_steps_of_the_turn_that_all_share(tmp_path: Path, path: str) -> None:
    """Fifteen readers who each took a millisecond in every turn of the loop kept others waiting for a second."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await send_many(world, 100)
            work, begun = world.core.heavy_work, list[str]()
            turn = work.turn

            def counted(party: str, octets: int) -> object:
                begun.append(party)
                return turn(party, octets)

            work.turn = counted
            status, answer, _ = await world.request("GET", path)
            shown = len(answer.get("messages", answer.get("events", ())))
            assert (status, set(begun)) == (200, {DID})
            assert shown >= 100
            assert len(begun) >= shown / 8

    run(main)
