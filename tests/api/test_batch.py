"""`POST /v1/batch`: every entry is answered as `/v1/send` would answer it, in order, for few syncs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.acceptance import Send, decide_send, octets_of
from relay.codec import encode
from relay.events import MessageQueued, SendAccepted
from relay.principals import Principal
from relay.requests import parse_send
from relay.views import members
from tests.world.gate import Gate
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, World, make_directory, open_world, run

MAIL = {"from": f"you@{DOMAIN}", "to": "a@example.com", "subject": "Hello", "text": "Hi\n"}
Answered = tuple[int, Any, dict[str, str]]


def mails(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**MAIL, "to": f"a{number}@example.com", **fields} for number in range(count)]


async def post(world: World, messages: Any, key: str | None = None, **more: str) -> Answered:
    headers = {**world.credentials, **more} | ({} if key is None else {"Idempotency-Key": key})
    return await world.request("POST", "/v1/batch", headers=headers, json={"messages": messages})


async def results(world: World, messages: Any, key: str | None = None) -> list[Any]:
    status, answer, _ = await post(world, messages, key)
    assert status == 200, answer
    found: list[Any] = answer["results"]
    assert len(found) == len(messages)
    return found


def sends(world: World) -> int:
    return sum(isinstance(event, SendAccepted) for event in world.events())


def in_a_world(tmp_path: Path, test: Callable[[World], Awaitable[None]], settings: str = "") -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=settings) as world:
            await test(world)

    run(main)


def test_each_entry_is_answered_as_a_send_is_and_in_its_place(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.request("POST", "/v1/suppressions", json={"recipient": "gone@example.com"})
        entries = [
            MAIL,
            {**MAIL, "to": ["b@example.com", "Gone <gone@example.com>"]},
            {**MAIL, "to": "nobody"},
            {**MAIL, "from": "you@elsewhere.example"},
            {**MAIL, "reply_to": "x@example.com"},
            5,
            {**MAIL, "subject": "last"},
        ]
        found = await results(world, entries)
        by_themselves = [await world.request("POST", "/v1/send", json=entry) for entry in entries]
        for entry, (status, answer, _) in zip(found, by_themselves, strict=True):
            assert entry.keys() == answer.keys()
            if status == 200:
                assert [one["recipient"] for one in entry["accepted"]] == [
                    one["recipient"] for one in answer["accepted"]
                ]
                assert entry["rejected"] == answer["rejected"]
            else:
                assert entry == answer
        ids = [one["messageId"] for entry in found for one in entry.get("accepted", ())]
        assert ids == sorted(ids)
        queued = {r.seq for r in map(world.core.store.get, ids) if isinstance(r.event, MessageQueued)}
        assert queued == set(ids)
        assert [code for entry in found if (code := entry.get("code"))] == [
            "INVALID_REQUEST",
            "DOMAIN_MISMATCH",
            "INVALID_REQUEST",
            "INVALID_REQUEST",
        ]

    in_a_world(tmp_path, test)


def test_a_hundred_entries_cost_a_few_syncs(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        found = await results(world, mails(100))
        assert all("accepted" in entry for entry in found)
        assert sends(world) == 100
        seqs = [entry["accepted"][0]["messageId"] for entry in found]
        assert seqs == sorted(seqs)
        # What was written together has the same first record.
        assert len({world.core.store.record(seq).batch_seq for seq in seqs}) == 1

    in_a_world(tmp_path, test)


def test_they_are_decided_in_order_so_the_first_ones_have_what_is_left_of_a_limit(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.command("member_limits", did=world.credentials["X-Atmos-DID"], hour=4, day=100)
        found = await results(world, [*mails(3), {**MAIL, "to": ["x@e.example", "y@e.example"]}, *mails(3)])
        assert ["accepted" in entry for entry in found] == [True] * 3 + [False, True, False, False]
        for entry in found:
            if "code" in entry:
                assert entry["code"] == "RATE_LIMITED"
                assert 0 < entry["retryAfter"] <= 3600

    in_a_world(tmp_path, test)


def test_every_entry_is_a_write_of_the_quota_refused_ones_too(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        bad = {**MAIL, "to": "nobody"}
        found = await results(world, [bad, bad, *mails(4)])
        assert [entry.get("code") for entry in found] == [
            "INVALID_REQUEST",
            "INVALID_REQUEST",
            None,
            None,
            None,
            "RATE_LIMITED",
        ]
        assert found[-1]["retryAfter"] == 12
        status, answer, headers = await post(world, mails(1))
        assert (status, answer["code"], headers["retry-after"]) == (429, "RATE_LIMITED", "12")
        await trio.sleep(12)
        assert "accepted" in (await results(world, mails(1)))[0]

    directory = make_directory(tmp_path / "data")
    configure(directory, members="writes_per_minute = 5")
    in_a_world(tmp_path, test)


def test_a_key_replays_what_was_accepted_and_tries_the_rest_again(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        did = world.credentials["X-Atmos-DID"]
        await world.command("member_limits", did=did, hour=2, day=100)
        entries = mails(3)
        first = await results(world, entries, "K")
        assert [entry.get("code") for entry in first] == [None, None, "RATE_LIMITED"]
        assert "idempotent-replayed" not in (await post(world, entries, "K"))[2]
        await world.command("member_limits", did=did, hour=100, day=100)
        second = await results(world, entries, "K")
        assert second[:2] == first[:2]
        assert "accepted" in second[2]
        _, answer, headers = await post(world, entries, "K")
        assert (answer["results"], headers["idempotent-replayed"]) == (second, "true")
        assert sends(world) == 3
        # An entry's octets are what its key stands for, at its place.
        third = await results(world, [entries[0], {**entries[1], "text": "Ho\n"}, entries[2]], "K")
        assert [entry.get("code") for entry in third] == [None, "IDEMPOTENCY_CONFLICT", None]
        # The key is another one at another door, and another place another key.
        assert "accepted" in (await results(world, entries[1:2], "L"))[0]
        status, answer, _ = await world.request(
            "POST", "/v1/send", headers={**world.credentials, "Idempotency-Key": "K"}, json=entries[0]
        )
        assert status == 200
        assert answer["accepted"] != first[0]["accepted"]

    in_a_world(tmp_path, test)


def test_two_of_one_key_at_once_are_one_batch(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        answers: list[Any] = []

        async def one() -> None:
            answers.append(await results(world, mails(20), "K"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert sends(world) == 20
        assert all(answer == answers[0] for answer in answers)

    in_a_world(tmp_path, test)


WRONG = {
    b"": "the body is empty",
    b"[]": "the body: expected an object",
    b"{}": "messages: is required",
    b'{"messages": {}}': "messages: expected an array",
    b'{"messages": []}': "messages: has 0 entries",
    b'{"messages": [' + b", ".join([b"{}"] * 101) + b"]}": "messages: has over 100 entries",
    b'{"messages": [{}], "more": 1}': "more: there is no such field",
    b'{"messages": [], "messages": [{}]}': "messages: stands twice",
    b'{"messages": [{}], "\\u006dessages": [{}]}': "messages: stands twice",
    b'{"messages": [{"a": ]}': "the body is not JSON",
    b'{"messages": [{}]} x': "the body is not JSON",
}


@pytest.mark.parametrize("body", WRONG, ids=WRONG.values())
def test_what_is_wrong_with_the_whole_refuses_the_whole(tmp_path: Path, body: bytes) -> None:
    async def test(world: World) -> None:
        headers = {**world.credentials, "Content-Type": "application/json"}
        status, answer, _ = await world.request("POST", "/v1/batch", headers=headers, data=body)
        assert (status, answer["code"]) == (400, "INVALID_REQUEST")
        assert answer["error"].startswith(WRONG[body]), answer

    in_a_world(tmp_path, test)


def test_what_stands_twice_within_an_entry_is_that_entrys_fault(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        body = b'{"messages": [%s, {"from": "a", "from": "messages"}]}' % json.dumps(MAIL).encode()
        headers = {**world.credentials, "Content-Type": "application/json"}
        status, answer, _ = await world.request("POST", "/v1/batch", headers=headers, data=body)
        assert status == 200
        assert "accepted" in answer["results"][0]
        assert answer["results"][1]["code"] == "INVALID_REQUEST"

    in_a_world(tmp_path, test)


def test_after_a_disk_that_did_not_answer_it_is_the_same_batch(tmp_path: Path) -> None:
    """A disk that does not answer: the client is told to come again, and under the key nothing is sent twice."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            gate.shut()
            try:
                found = await results(world, mails(5), "K")
            finally:
                gate.open()
            assert {entry["code"] for entry in found} == {"TEMPORARILY_UNAVAILABLE"}
            found = await results(world, mails(5), "K")
            assert all("accepted" in entry for entry in found)
            assert sends(world) == 5

    run(main)


