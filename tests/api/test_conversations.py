"""cc, bcc, tag and metadata of a send: what is recorded, who gets it, and how it reads back."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.codec import Recorded
from relay.events import MessageQueued, SendAccepted
from relay.store import Store
from tests.world.relay import DOMAIN, World, open_world, run

TALK: dict[str, Any] = {
    "to": ["Ann <ann@example.com>", "bob@example.com"],
    "cc": "Cee <cee@example.com>",
    "bcc": ["dan@example.com", "ann@example.com"],
    "category": "transactional",
    "tag": "invoice",
    "metadata": {"order": "4711"},
}


def recorded(world: World) -> tuple[SendAccepted, list[MessageQueued]]:
    (accepted,) = (event for event in world.events() if isinstance(event, SendAccepted))
    return accepted, [event for event in world.events() if isinstance(event, MessageQueued)]


async def got(world: World, path: str) -> Any:
    status, answer, _ = await world.request("GET", path)
    assert status == 200, answer
    return answer


def test_a_conversation_is_one_message_each(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer = await world.post_send(**TALK)
            assert (status, answer["rejected"]) == (200, [])
            given = ["Ann <ann@example.com>", "bob@example.com", "Cee <cee@example.com>", "dan@example.com"]
            assert [accepted["recipient"] for accepted in answer["accepted"]] == given
            accepted, queued = recorded(world)
            assert (accepted.conversation, accepted.recipients, accepted.tag) == (True, 4, "invoice")
            assert accepted.personal is not None
            assert accepted.personal.to_shown == [("Ann", "ann@example.com"), ("", "bob@example.com")]
            assert accepted.personal.cc == [("Cee", "cee@example.com")]
            assert [event.shown for event in queued] == [True, True, True, False]
            assert {event.tag for event in queued} == {"invoice"}
            await world.until_so_many_are_final(4)

    run(main)


def test_who_is_suppressed_is_shown_and_gets_no_mail(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for address in ("ann@example.com", "cee@example.com", "dan@example.com"):
                body = {"recipient": address}
                assert (await world.request("POST", "/v1/suppressions", json=body))[0] in (200, 201)
            _, answer = await world.post_send(**TALK)
            assert [accepted["recipient"] for accepted in answer["accepted"]] == ["bob@example.com"]
            rejected = [each["recipient"] for each in answer["rejected"]]
            assert rejected == ["Ann <ann@example.com>", "Cee <cee@example.com>", "dan@example.com"]
            accepted, queued = recorded(world)
            assert accepted.personal is not None
            shown = [*accepted.personal.to_shown, *accepted.personal.cc]
            assert [address for _, address in shown] == [
                f"{who}@example.com" for who in ("ann", "bob", "cee")
            ]
            assert len(queued) == 1

    run(main)


def test_a_message_its_events_and_its_list_say_what_they_belong_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, answer = await world.post_send(**TALK)
            ids = [accepted["messageId"] for accepted in answer["accepted"]]
            await world.until_so_many_are_final(4)
            plain = await world.send()
            labels = {"sendId": ids[0] - 1, "tag": "invoice", "metadata": {"order": "4711"}}
            message = await world.message(ids[3])
            assert message["shown"] is False
            assert message.items() >= labels.items()
            page = await got(world, "/v1/messages?tag=invoice")
            assert [each["messageId"] for each in page["messages"]] == ids[::-1]
            assert all(each.items() >= labels.items() for each in page["messages"])
            for event in (await got(world, "/v1/events?cursor=0"))["events"]:
                if event.get("messageId") in ids:
                    assert event.items() >= labels.items()
                elif event.get("messageId") == plain:
                    assert event["sendId"] == plain - 1
                    assert not event.keys() & {"tag", "metadata"}
            message = await world.message(plain)
            found = {name: message[name] for name in ("sendId", "shown", "tag", "metadata", "scheduledAt")}
            assert found == {
                "sendId": plain - 1,
                "shown": True,
                "tag": None,
                "metadata": None,
                "scheduledAt": None,
            }

    run(main)


def test_what_was_erased_leaves_the_tag(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, answer = await world.post_send(**{**TALK, "to": "ann@example.com", "cc": [], "bcc": []})
            (message_id,) = (accepted["messageId"] for accepted in answer["accepted"])
            await world.until_final(message_id)
            await world.command("log_erase", message=message_id, reason="asked")
            message = await world.message(message_id)
            assert (message["tag"], message["metadata"], message["recipient"]) == ("invoice", None, None)
            events = (await got(world, "/v1/events?cursor=0"))["events"]
            mine = [event for event in events if event.get("messageId") == message_id]
            assert mine
            assert all(event["tag"] == "invoice" and "metadata" not in event for event in mine)

    run(main)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("tag=two%20words", "tag: expected 1 to 64"),
        ("tag=", "tag: expected 1 to 64"),
        ("tag=a&recipient=ann@example.com", "tag: cannot be asked for together with `recipient`"),
    ],
)
def test_what_cannot_be_asked_for_is_named(tmp_path: Path, query: str, sentence: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer, _ = await world.request("GET", f"/v1/messages?{query}")
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert answer["error"].startswith(sentence)

    run(main)


def test_a_list_reads_no_large_send_to_show_its_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Recorded] = []
    get = Store.get

    def noting(store: Store, seq: int) -> Recorded:
        found = get(store, seq)
        read.append(found)
        return found

    async def sends_read(world: World, path: str) -> tuple[Any, Sequence[SendAccepted]]:
        read.clear()
        answer = await got(world, path)
        return answer, [each.event for each in read if isinstance(each.event, SendAccepted)]

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            large = base64.b64encode(b"x" * 100_000).decode()
            file = {"filename": "a.txt", "content": large}
            sender = f"Me <me@{DOMAIN}>"
            message_id = await world.send(**{"from": sender}, subject="Large", attachments=[file])
            small = await world.send(**{"from": sender}, subject="Small")
            await world.until_so_many_are_final(2)
            monkeypatch.setattr(Store, "get", noting)
            page, sends = await sends_read(world, "/v1/messages")
            shown = [
                (each["messageId"], each["from"], each["subject"], each["via"]) for each in page["messages"]
            ]
            assert shown == [(small, sender, "Small", "http"), (message_id, sender, "Large", "http")]
            # Of a small one it stands with the send.
            assert [send.size < 1000 for send in sends] == [True]
            for path in (f"/v1/messages/{message_id}", "/v1/events?cursor=0"):
                assert (await sends_read(world, path))[1] == []
            # Nothing of it outlives the message's personal data.
            await world.command("log_erase", message=message_id, reason="asked")
            assert (await world.message(message_id))["subject"] is None

    run(main)
