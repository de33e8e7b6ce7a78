"""A member's orders about its mail that waits: exactly one thing becomes of it, whoever asks how often and when."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.events import DsnQueued, MemberLimitsSet, MessageBounced, MessageRescheduled
from relay.own_messages import OwnMessages, RescheduleMessages
from relay.principals import SEND, Principal
from relay.refusals import Refusal
from relay.times import HOUR_US, parse_rfc3339
from relay.views import reputation
from spool.interface import STALL_SECONDS
from tests.world.carriers import CARRIERS, Carrier, open_door
from tests.world.gate import Gate
from tests.world.queue_orders import deferred, done, order
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, open_world, run
from tests.world.scheduled import DAY, HOUR, cancel, date_us, in_seconds, move, schedule


async def all_at_once(questions: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """The answers, in the order of the questions."""
    answers: list[Any] = [None] * len(questions)

    async def ask(number: int) -> None:
        answers[number] = await questions[number]()

    async with trio.open_nursery() as nursery:
        for number in range(len(questions)):
            nursery.start_soon(ask, number)
    return answers


def ends(world: World, message_id: int) -> list[str]:
    """The reasons of its bounces in the log."""
    return [
        event.reason
        for event in world.events()
        if isinstance(event, MessageBounced) and event.message_id == message_id
    ]


def test_cancelled_is_bounced_for_good_and_counts_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="owner@elsewhere.example")
            message_id = await schedule(world, HOUR)
            status, answer = await cancel(world, message_id)
            assert (status, answer["status"], answer["nextAttemptAt"]) == (200, "bounced", None)
            assert answer["lastReply"]["text"] == "cancelled by its sender"
            again = await cancel(world, message_id)
            assert again == (200, answer)
            assert (await world.message(message_id))["timeline"][-1]["reason"] == "cancelled"
            status, answer = await move(world, message_id, in_seconds(world, DAY))
            assert (status, answer["code"]) == (409, "NOT_CANCELLABLE")
            assert "was cancelled already" in answer["error"]
            await trio.sleep(DAY)
            assert world.mx.messages == []
            assert ends(world, message_id) == ["cancelled"]
            # Nobody is told, and no rate has it.
            assert not any(isinstance(event, DsnQueued) for event in world.events())
            with world.core.store.read() as view:
                seen = reputation.evidence(view, DOMAIN, 0, world.core.store.now_us())
                assert (seen.final, seen.bounced) == (0, 0)
            _, deliverability, _ = await world.request("GET", "/member/deliverability")
            assert deliverability["bounced_14d"] == 0

    run(main)


def test_what_is_queued_and_untried_can_be_cancelled_and_not_moved(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", mute=True) as world:
            # The receiver says nothing, so that some have all of its connections, and the others wait.
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(60)]
            await wait_all_tasks_blocked()
            assert ids[0] in world.core.in_hand
            assert ids[-1] not in world.core.in_hand
            status, answer = await cancel(world, ids[0])
            assert (status, answer["code"]) == (409, "NOT_CANCELLABLE")
            assert "was tried already" in answer["error"]
            status, answer = await move(world, ids[-1], in_seconds(world, HOUR))
            assert (status, answer["code"]) == (409, "NOT_CANCELLABLE")
            assert "was not scheduled" in answer["error"]
            assert (await cancel(world, ids[-1]))[0] == 200
            world.mx.configure(mute=False)
            await world.until_so_many_are_final(len(ids))
            assert len(world.mx.messages) == len(ids) - 1

    run(main)


def test_what_is_not_ones_own_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, HOUR)
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            for number in (message_id, message_id - 1, 10**9):
                headers = other if number == message_id else None
                for status, answer in (
                    await cancel(world, number, headers=headers),
                    await move(world, number, in_seconds(world, DAY), headers=headers),
                ):
                    assert (status, answer["code"]) == (404, "NOT_FOUND")
            status, answer = await move(world, message_id, "tomorrow")
            assert (status, answer["error"][:13]) == (400, "scheduledAt: ")
            status, answer, _ = await world.request(
                "PATCH", f"/v1/messages/{message_id}", json={"scheduled_at": in_seconds(world, 1)}
            )
            assert (status, answer["code"]) == (400, "INVALID_REQUEST")
            assert (await world.message(message_id))["timeline"][1:] == []

    run(main)


@pytest.mark.parametrize("seed", range(10))
def test_fifty_orders_at_once_come_to_one_outcome(tmp_path: Path, seed: int) -> None:
    """Cancelled, moved, hurried and tried at the same moment."""
    dice = random.Random(seed)

    async def main() -> None:
        async with open_world(tmp_path / "data", seed=seed) as world:
            at = in_seconds(world, HOUR)
            message_id = await world.send(scheduledAt=at)
            # Some come when its time has come.
            await trio.sleep(HOUR - dice.choice((HOUR / 2, 0.0005, 0)))
            times = [in_seconds(world, dice.choice((0, 60, DAY))) for _ in range(50)]
            kinds = [dice.choice(("cancel", "move", "flush")) for _ in range(50)]
            orders: dict[str, Callable[[str], Awaitable[Any]]] = {
                "cancel": lambda _: cancel(world, message_id),
                "move": lambda to: move(world, message_id, to),
                "flush": lambda _: order(world, "flush", message=[message_id]),
            }
            answers = await all_at_once(
                [partial(orders[kind], to) for kind, to in zip(kinds, times, strict=True)]
            )
            final = await world.until_final(message_id)
            said = [answer[0] for kind, answer in zip(kinds, answers, strict=True) if kind == "cancel"]
            assert set(said) <= {200, 409}
            if final["status"] == "sent":
                assert 200 not in said
                assert ends(world, message_id) == []
                assert len(world.mx.messages) == 1
            else:
                assert ends(world, message_id) == ["cancelled"]
                assert world.mx.messages == []
                assert 200 in said
            moved = [answer[0] for kind, answer in zip(kinds, answers, strict=True) if kind == "move"]
            assert set(moved) <= {200, 409}

    run(main)


def test_fifty_that_cancel_are_all_told_that_it_is_and_one_did_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await schedule(world, HOUR)
            answers = await all_at_once([lambda: cancel(world, message_id)] * 50)
            assert {status for status, _ in answers} == {200}
            assert [answer for _, answer in answers] == [answers[0][1]] * 50
            assert ends(world, message_id) == ["cancelled"]

    run(main)


# ------------------------------------------------------------------------------------------------ and the disk


@pytest.mark.parametrize("name", ["cancel", "move"])
def test_what_is_on_its_way_to_the_disk_is_not_tried(tmp_path: Path, name: str) -> None:
    """Its time comes meanwhile."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await schedule(world, STALL_SECONDS / 4)
            later = in_seconds(world, DAY)
            gate.shut()
            async with trio.open_nursery() as nursery:
                if name == "cancel":
                    nursery.start_soon(cancel, world, message_id)
                else:
                    nursery.start_soon(move, world, message_id, later)
                await trio.sleep(STALL_SECONDS / 2)
                gate.open()
            await trio.sleep(HOUR)
            assert world.mx.messages == []
            message = await world.message(message_id)
            assert message["attempts"] == 0
            assert message["nextAttemptAt"] == (None if name == "cancel" else later)

    run(main)


