"""The operator's orders to the queue: what they do, who sees it, and what comes of it when the relay is at work on the
same messages (SPEC 7)."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.codec import Recorded
from relay.core import open_core
from relay.events import (
    AttemptStarted,
    DomainPaused,
    MemberLimitsSet,
    MessageBounced,
    MessageHeld,
)
from relay.operator import queue_orders, queue_shown
from relay.refusals import Refusal
from relay.views import due
from tests.world.gate import Gate
from tests.world.orders import administer
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, open_world, run

HOUR_SECONDS = 3600
ME = pwd.getpwuid(os.getuid()).pw_name
#: The first retry comes after a minute, give or take a tenth.
BEFORE_THE_RETRY_SECONDS, PAST_THE_RETRY_SECONDS = 50, 70


async def order(world: World, name: str, **arguments: Any) -> Any:
    if name in ("hold", "cancel"):
        arguments.setdefault("reason", "a test")
    return await world.command(f"queue_{name}", by="root", **arguments)


async def deferred(world: World, to: str = "tempfail-1@example.com", **fields: Any) -> int:
    message_id = await world.send(to=to, **fields)
    await world.until(message_id, "deferred")
    return message_id


async def types(world: World, message_id: int) -> list[str]:
    return [entry["type"] for entry in (await world.message(message_id))["timeline"]]


def done(answer: Any) -> list[int]:
    ids: list[int] = answer["done"]["messages"]
    return ids


def passed(answer: Any) -> dict[str, list[int]]:
    return {entry["because"]: entry["messages"] for entry in answer["passed"]}


# ------------------------------------------------------------------------------------------------ what they do


def test_what_is_flushed_is_tried_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await deferred(world)
            answer = await order(world, "flush", message=[message_id], reason="their server is back")
            assert (done(answer), answer["next"]) == ([message_id], None)
            with trio.fail_after(BEFORE_THE_RETRY_SECONDS):
                message = await world.until_final(message_id)
            assert message["status"] == "sent"
            (entry,) = (entry for entry in message["timeline"] if entry["type"] == "message.rescheduled")
            assert entry["reason"] == "their server is back"
            assert entry["nextAttemptAt"] == entry["time"]

    run(main)


def test_what_is_held_is_not_flushed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await deferred(world)
            await order(world, "hold", message=[message_id])
            seq = world.core.store.last_seq
            assert passed(await order(world, "flush", everything=True)) == {"held": [message_id]}
            assert world.core.store.last_seq == seq

    run(main)


def test_what_is_held_stays_until_it_is_released_also_through_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            message_id = await deferred(world)
            assert done(await order(world, "hold", message=[message_id])) == [message_id]
            assert passed(await order(world, "hold", message=[message_id])) == {"already": [message_id]}
            await trio.sleep(HOUR_SECONDS)
        async with open_world(tmp_path / "data", enrol=False) as world:
            world.credentials = credentials
            await trio.sleep(HOUR_SECONDS)
            assert (await types(world, message_id))[-1] == "message.held"
            held = await world.message(message_id)
            answer = await order(world, "release", message=[message_id], reason="harmless")
            assert done(answer) == [message_id]
            message = await world.until_final(message_id)
            assert message["status"] == "sent"
            # It came back at its old time, which was past.
            released = next(entry for entry in message["timeline"] if entry["type"] == "message.released")
            assert released["reason"] == "harmless"
            assert held["nextAttemptAt"] < released["time"]

    run(main)


def test_what_is_released_before_its_time_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await deferred(world)
            at = (await world.message(message_id))["nextAttemptAt"]
            await order(world, "hold", message=[message_id])
            await order(world, "release", message=[message_id])
            assert passed(await order(world, "release", message=[message_id])) == {"already": [message_id]}
            started = (await world.until_final(message_id))["timeline"][-2]
            assert started["type"] == "attempt.started"
            assert started["time"] >= at

    run(main)


def test_what_is_cancelled_is_final_and_counts_against_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(12):
                await deferred(world, f"tempfail-9+{number}@example.com")
            answer = await order(world, "cancel", everything=True, reason="sent by mistake")
            assert answer["done"]["count"] == 12
            assert len(answer["done"]["messages"]) == queue_orders.EXAMPLES_MAX
            first = done(answer)[0]
            message = await world.message(first)
            assert (message["status"], message["attempts"], message["nextAttemptAt"]) == ("bounced", 1, None)
            assert message["timeline"][-1]["reason"] == "cancelled"
            assert message["lastReply"]["enhanced"] == "5.0.0"
            assert message["lastReply"]["text"] == "cancelled by the operator: sent by mistake"
            await trio.sleep(24 * HOUR_SECONDS)
            assert not any(isinstance(event, DomainPaused) for event in world.events())
            _, answer, _ = await world.request("GET", "/member/deliverability")
            assert (answer["bounced_14d"], answer["status"]) == (0, "active")
            attempts = [event for event in world.events() if isinstance(event, AttemptStarted)]
            assert len(attempts) == 12
            assert passed(await order(world, "cancel", message=[first])) == {"bounced": [first]}

    run(main)


def test_a_held_message_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await deferred(world)
            await order(world, "hold", message=[message_id])
            assert done(await order(world, "cancel", message=[message_id])) == [message_id]
            with world.core.store.read() as view:
                assert due.held_count(view) == 0

    run(main)


@pytest.mark.parametrize("first", ["the operator", "the domain"])
def test_two_that_hold_a_message_must_both_let_go(tmp_path: Path, first: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await deferred(world)
            if first == "the operator":
                await order(world, "hold", message=[message_id])
                await world.command("domain_pause", did=DID, domain=DOMAIN)
            else:
                await world.command("domain_pause", did=DID, domain=DOMAIN)
                await trio.sleep(HOUR_SECONDS)
                assert passed(await order(world, "release", message=[message_id])) == {"held": [message_id]}
                assert passed(await order(world, "flush", message=[message_id])) == {"held": [message_id]}
                await order(world, "hold", message=[message_id])
            if first == "the operator":
                await world.command("domain_resume", did=DID, domain=DOMAIN)
                await trio.sleep(HOUR_SECONDS)
                assert (await types(world, message_id))[-1] == "message.held"
                await order(world, "release", message=[message_id])
            else:
                await order(world, "release", message=[message_id])
                await wait_all_tasks_blocked()
                # The deliverer found the domain still paused.
                last = (await world.message(message_id))["timeline"][-1]
                assert (last["type"], last["because"]) == ("message.held", "domain")
                await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


# ------------------------------------------------------------------------------------------------ who is meant


def test_everything_that_is_given_must_hold(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            mine = await deferred(world, "tempfail-9@bücher.example")
            elsewhere = await deferred(world, "tempfail-9@example.com")
            others = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            mail = {
                "from": f"x@{OTHER_DOMAIN}",
                "to": "tempfail-9@bücher.example",
                "subject": "",
                "text": "x",
            }
            _, answer, _ = await world.request("POST", "/v1/send", headers=others, json=mail)
            theirs = answer["accepted"][0]["messageId"]
            await wait_all_tasks_blocked()
            site = "BÜCHER.example"
            for selection, expected in (
                ({"did": DID, "site": site}, [mine]),
                ({"site": "xn--bcher-kva.example"}, [mine, theirs]),
                ({"did": DID}, [mine, elsewhere]),
                ({"did": DID, "message": [theirs]}, []),
                ({"site": site, "message": [elsewhere]}, []),
                ({"message": [theirs, mine, mine]}, [mine, theirs]),
                ({"everything": True}, [mine, elsewhere, theirs]),
            ):
                assert done(await order(world, "hold", **selection)) == expected
                assert done(await order(world, "release", **selection)) == expected
                listed = await world.command(
                    "queue_list",
                    **{key: value for key, value in selection.items() if key != "everything"},
                    each=True,
                )
                assert sorted(row["messageId"] for row in listed["messages"]) == expected
            assert passed(await order(world, "hold", message=[mine, 9_999])) == {"unknown": [9_999]}

    run(main)


@pytest.mark.parametrize("name", ["flush", "hold", "release", "cancel"])
@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "selection"),
        ({"everything": True, "did": DID}, "selection"),
        ({"message": []}, "message"),
        ({"message": [0]}, "message"),
        ({"message": [2**64]}, "message"),
        ({"message": list(range(1, 1_002))}, "message"),
        ({"site": "no site"}, "site"),
        ({"everything": True, "reason": "x" * 501}, "reason"),
        ({"everything": True, "reason": "one\ntwo"}, "reason"),
        ({"everything": True, "reason": "\x1b[2J"}, "reason"),
        ({"everything": True, "reason": " "}, "reason"),
        ({"everything": True, "limit": 0}, "limit"),
    ],
)
def test_what_is_no_order_changes_nothing(
    tmp_path: Path, name: str, arguments: dict[str, Any], field: str
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await deferred(world)
            seq = world.core.store.last_seq
            with pytest.raises(Refusal, match=f"^{field}: "):
                await order(world, name, **arguments)
            assert world.core.store.last_seq == seq

    run(main)


def test_the_member_sees_why_and_the_operator_also_who(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await deferred(world)
            # Through the socket, where the kernel says who it is.
            arguments = {"message": [message_id], "reason": "is it spam?"}
            await administer(world.core.directory, "queue_hold", arguments)
            _, answer, _ = await world.request("GET", f"/v1/messages/{message_id}")
            entry = answer["timeline"][-1]
            assert (entry["because"], entry["reason"]) == ("operator", "is it spam?")
            assert all("by" not in entry for entry in answer["timeline"])
            shown = await world.command("queue_show", message=message_id)
            assert shown["timeline"][-1] == {**entry, "by": ME}
            assert (shown["did"], shown["site"], shown["heldBy"]) == (DID, "example.com", "operator")
            with pytest.raises(Refusal, match="there is no message 1"):
                await world.command("queue_show", message=1)

    run(main)


def test_nobody_can_give_an_order_in_anothers_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            arguments = {"everything": True, "reason": "x", "by": "somebody"}
            with pytest.raises(Refusal, match="unknown field `by`"):
                await administer(world.core.directory, "queue_hold", arguments)

    run(main)


def test_the_list_of_sites_adds_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first = await deferred(world, "tempfail-9@example.com")
            held = await deferred(world, "tempfail-9+x@example.com")
            await deferred(world, "tempfail-9@example.org")
            await world.send(to="hang@example.com")
            await wait_all_tasks_blocked()
            await order(world, "hold", message=[held])
            oldest = await world.message(first)
            answer = await world.command("queue_list")
            assert answer["total"] == 2
            assert answer["sites"][0] == {
                "site": "example.com",
                "receivers": "route 127.0.0.1:25",
                "waiting": 3,
                "due": 0,
                "held": 1,
                "inFlight": 1,
                "oldestAcceptedAt": oldest["acceptedAt"],
                "nextAttemptAt": oldest["nextAttemptAt"],
                # Of the route, whatever domain: one is hung up in, and what was deferred has made the window narrower.
                "connections": 1,
                "connectionsAtMost": 4,
                "downUntil": None,
                "downBecause": None,
            }
            assert answer["sites"][1]["site"] == "example.org"
            assert len((await world.command("queue_list", limit=1))["sites"]) == 1
            messages = await world.command("queue_list", site="example.com", limit=2)
            # What is held has no next time, and comes last.
            assert (messages["total"], held in [row["messageId"] for row in messages["messages"]]) == (
                3,
                False,
            )

    run(main)


# ------------------------------------------------------------------------------------------------ while the relay works


def test_what_is_being_tried_can_be_neither_cancelled_nor_held(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="hang-after-dot@example.com")
            await wait_all_tasks_blocked()
            for name in ("cancel", "hold", "flush", "release"):
                answer = await order(world, name, message=[message_id])
                assert (done(answer), passed(answer)) == ([], {"being tried": [message_id]})
            await world.until(message_id, "deferred")
            assert done(await order(world, "cancel", message=[message_id])) == [message_id]

    run(main)


def test_what_is_taken_for_an_attempt_that_is_not_on_record_yet_is_being_tried(tmp_path: Path) -> None:
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await deferred(world)
            gate.shut()
            await trio.sleep(PAST_THE_RETRY_SECONDS)
            with world.core.store.read() as view:
                assert due.in_flight(view) == []  # the disk has not answered
            # Through no socket, because the gate would hold that up as well. It appends nothing, so it need not wait.
            try:
                with trio.fail_after(PAST_THE_RETRY_SECONDS):
                    answer = await order(world, "cancel", message=[message_id])
            finally:
                gate.open()
            assert passed(answer) == {"being tried": [message_id]}
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


@pytest.mark.parametrize("name", ["cancel", "hold"])
def test_what_is_being_cancelled_or_held_is_not_tried(tmp_path: Path, name: str) -> None:
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await deferred(world)
            gate.shut()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: order(world, name, message=[message_id]))
                # Meanwhile its time comes.
                await trio.sleep(PAST_THE_RETRY_SECONDS)
                gate.open()
            await trio.sleep(HOUR_SECONDS)
            message = await world.message(message_id)
            assert message["attempts"] == 1
            assert (
                message["timeline"][-1]["type"] == {"cancel": "message.bounced", "hold": "message.held"}[name]
            )
            assert world.mx.messages == []

    run(main)


def test_an_order_that_is_broken_off_leaves_nothing_behind(tmp_path: Path) -> None:
    """The message's time comes while the order has it in hand: the deliverer must look at it once more."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await deferred(world)
            gate.shut()
            async with trio.open_nursery() as nursery:
                # The writer is busy with this, so that the order's events wait behind it and can be taken back.
                nursery.start_soon(world.core.store.append, [MemberLimitsSet(did=DID)])
                await wait_all_tasks_blocked()
                with trio.move_on_after(PAST_THE_RETRY_SECONDS) as scope:
                    await order(world, "cancel", message=[message_id])
                assert scope.cancelled_caught
                gate.open()
            with trio.fail_after(HOUR_SECONDS):
                assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_a_flush_that_the_deliverer_passed_over_is_not_forgotten(tmp_path: Path) -> None:
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await deferred(world)
            gate.shut()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: order(world, "flush", message=[message_id]))
                await trio.sleep(PAST_THE_RETRY_SECONDS)
                gate.open()
            with trio.fail_after(BEFORE_THE_RETRY_SECONDS):
                assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_what_was_interrupted_is_cancelled_only_once_the_relay_has_said_so(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            credentials = world.credentials
            message_id = await deferred(world)
        async with open_core(directory) as core:
            # As a relay leaves it that is killed between the dot and the outcome.
            started = AttemptStarted(
                did=DID, message_id=message_id, attempt=2, next_attempt_at=core.store.now_us() + 3_600_000_000
            )
            await core.store.append([started])
        arguments = {"message": [message_id], "reason": "x"}
        answer = await administer(directory, "queue_cancel", arguments)
        assert passed(answer) == {"being tried": [message_id]}
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            assert done(await order(world, "cancel", message=[message_id])) == [message_id]
            assert (await types(world, message_id))[-2:] == ["attempt.interrupted", "message.bounced"]

    run(main)


# ------------------------------------------------------------------------------------------------ large queues


def test_a_large_order_is_given_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (queue_orders, queue_shown):
        monkeypatch.setattr(module, "MESSAGES_PER_TURN", 2)

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await deferred(world, f"tempfail-9+{number}@example.com") for number in range(7)]
            batches: list[list[int]] = []

            def observe(recorded: list[Recorded]) -> None:
                batches.append(
                    [item.event.message_id for item in recorded if isinstance(item.event, MessageHeld)]
                )

            world.core.store.observers.append(observe)
            answer = await order(world, "hold", everything=True, limit=5)
            assert batches == [ids[:2], ids[2:4], ids[4:5]]
            assert (done(answer), answer["next"]) == (ids[:5], ids[4])
            later = await deferred(world, "tempfail-9+later@example.com")
            rest = await order(
                world, "hold", everything=True, after=answer["next"], until=answer["until"], limit=5
            )
            # What was accepted since the order was given is not meant.
            assert (done(rest), passed(rest), rest["next"]) == (ids[5:], {}, None)
            again = await order(world, "hold", everything=True)
            assert (done(again), passed(again)) == ([later], {"already": ids})
            listed = await world.command("queue_list", each=True, limit=3)
            assert (listed["total"], [row["messageId"] for row in listed["messages"]]) == (8, ids[:3])
            (site,) = (await world.command("queue_list"))["sites"]
            assert (site["waiting"], site["held"], site["nextAttemptAt"]) == (8, 8, None)

    run(main)


# ------------------------------------------------------------------------------------------------ no relay runs


def test_orders_to_a_relay_that_does_not_run(tmp_path: Path) -> None:
    directory = tmp_path / "data"

    async def main() -> None:
        async with open_world(directory) as world:
            credentials = world.credentials
            held = await deferred(world)
            cancelled = await deferred(world, "tempfail-1+x@example.com")
        for name, message_id in (("queue_hold", held), ("queue_cancel", cancelled)):
            arguments = {"message": [message_id], "reason": "x"}
            assert done(await administer(directory, name, arguments)) == [message_id]
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            await wait_all_tasks_blocked()
            assert (await types(world, held))[-1] == "message.held"
            assert (await world.message(cancelled))["status"] == "bounced"
            orders = [event for event in world.events() if isinstance(event, MessageHeld | MessageBounced)]
            assert [event.by for event in orders] == [ME, ME]

    run(main)


@pytest.mark.parametrize("after", [-1, 2**53, 2**64 - 1, 2**70])
def test_a_place_that_is_no_message_id_is_refused(tmp_path: Path, after: int) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with pytest.raises(Refusal, match="after"):
                await world.command("queue_flush", by="root", everything=True, after=after)

    run(main)
