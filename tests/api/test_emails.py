"""`/emails`: Resend's API. What SDKs do with it, tests/clients/test_resend.py shows; here is what they cannot say."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.events import Content, MessageQueued, SendAccepted
from relay.times import rfc3339
from tests.world.gate import Gate
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run

MAIL = {"from": f"You <you@{DOMAIN}>", "to": "friend@example.com", "subject": "Hello", "text": "Hi\n"}


class Resend:
    """A client of one key."""

    def __init__(self, world: World, key: str | None) -> None:
        self.world = world
        self.headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def ask(
        self, method: str, path: str, body: Any = None, /, **more: str
    ) -> tuple[int, Any, dict[str, str]]:
        headers = {**self.headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if data is not None:
            headers.setdefault("content-type", "application/json")
        return await self.world.request(method, path, headers=headers, data=data)

    async def send(self, **fields: Any) -> str:
        status, answer, _ = await self.ask("POST", "/emails", {**MAIL, **fields})
        assert status == 200, answer
        assert answer.keys() == {"id"}
        sent: str = answer["id"]
        return sent

    async def get(self, sent: str) -> Any:
        status, answer, _ = await self.ask("GET", f"/emails/{sent}")
        assert status == 200, answer
        return answer

    async def refused(self, method: str, path: str, body: Any = None, /, **more: str) -> tuple[int, str, str]:
        """Status, name and message of an error, which has no other shape."""
        status, answer, _ = await self.ask(method, path, body, **more)
        assert answer.keys() == {"statusCode", "name", "message"}, answer
        assert answer["statusCode"] == status
        return status, answer["name"], answer["message"]


async def open_resend(world: World, did: str = DID, category: str = "transactional") -> Resend:
    made = await world.command("key_issue", did=did, category=category)
    return Resend(world, made["apiKey"])


def in_a_world(tmp_path: Path, test: Callable[[World, Resend], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", **options) as world:
            await test(world, await open_resend(world))

    run(main)


def count(world: World, kind: type = SendAccepted) -> int:
    return sum(isinstance(event, kind) for event in world.events())


# ------------------------------------------------------------------------------------------------------------ errors

#: Method, path, body, what is answered. Everything below the path has the one shape.
WRONG: list[tuple[str, str, Any, tuple[int, str]]] = [
    ("GET", "/emails", None, (405, "method_not_allowed")),
    ("DELETE", "/emails/5", None, (405, "method_not_allowed")),
    ("GET", "/emails/5/attachments", None, (404, "not_found")),
    ("GET", "/emails/", None, (404, "not_found")),
    ("GET", "/emails/5", None, (404, "not_found")),
    ("GET", "/emails/0", None, (404, "not_found")),
    ("GET", "/emails/4ef9a417-02e9-4d39-ad75-9611e0fcc33c", None, (404, "not_found")),
    ("POST", "/emails/5/cancel", {}, (404, "not_found")),
    ("PATCH", "/emails/5", {"scheduled_at": "2026-12-24T18:00:00Z"}, (404, "not_found")),
    ("PATCH", "/emails/5", {"scheduled_at": "in 1 min"}, (422, "validation_error")),
    ("GET", "/emails/5?did=x", None, (422, "validation_error")),
    ("POST", "/emails", b"{", (422, "validation_error")),
    ("POST", "/emails", b"x" * (1024 * 1024 + 1), (413, "validation_error")),
    ("POST", "/emails", {"to": "a@example.com", "subject": ""}, (422, "missing_required_field")),
    ("POST", "/emails/batch", {"messages": []}, (422, "validation_error")),
    ("POST", "/emails/batch", [], (422, "validation_error")),
]


@pytest.mark.parametrize(("method", "path", "body", "wanted"), WRONG)
def test_an_error_has_their_shape_wherever_it_comes_from(
    tmp_path: Path, method: str, path: str, body: Any, wanted: tuple[int, str]
) -> None:
    async def test(world: World, resend: Resend) -> None:
        assert (await resend.refused(method, path, body))[:2] == wanted

    in_a_world(tmp_path, test)


def test_who_asks_is_the_keys_affair_alone(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        for method, path in (("POST", "/emails"), ("POST", "/emails/batch"), ("GET", "/emails/5")):
            assert (await Resend(world, None).refused(method, path, MAIL))[:2] == (401, "missing_api_key")
            assert (await Resend(world, "atmos_x").refused(method, path, MAIL))[:2] == (
                403,
                "invalid_api_key",
            )
        for key, challenge in ((None, "Bearer"), ("atmos_x", None)):  # 401 asks for something, 403 does not
            _, _, headers = await Resend(world, key).ask("POST", "/emails", MAIL)
            assert headers.get("www-authenticate") == challenge
        # A DID beside it says nothing.
        status, _, _ = await resend.ask("POST", "/emails", MAIL, x_atmos_did=OTHER_DID)
        assert status == 200
        await world.enrol(OTHER_DID, OTHER_DOMAIN)
        other = await open_resend(world, OTHER_DID)
        mine = await resend.send()
        assert (await other.refused("GET", f"/emails/{mine}"))[:2] == (404, "not_found")
        assert (await other.refused("POST", f"/emails/{mine}/cancel"))[:2] == (404, "not_found")
        assert (await other.refused("POST", "/emails", MAIL))[:2] == (403, "validation_error")
        await world.command("member_suspend", did=DID)
        assert (await resend.refused("POST", "/emails", MAIL))[:2] == (403, "validation_error")
        assert (await resend.get(mine))["id"] == mine

    in_a_world(tmp_path, test)


REFUSED_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a template": ({"template": {"id": "x"}}, "template: there are no templates"),
    "a topic": ({"topic_id": "x"}, "topic_id: there are no topics"),
    "a path": (
        {"attachments": [{"filename": "a.txt", "path": "http://127.0.0.1/"}]},
        "attachments[0].path: ",
    ),
    "no octet": ({"attachments": [{"filename": "a.txt", "content": [256]}]}, "attachments"),
    "eleven tags": ({"tags": [{"name": f"t{n}", "value": "v"} for n in range(11)]}, "tags: there are 11"),
    "a tag twice": ({"tags": [{"name": "t", "value": "v"}] * 2}, "tags[1].name: stands twice"),
    "a long tag": ({"tags": [{"name": "t" * 65, "value": "v"}]}, "tags[0].name: expected 1 to 64"),
    "words": ({"scheduled_at": "tomorrow at 9am"}, "scheduled_at: "),
    "no zone": ({"scheduled_at": "2026-12-24T18:00:00"}, "scheduled_at: "),
    "long past": ({"scheduled_at": "2020-12-24T18:00:00Z"}, "scheduled_at: is past"),
    "no address": ({"reply_to": ["a@example.com", "b"]}, "reply_to[1]: "),
    "our name": ({"replyTo": "a@example.com"}, "replyTo: there is no such field; did you mean `reply_to`?"),
    "react": ({"react": "<p>"}, "react: render it where you send from"),
}


@pytest.mark.parametrize("case", REFUSED_FIELDS)
def test_what_there_is_not_is_refused_by_their_name(tmp_path: Path, case: str) -> None:
    async def test(world: World, resend: Resend) -> None:
        fields, begins = REFUSED_FIELDS[case]
        status, name, message = await resend.refused("POST", "/emails", {**MAIL, **fields})
        assert (status, name) == (422, "validation_error")
        assert message.startswith(begins), message
        status, name, message = await resend.refused("POST", "/emails/batch", [MAIL, {**MAIL, **fields}])
        assert (status, name) == (422, "validation_error")
        assert message.startswith(f"[1] {begins}"), message
        assert count(world) == 0
        # Null is absent.
        await resend.send(**dict.fromkeys(fields.keys() & {"template", "topic_id", "scheduled_at", "tags"}))

    in_a_world(tmp_path, test)


def test_a_limit_says_when_to_come_again_and_a_defect_what_to_look_for(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        await world.command("member_limits", did=DID, hour=1, day=1)
        await resend.send()
        status, answer, headers = await resend.ask("POST", "/emails", MAIL)
        assert (status, answer["name"]) == (429, "rate_limit_exceeded")
        assert int(headers["retry-after"]) > 0
        world.core.reservations.key_in_turn = None  # a defect
        status, answer, _ = await resend.ask("POST", "/emails/batch", [MAIL])
        assert (status, answer["name"]) == (500, "application_error")
        assert "request id" in answer["message"]

    in_a_world(tmp_path, test)


# ------------------------------------------------------------------------------------------------------ conversations


def test_several_recipients_see_each_other_and_a_bulk_key_is_told_so(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        many = {"to": ["Ann <ann@example.com>", "bob@example.com"], "bcc": ["eve@example.com"]}
        sent = await resend.send(**many)
        shown = await resend.get(sent)
        assert (shown["to"], shown["cc"], shown["bcc"]) == (many["to"], [], many["bcc"])
        assert [event.shown for event in world.events() if isinstance(event, MessageQueued)] == [
            True,
            True,
            False,
        ]
        bulk = await open_resend(world, category="bulk")
        status, name, message = await bulk.refused("POST", "/emails", {**MAIL, **many})
        assert (status, name) == (422, "validation_error")
        assert message.startswith("to: ")
        assert "--category transactional" in message
        alone = await bulk.get(await bulk.send(to=["ann@example.com"]))
        assert alone["to"] == ["ann@example.com"]

    in_a_world(tmp_path, test)


def test_a_suppressed_recipient_becomes_a_message_that_bounces(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        await world.request("POST", "/v1/suppressions", json={"recipient": "gone@example.com"})
        sent = await resend.send(to="gone@example.com")
        await world.until_final(int(sent) + 1)
        assert (await resend.get(sent))["last_event"] == "suppressed"
        assert not world.mx.messages
        sent = await resend.send(to=["gone@example.com", "friend@example.com"])
        assert (await world.until_final(int(sent) + 1))["status"] == "bounced"
        assert (await world.until_final(int(sent) + 2))["status"] == "sent"
        assert len(world.mx.messages) == 1
        assert b"gone@example.com" in world.mx.messages[0].data  # shown, as it was given

    in_a_world(tmp_path, test)


# ----------------------------------------------------------------------------------------------------- what became of


def test_the_last_event_is_the_latest_of_any_recipient(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        sent = await resend.send(to=["tempfail-1@example.com", "friend@example.com"])
        first, second = int(sent) + 1, int(sent) + 2
        await world.until_final(second)
        await world.until(first, "deferred")
        assert (await resend.get(sent))["last_event"] in ("delivery_delayed", "delivered")
        await world.until_final(first)
        assert (await resend.get(sent))["last_event"] == "delivered"
        await world.command("complaint_record", message=second)
        assert (await resend.get(sent))["last_event"] == "complained"
        gone = await resend.send(to="permfail@example.com")
        await world.until_final(int(gone) + 1)
        assert (await resend.get(gone))["last_event"] == "bounced"

    in_a_world(tmp_path, test)


def test_what_is_scheduled_is_moved_and_cancelled_for_all_recipients(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        at = [rfc3339(world.core.store.now_us() + hours * 3600 * 1_000_000) for hours in (1, 2, 800)]
        sent = await resend.send(to=["a@example.com", "b@example.com"], scheduled_at=at[0])
        assert [(await resend.get(sent))[field] for field in ("last_event", "scheduled_at")] == [
            "scheduled",
            at[0],
        ]
        changed = {"object": "email", "id": sent}
        assert (await resend.ask("PATCH", f"/emails/{sent}", {"scheduled_at": at[1]}))[:2] == (200, changed)
        refused = await resend.refused("PATCH", f"/emails/{sent}", {"scheduled_at": at[2]})
        assert refused[:2] == (422, "validation_error")
        assert refused[2].startswith("scheduled_at: ")
        both = {"scheduled_at": at[1], "id": sent + "1"}
        assert (await resend.refused("PATCH", f"/emails/{sent}", both))[0] == 422
        await trio.sleep(1.5 * 3600)
        assert [(await resend.get(sent))[field] for field in ("last_event", "scheduled_at")] == [
            "scheduled",
            at[1],
        ]
        for _ in range(2):
            assert (await resend.ask("POST", f"/emails/{sent}/cancel"))[:2] == (200, changed)
        assert (await resend.get(sent))["last_event"] == "canceled"
        assert not world.mx.messages
        done = await resend.send()
        await world.until_final(int(done) + 1)
        assert (await resend.refused("POST", f"/emails/{done}/cancel"))[:2] == (422, "validation_error")

    in_a_world(tmp_path, test)


# -------------------------------------------------------------------------------------------------------- idempotency


def test_a_key_stands_for_a_body_at_a_door(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        for path, body, other in (
            ("/emails", MAIL, {**MAIL, "text": "Ho"}),
            ("/emails/batch", [MAIL, {**MAIL, "to": ["a@example.com", "b@example.com"]}, MAIL], [MAIL]),
        ):
            first = await resend.ask("POST", path, body, idempotency_key="K" * 256)
            assert first[0] == 200
            again = await resend.ask("POST", path, body, idempotency_key="K" * 256)
            assert again[:2] == first[:2]
            assert again[2]["idempotent-replayed"] == "true"
            refused = await resend.refused("POST", path, other, idempotency_key="K" * 256)
            assert refused[:2] == (409, "invalid_idempotent_request")
            refused = await resend.refused("POST", path, body, idempotency_key="K" * 257)
            assert refused[:2] == (400, "invalid_idempotency_key")
        assert count(world) == 4

    in_a_world(tmp_path, test)


# -------------------------------------------------------------------------------------------------------------- batch


def test_a_batch_is_all_or_nothing(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        await world.command("member_limits", did=DID, hour=4, day=100)
        three = [{**MAIL, "to": f"a{number}@example.com"} for number in range(3)]
        elsewhere = {**MAIL, "from": "you@elsewhere.example"}
        assert (await resend.refused("POST", "/emails/batch", [*three, elsewhere]))[:2] == (
            403,
            "validation_error",
        )
        status, name, message = await resend.refused("POST", "/emails/batch", [*three, *three])
        assert (status, name) == (429, "rate_limit_exceeded")
        assert message.startswith("[4] ")
        assert world.core.reservations.recipients(DOMAIN) == 0
        assert count(world) == 0
        status, answer, _ = await resend.ask("POST", "/emails/batch", three, x_batch_validation="strict")
        assert status == 200
        sent = [one["id"] for one in answer["data"]]
        assert [(await resend.get(one))["to"] for one in sent] == [[one["to"]] for one in three]
        # In one write: a power failure has all of them or none.
        assert len({world.core.store.record(int(one)).batch_seq for one in sent}) == 1
        assert world.core.reservations.recipients(DOMAIN) == 0
        refused = await resend.refused("POST", "/emails/batch", three, x_batch_validation="permissive")
        assert refused[:2] == (422, "validation_error")

    in_a_world(tmp_path, test)


def test_a_batch_that_one_write_does_not_hold_is_refused(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        many = {**MAIL, "to": [f"a{number}@example.com" for number in range(50)]}
        status, name, message = await resend.refused("POST", "/emails/batch", [many] * 20)
        assert (status, name) == (413, "validation_error")
        assert "send it in parts" in message
        assert count(world) == 0
        assert world.core.reservations.recipients(DOMAIN) == 0
        assert (await resend.ask("POST", "/emails/batch", [many] * 19))[0] == 200

    in_a_world(tmp_path, test)


def test_each_email_of_a_batch_is_a_write(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        assert (await resend.refused("POST", "/emails/batch", [MAIL] * 6))[:2] == (429, "rate_limit_exceeded")
        assert count(world) == 0
        await trio.sleep(60)
        assert (await resend.ask("POST", "/emails/batch", [MAIL] * 5))[0] == 200

    configure(make_directory(tmp_path / "data"), members="writes_per_minute = 5")
    in_a_world(tmp_path, test)


def test_reservations_of_a_batch_end_when_it_is_applied_or_will_never_be(tmp_path: Path) -> None:
    """While the disk does not answer, what may become true yet counts; afterwards nothing counts twice."""
    gate = Gate()

    async def test(world: World, resend: Resend) -> None:
        gate.shut()
        try:
            status, answer, _ = await resend.ask("POST", "/emails/batch", [MAIL] * 3, idempotency_key="K")
            assert (status, answer["name"]) == (503, "application_error")
            assert world.core.reservations.recipients(DOMAIN) == 3
        finally:
            gate.open()
        await wait_all_tasks_blocked(0.1)
        status, answer, headers = await resend.ask("POST", "/emails/batch", [MAIL] * 3, idempotency_key="K")
        assert (status, len(answer["data"]), headers["idempotent-replayed"]) == (200, 3, "true")
        assert count(world) == 3
        assert world.core.reservations.recipients(DOMAIN) == 0

    in_a_world(tmp_path, test, offload=gate.offload)


def test_what_goes_to_nobody_counts_by_its_bytes(tmp_path: Path) -> None:
    """No limit of recipients knows of suppressed ones, and all of it is written."""

    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="bytes_per_day = 400_000")
        async with open_world(directory) as world:
            resend = await open_resend(world)
            everybody = [f"a{number}@example.com" for number in range(50)]
            for address in everybody:
                await world.request("POST", "/v1/suppressions", json={"recipient": address})
            await resend.send(to=everybody[0], text="x" * 100_000)
            before = world.core.store.log_bytes()
            await resend.send(to=everybody)
            assert world.core.store.log_bytes() - before > 10_000
            await resend.send(to=everybody)
            status, name, message = await resend.refused(
                "POST", "/emails", {**MAIL, "to": everybody, "text": "x" * 100_000}
            )
            assert (status, name) == (429, "rate_limit_exceeded")
            assert "400000 bytes" in message
            await resend.send(to=everybody[0])

    run(main)


def test_tags_count_as_often_as_they_are_written(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="bytes_per_day = 100_000")
        async with open_world(directory) as world:
            resend = await open_resend(world)
            tags = [{"name": f"n{number}", "value": "v" * 256} for number in range(10)]
            to = [f"a{number}@example.com" for number in range(49)]
            status, name, _ = await resend.refused("POST", "/emails", {**MAIL, "to": to, "tags": tags})
            assert (status, name) == (429, "rate_limit_exceeded")
            await resend.send(to=to[:9], tags=tags)

    run(main)


def test_of_a_message_that_came_in_whole_nothing_is_made_up(tmp_path: Path) -> None:
    async def test(world: World, resend: Resend) -> None:
        sent = await resend.send()
        (old,) = (event for event in world.events() if isinstance(event, SendAccepted))
        (queued,) = (event for event in world.events() if isinstance(event, MessageQueued))
        content = Content(
            from_address=f"you@{DOMAIN}", subject="Hi", raw=b"Message-ID: <own@x.example>\r\n\r\nHi\r\n"
        )
        later = world.core.store.now_us() + 3_600_000_000
        whole = msgspec.structs.replace(
            old, via="smtp", received_by="mx.example", received_with="ESMTPSA", personal=content
        )
        waits = msgspec.structs.replace(queued, next_attempt_at=later, give_up_at=2 * later)
        accepted, _ = await world.core.store.append([whole, waits])
        assert (await resend.get(sent))["message_id"] is not None
        shown = await resend.get(str(accepted.seq))
        assert (shown["subject"], shown["message_id"], shown["text"]) == ("Hi", None, None)

    in_a_world(tmp_path, test)