def test_what_is_taken_for_an_attempt_that_is_not_on_record_yet_is_being_tried(tmp_path: Path) -> None:
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await schedule(world, 5)
            gate.shut()
            await trio.sleep(5.5)
            try:
                for status, answer in (
                    await cancel(world, message_id),
                    await move(world, message_id, in_seconds(world, DAY)),
                ):
                    assert (status, answer["code"]) == (409, "NOT_CANCELLABLE")
                    assert "is being tried at this moment" in answer["error"]
            finally:
                gate.open()
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


@pytest.mark.parametrize("name", ["cancel", "move"])
def test_of_what_nobody_knows_whether_it_will_be_durable_nothing_is_tried(tmp_path: Path, name: str) -> None:
    """The disk does not answer: the member is told so, and the order becomes true all the same."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await schedule(world, STALL_SECONDS + 1)
            later = in_seconds(world, DAY)
            gate.shut()
            member = Principal(DID, key_of(world), SEND)
            with pytest.raises(Exception, match="may become durable yet"):
                if name == "cancel":
                    await world.core.decide("cancel_messages", OwnMessages(message_id=message_id), member)
                else:
                    wanted = RescheduleMessages(message_id=message_id, scheduled_at=parse_rfc3339(later))
                    await world.core.decide("reschedule_messages", wanted, member)
            await trio.sleep(60)  # its time comes
            gate.open()
            await trio.sleep(HOUR)
            assert world.mx.messages == []
            message = await world.message(message_id)
            assert (message["attempts"], message["status"]) == (
                0,
                {"cancel": "bounced", "move": "queued"}[name],
            )
            if name == "move":
                assert (await world.until_final(message_id))["status"] == "sent"
                assert date_us(world.mx.messages[0].data) // 10**6 == parse_rfc3339(later) // 10**6
            assert not world.core.in_hand
            assert world.core.reservations.scheduled(DOMAIN) == {}

    run(main)


def test_an_order_that_is_broken_off_leaves_nothing_behind(tmp_path: Path) -> None:
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await schedule(world, 5)
            member = Principal(DID, key_of(world), SEND)
            gate.shut()
            async with trio.open_nursery() as nursery:
                # The writer is busy with this, so that the order waits behind it and can be taken back.
                nursery.start_soon(world.core.store.append, [MemberLimitsSet(did=DID)])
                await wait_all_tasks_blocked()
                with trio.move_on_after(STALL_SECONDS / 2) as scope:
                    wanted = RescheduleMessages(
                        message_id=message_id, scheduled_at=world.core.store.now_us() + HOUR_US
                    )
                    await world.core.decide("reschedule_messages", wanted, member)
                assert scope.cancelled_caught
                gate.open()
            with trio.fail_after(60):
                assert (await world.until_final(message_id))["status"] == "sent"
            assert world.core.reservations.scheduled(DOMAIN) == {}

    run(main)


# ------------------------------------------------------------------------------------------------ all of a send


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_whole_send_or_nothing_by_whichever_door(tmp_path: Path, carrier: Carrier) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world, carrier) as door:
            member = Principal(DID, key_of(world), SEND)

            async def send(seconds: float, *to: str) -> list[int]:
                _, answer = await world.post_send(to=list(to), scheduledAt=in_seconds(world, seconds))
                return [accepted["messageId"] for accepted in answer["accepted"]]

            ids = await send(HOUR, "a@example.com", "b@example.com", "c@example.com")
            of_send = OwnMessages(send_seq=ids[0] - 1)
            at = world.core.store.now_us() + 2 * HOUR_US
            wanted = RescheduleMessages(send_seq=ids[0] - 1, scheduled_at=at)
            assert (await door.decide("reschedule_messages", wanted, member)).ids == ids
            assert [
                event.next_attempt_at for event in world.events() if isinstance(event, MessageRescheduled)
            ] == [at] * 3
            # One of them is over by itself: the others can still be cancelled, and not be moved.
            assert (await cancel(world, ids[1]))[0] == 200
            with pytest.raises(Refusal) as refused:
                await door.decide("reschedule_messages", wanted, member)
            assert refused.value.code == "NOT_CANCELLABLE"
            assert (await door.decide("cancel_messages", of_send, member)).ids == ids
            assert (await door.decide("cancel_messages", of_send, member)).ids == ids
            assert [ends(world, message_id) for message_id in ids] == [["cancelled"]] * 3

            # One of another was tried: nothing becomes of any.
            ids = await send(HOUR, "tempfail-9@example.com", "b@example.com")
            await order(world, "flush", message=[ids[0]])
            await world.until(ids[0], "deferred")
            for name, arguments in (
                ("cancel_messages", OwnMessages(send_seq=ids[0] - 1)),
                ("reschedule_messages", RescheduleMessages(send_seq=ids[0] - 1, scheduled_at=at)),
            ):
                with pytest.raises(Refusal) as refused:
                    await door.decide(name, arguments, member)
                assert refused.value.code == "NOT_CANCELLABLE"
            assert (await world.message(ids[1]))["timeline"][1:] == []
            with pytest.raises(Refusal) as refused:
                await door.decide("cancel_messages", OwnMessages(send_seq=10**9), member)
            assert refused.value.code == "NOT_FOUND"

    run(main)


def test_a_suppressed_recipient_is_in_nobodys_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            member = Principal(DID, key_of(world), SEND)
            to = ["a@example.com", "b@example.com"]
            _, answer = await world.post_send(to=to, scheduledAt=in_seconds(world, HOUR))
            ids = [accepted["messageId"] for accepted in answer["accepted"]]
            await world.request("POST", "/v1/suppressions", json={"recipient": to[0]})
            await world.until_final(ids[0])
            at = world.core.store.now_us() + 2 * HOUR_US
            wanted = RescheduleMessages(send_seq=ids[0] - 1, scheduled_at=at)
            assert (await world.core.decide("reschedule_messages", wanted, member)).ids == ids
            await world.core.decide("cancel_messages", OwnMessages(send_seq=ids[0] - 1), member)
            assert [ends(world, message_id) for message_id in ids] == [["suppressed"], ["cancelled"]]
            # By itself it is no mail that could be cancelled.
            assert (await cancel(world, ids[0]))[0] == 409

    run(main)


def test_what_was_tried_once_is_not_its_members_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await deferred(world)
            status, answer = await cancel(world, message_id)
            assert (status, answer["code"]) == (409, "NOT_CANCELLABLE")
            # The operator still can, and the member is not told that it was never tried.
            assert done(await order(world, "cancel", message=[message_id])) == [message_id]
            assert (await cancel(world, message_id))[0] == 409

    run(main)


def key_of(world: World) -> str:
    (key,) = [event.key_id for event in world.events() if event.TYPE == "key.issued" and event.did == DID]  # type: ignore[attr-defined]
    key_id: str = key
    return key_id
