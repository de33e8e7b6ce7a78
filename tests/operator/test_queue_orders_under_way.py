"""Orders to the queue of a relay that works, of a long queue, and where none runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.codec import Recorded
from relay.core import open_core
from relay.events import (
    AttemptStarted,
    MemberLimitsSet,
    MessageBounced,
    MessageHeld,
)
from relay.operator import queue_orders, queue_shown
from relay.refusals import Refusal
from relay.views import due
from tests.world.gate import Gate
from tests.world.orders import administer
from tests.world.queue_orders import (
    BEFORE_THE_RETRY_SECONDS,
    HOUR_SECONDS,
    ME,
    PAST_THE_RETRY_SECONDS,
    deferred,
    done,
    order,
    passed,
    types,
)
from tests.world.relay import DID, open_world, run

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