@pytest.mark.parametrize("text", ["Hi", "long " * 14_000])
def test_what_sends_are_said_to_take_holds_what_they_come_to(tmp_path: Path, text: str) -> None:
    """By this a batch is kept within what the log takes at once, and the reserve of the disk is asked for. What stands
    with each recipient counts for each, in octets: a subject and words of letters that take four."""

    async def test(world: World) -> None:
        fields = {
            **MAIL,
            "to": [f"a{number}@example.com" for number in range(50)],
            "subject": "\N{GRINNING FACE}" * 4_000,
            "text": text,
            "metadata": {f"{number}": "\N{GRINNING FACE}" * 256 for number in range(10)},
        }
        body = json.dumps(fields, ensure_ascii=False).encode()
        wanted = Send(request=parse_send(body, "bulk"), body_sha256="", size=len(body))
        with world.core.store.read() as view:
            key_id = members.keys_of(view, DID)[0].key_id
        events = decide_send(world.core, wanted, Principal(DID, key_id))
        written = 0
        for event in events:
            entry = encode(event, bytes)
            written += len(entry.skeleton) + len(entry.payload or b"")
        assert written > 50 * 10 * 256 * 4
        assert written < octets_of(wanted, len(events)) < written + 2048 * len(events) + len(body)

    in_a_world(tmp_path, test)
