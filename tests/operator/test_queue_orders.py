"""The operator's orders to the queue: what they do, who sees it, and what comes of it when the relay is at work on the
same messages (SPEC 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.events import (
    AttemptStarted,
    DomainPaused,
)
from relay.operator import queue_orders
from relay.refusals import Refusal
from relay.views import due
from tests.world.orders import administer
from tests.world.queue_orders import (
    BEFORE_THE_RETRY_SECONDS,
    HOUR_SECONDS,
    ME,
    deferred,
    done,
    order,
    passed,
    types,
)
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, open_world, run

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
                "lanes": [{"did": DID, "class": "bulk", "waiting": 3}],
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
