"""`/v1/suppressions`: what a member reads, adds and takes back, and what it cannot (SPEC 1.3, 3.4, 11 and 12)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from relay.decisions.suppression import suppress
from relay.events import MemberSuspended, RecipientSuppressed, RecipientUnsuppressed
from relay.refusals import Refusal
from relay.times import rfc3339
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, open_world, run
from tools.cli import cli

ADDRESS = "friend@example.com"


async def add(world: World, recipient: str = ADDRESS, **fields: Any) -> tuple[int, Any]:
    status, answer, _ = await world.request(
        "POST", "/v1/suppressions", json={"recipient": recipient, **fields}
    )
    return status, answer


async def listing(world: World, query: str = "", **arguments: Any) -> Any:
    status, answer, _ = await world.request("GET", f"/v1/suppressions{query}", **arguments)
    assert status == 200, answer
    return answer


async def remove(world: World, recipient: str = ADDRESS) -> tuple[int, str | None]:
    """Status, and the code of a refusal."""
    path = f"/v1/suppressions/{quote(recipient, safe='')}"
    answer = await world.client.delete(path, headers=world.credentials)
    if answer.status_code != 204:
        return answer.status_code, (await answer.get_json())["code"]
    assert await answer.get_data() == b""
    return 204, None


async def unsubscribe(world: World, address: str = ADDRESS) -> None:
    """As a click does it."""
    await world.core.store.decide(lambda view: suppress(view, DID, address, "unsubscribe"))


def test_an_address_is_added_listed_and_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            assert await listing(world) == {"suppressions": [], "next": None}
            status, added = await add(world)
            assert status == 201
            store = world.core.store
            seq = store.last_seq
            since = rfc3339(store.get(seq).time_us)
            expected = {"recipient": ADDRESS, "reason": "manual", "since": since, "seq": seq}
            assert added == {**expected, "reasons": [{"reason": "manual", "since": since, "seq": seq}]}
            assert await listing(world) == {"suppressions": [added], "next": None}
            assert len((await world.post_send())[1]["rejected"]) == 1
            assert await remove(world) == (204, None)
            assert isinstance(world.events()[-1], RecipientUnsuppressed)
            assert await listing(world) == {"suppressions": [], "next": None}
            assert (await world.post_send())[1]["rejected"] == []

    run(main)


def test_adding_what_is_there_is_200_and_no_event(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, first = await add(world, reason="asked by phone")
            seq = world.core.store.last_seq
            # The same mailbox to the relay: whoever unsubscribed as Friend@ did not ask for mail to friend@.
            assert await add(world, "FRIEND@EXAMPLE.com", reason="again") == (200, first)
            assert world.core.store.last_seq == seq

    run(main)


def test_several_reasons_hold_at_once_and_are_all_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await unsubscribe(world)
            status, entry = await add(world, reason="asked by phone, bitte")
            assert status == 201
            assert [reason["reason"] for reason in entry["reasons"]] == ["unsubscribe", "manual"]
            assert entry["reasons"][1]["note"] == "asked by phone, bitte"
            assert (entry["reason"], entry["seq"]) == ("unsubscribe", entry["reasons"][0]["seq"])
            # `manual` stops the transactional class too.
            assert len((await world.post_send(category="login-link"))[1]["rejected"]) == 1
            assert await remove(world) == (204, None)
            assert (await listing(world))["suppressions"] == []

    run(main)


def test_a_complaint_cannot_be_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send()
            await world.until_final(message_id)
            await add(world)
            answer = await world.command("complaint_record", message=message_id)
            assert answer["recorded"] == ["message.complained", "recipient.suppressed"]
            seq = world.core.store.last_seq
            assert await remove(world) == (409, "SUPPRESSION_LOCKED")
            assert (await world.command("complaint_record", message=message_id))["recorded"] == []
            assert world.core.store.last_seq == seq
            message = await world.message(message_id)
            # History is not rewritten: it was sent.
            assert (message["status"], message["timeline"][-1]["type"]) == ("sent", "message.complained")
            assert len((await world.post_send(category="mfa-otp"))[1]["rejected"]) == 1
            with pytest.raises(Refusal, match="there is no message 999999"):
                await world.command("complaint_record", message=999_999)

    run(main)


def test_the_operator_records_a_complaint_by_command(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    message_id = 0

    async def main() -> None:
        nonlocal message_id
        async with open_world(directory) as world:
            message_id = await world.send()
            await world.until_final(message_id)

    run(main)
    arguments = ["complaint", "record", str(directory), "--message", str(message_id)]
    first, second = CliRunner().invoke(cli, arguments), CliRunner().invoke(cli, [*arguments, "--json"])
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output == f"The complaint about message {message_id} of {DOMAIN} is recorded.\n"
    assert json.loads(second.output) == {
        "messageId": message_id,
        "did": DID,
        "domain": DOMAIN,
        "recorded": [],
    }


def test_a_second_complaint_about_another_mail_counts_but_suppresses_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first, second = await world.send(), await world.send()
            await world.command("complaint_record", message=first)
            answer = await world.command("complaint_record", message=second)
            assert answer["recorded"] == ["message.complained"]

    run(main)


@pytest.mark.parametrize(
    "address",
    [
        "jo+news@example.com",
        "jörg@xn--bcher-kva.example",
        "100%@example.com",
        "a/b@example.com",
        "/a//b/@example.com",
        "what?@example.com",
        "a#b@example.com",
        "{a}&b=c@example.com",
        "'`|^~!$*@example.com",
    ],
)
def test_any_address_can_stand_in_the_path(tmp_path: Path, address: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer = await add(world, address)
            assert (status, answer["recipient"]) == (201, address)
            assert await remove(world, address) == (204, None)

    run(main)


def test_an_address_is_found_in_any_spelling(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await add(world, "jörg@Bücher.example")
            assert await remove(world, "JÖRG@xn--bcher-kva.EXAMPLE") == (204, None)

    run(main)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/suppressions/nobody@example.com", 404, "NOT_FOUND"),
        ("/v1/suppressions/nobody", 400, "INVALID_REQUEST"),
        ("/v1/suppressions/%00", 400, "INVALID_REQUEST"),
        ("/v1/suppressions/Jo%20%3Cjo@example.com%3E", 400, "INVALID_REQUEST"),
        ("/v1/suppressions/", 404, "NOT_FOUND"),
        ("/v1/suppressions", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_a_delete_of_what_is_not_there(tmp_path: Path, path: str, status: int, code: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            found, answer, _ = await world.request("DELETE", path)
            assert (found, answer["code"]) == (status, code)

    run(main)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"\xff", "JSON"),
        (b"{}", "recipient"),
        (b'{"recipient": 5}', "recipient"),
        (b'{"recipient": null}', "recipient"),
        (b'{"recipient": "nobody"}', "recipient"),
        (b'{"recipient": "Jo <jo@example.com>"}', "recipient"),
        (b'{"recipient": "jo@example.com", "note": "x"}', "note"),
        (b'{"recipient": "jo@example.com", "reason": 1}', "reason"),
        (b'{"recipient": "jo@example.com", "reason": "two\\nlines"}', "reason"),
        (b'{"recipient": "jo@example.com", "reason": "\\u0000"}', "reason"),
        (b'{"recipient": "jo@example.com", "reason": "' + b"x" * 257 + b'"}', "reason"),
    ],
)
def test_a_body_that_is_wrong_is_400_and_names_the_field(tmp_path: Path, body: bytes, named: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            seq = world.core.store.last_seq
            status, answer, _ = await world.request("POST", "/v1/suppressions", data=body)
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert named in answer["error"]
            assert world.core.store.last_seq == seq

    run(main)


def test_no_reason_may_be_said_in_three_ways(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            assert (await add(world, "a@example.com"))[0] == 201
            assert (await add(world, "b@example.com", reason=None))[0] == 201
            assert (await add(world, "c@example.com", reason=""))[0] == 201
            assert (await add(world, "d@example.com", reason="x" * 256))[0] == 201
            entries = (await listing(world))["suppressions"]
            assert ["note" in entry["reasons"][0] for entry in entries] == [True, False, False, False]

    run(main)


def test_a_body_of_another_kind_or_size_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            headers = {**world.credentials, "Content-Type": "text/plain"}
            status, answer, _ = await world.request("POST", "/v1/suppressions", headers=headers, data=b"{}")
            assert (status, answer["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
            for size in (16 * 1024 + 1, 2 * 1024 * 1024):
                status, answer, _ = await world.request("POST", "/v1/suppressions", data=b" " * size)
                assert (status, answer["code"]) == (413, "PAYLOAD_TOO_LARGE")
                assert str(16 * 1024) in answer["error"]

    run(main)


def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            addresses = [f"r{number}@example.com" for number in range(7)]
            for address in addresses:
                await add(world, address)
            found: list[str] = []
            query = "?limit=3"
            pages = 0
            while True:
                page = await listing(world, query)
                pages += 1
                found += [entry["recipient"] for entry in page["suppressions"]]
                if page["next"] is None:
                    break
                query = f"?limit=3&after={page['next']}"
                # What is added meanwhile is newer than every page that is still to come.
                await add(world, f"later{pages}@example.com")
            assert pages == 3
            assert found == addresses[::-1]

    run(main)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=", "after=", "after=x", "after=-1", "after=0"]
)
def test_a_page_that_cannot_be_is_400(tmp_path: Path, query: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer, _ = await world.request("GET", f"/v1/suppressions?{query}")
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert answer["error"].startswith(query.partition("=")[0])

    run(main)


def test_a_suspended_member_reads_and_does_not_write(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await add(world)
            await world.core.store.append([MemberSuspended(did=DID)])
            assert len((await listing(world))["suppressions"]) == 1
            status, answer = await add(world, "other@example.com")
            assert (status, answer["code"]) == (403, "MEMBER_SUSPENDED")
            assert await remove(world) == (403, "MEMBER_SUSPENDED")

    run(main)


def test_every_member_has_a_list_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            await add(world)
            assert (await listing(world, headers=other))["suppressions"] == []
            path = f"/v1/suppressions/{ADDRESS}"
            status, answer, _ = await world.request("DELETE", path, headers=other)
            assert (status, answer["code"]) == (404, "NOT_FOUND")
            assert [event.did for event in world.events() if isinstance(event, RecipientSuppressed)] == [DID]

    run(main)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/suppressions"), ("POST", "/v1/suppressions"), ("DELETE", "/v1/suppressions/a@example.com")],
)
def test_credentials_are_asked_for(tmp_path: Path, method: str, path: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for headers, status, code in (
                ({}, 400, "AUTH_REQUIRED"),
                ({**world.credentials, "Authorization": "Bearer atmos_wrong"}, 401, "AUTH_FAILED"),
            ):
                found, answer, _ = await world.request(method, path, headers=headers)
                assert (found, answer["code"]) == (status, code)

    run(main)
