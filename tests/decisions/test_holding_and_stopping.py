"""Mail that must not go now is held and not lost; mail that must not go any more is stopped (SPEC 3.4, 4)."""

from pathlib import Path
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from relay.events import DomainPaused, RecipientSuppressed
from tests.world.gate import Gate
from tests.world.one_click import unsubscribe_path
from tests.world.relay import DID, DOMAIN, World, open_world, run


async def suppress(world: World, address: str) -> None:
    status, _, _ = await world.request("POST", "/v1/suppressions", json={"recipient": address})
    assert status == 201


async def types(world: World, message_id: int) -> list[str]:
    return [entry["type"] for entry in (await world.message(message_id))["timeline"]]


def test_a_suppression_stops_bulk_mail_that_waits_and_no_attempt_is_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            deferred = await world.send(to="tempfail-9@example.com")
            await world.until(deferred, "deferred")
            await suppress(world, "tempfail-9@example.com")
            stopped = await world.until_final(deferred)
            assert stopped["status"] == "bounced"
            assert stopped["timeline"][-1]["reason"] == "suppressed"
            assert stopped["lastReply"]["bounceClass"] is None
            assert stopped["attempts"] == 1

    run(main)


def test_a_suppression_that_comes_during_an_attempt_stops_the_next_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="hang@example.com")
            await wait_all_tasks_blocked()
            await suppress(world, "hang@example.com")
            stopped = await world.until_final(message_id)
            assert [entry["type"] for entry in stopped["timeline"]][1:] == [
                "attempt.started",
                "message.deferred",
                "message.bounced",
            ]
            assert stopped["timeline"][-1]["reason"] == "suppressed"

    run(main)


def test_each_class_and_reason(tmp_path: Path) -> None:
    """An unsubscribe stops bulk mail only; `manual` stops both classes."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first = await world.send(to="a@example.com")
            await world.until_final(first)
            url = unsubscribe_path(world.mx.messages[0].data)
            answer = await world.client.post(url, form={"List-Unsubscribe": "One-Click"})
            assert answer.status_code == 200
            await suppress(world, "b@example.com")
            for category, accepted in (("bulk", []), ("broadcast", []), ("transactional", ["A@example.com"])):
                _, answer = await world.post_send(to=["A@example.com", "b@example.com"], category=category)
                assert [entry["recipient"] for entry in answer["accepted"]] == accepted
                assert len(answer["rejected"]) == 2 - len(accepted)

    run(main)


def test_queued_mail_of_a_paused_domain_is_held_and_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="tempfail-1@example.com")
            await world.until(message_id, "deferred")
            await world.command("domain_pause", did=DID, domain=DOMAIN, reason="test")
            await trio.sleep(3600)
            assert await types(world, message_id) == [
                "message.queued",
                "attempt.started",
                "message.deferred",
                "message.held",
            ]
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "DOMAIN_PAUSED")
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_a_suspended_member_may_read_and_its_mail_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="tempfail-1@example.com")
            await world.until(message_id, "deferred")
            await world.command("member_suspend", did=DID)
            await trio.sleep(3600)
            assert (await types(world, message_id))[-1] == "message.held"
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "MEMBER_SUSPENDED")
            _, answer, _ = await world.request("GET", "/member/status")
            assert answer["status"] == "suspended"
            await world.command("member_resume", did=DID)
            assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_bounces_pause_the_domain_with_the_evidence(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(9):
                await world.until_final(await world.send(to=f"friend{number}@example.com"))
            for name in ("permfail", "permfail+b"):
                await world.until_final(await world.send(to=f"{name}@example.com"))
                await wait_all_tasks_blocked()
                assert not paused(world)
            bounced = await world.until_final(await world.send(to="permfail+c@example.com"))
            await wait_all_tasks_blocked()
            (event,) = paused(world)
            assert event.status == "paused_bounce_rate"
            assert event.evidence is not None
            assert (event.evidence.final, event.evidence.bounced, event.evidence.complaints) == (12, 3, 0)
            assert event.evidence.last_seq == bounced["timeline"][-1]["seq"]
            _, answer, _ = await world.request("GET", "/member/deliverability")
            assert answer["status"] == "paused_bounce_rate"
            assert (answer["sent_14d"], answer["bounced_14d"], answer["bounce_rate"]) == (9, 3, 0.25)
            assert answer["daily_sends"] == [0] * 13 + [12]
            # Resumed, it is counted anew, from the next microsecond on.
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            await trio.sleep(1)
            for number in range(9):
                await world.until_final(await world.send(to=f"permfail+{number}@example.com"))
            assert len(paused(world)) == 1
            await world.until_final(await world.send(to="permfail+9@example.com"))
            await wait_all_tasks_blocked()
            assert len(paused(world)) == 2

    run(main)


def test_what_was_never_given_to_a_receiver_does_not_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(12):
                message_id = await world.send(to=f"tempfail-9+{number}@example.com")
                await world.until(message_id, "deferred")
                await suppress(world, f"tempfail-9+{number}@example.com")
                await world.until_final(message_id)
            await wait_all_tasks_blocked()
            assert not paused(world)

    run(main)


def test_complaints_pause_the_domain(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            ids = [await world.send(to=f"friend{number}@example.com") for number in range(10)]
            for message_id in ids:
                await world.until_final(message_id)
            await world.command("complaint_record", message=ids[0])
            await wait_all_tasks_blocked()
            assert not paused(world)
            await world.command("complaint_record", message=ids[1])
            await wait_all_tasks_blocked()
            (event,) = paused(world)
            assert event.status == "paused_complaint_rate"
            assert (await types(world, ids[0]))[-1] == "message.complained"
            assert (await world.message(ids[0]))["status"] == "sent"

    run(main)


def paused(world: World) -> list[Any]:
    return [event for event in world.events() if isinstance(event, DomainPaused)]


def test_a_suppression_in_another_case_stops_waiting_mail_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="tempfail-9@Example.com")
            other = await world.send(to="tempfail-9+x@example.com")
            await world.until(message_id, "deferred")
            await world.until(other, "deferred")
            await suppress(world, "TEMPFAIL-9@example.com")
            await wait_all_tasks_blocked()
            assert (await world.message(message_id))["timeline"][-1]["reason"] == "suppressed"  # at once
            assert (await world.message(other))["status"] == "deferred"

    run(main)


def test_a_resume_beside_a_hold_leaves_nothing_held(tmp_path: Path) -> None:
    """The hold is decided once more in turn with the operator's commands."""
    gate = Gate()

    async def main() -> None:
        async with open_world(tmp_path / "data", offload=gate.offload) as world:
            message_id = await world.send(to="tempfail-1@example.com")
            await world.until(message_id, "deferred")
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            gate.shut()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: world.command("domain_resume", did=DID, domain=DOMAIN))
                # Meanwhile the message comes up, and sees the domain paused.
                await trio.sleep(120)
                gate.open()
            with trio.fail_after(
                30 * 24 * 3600
            ):  # of the virtual clock: a message held for ever fails at once
                assert (await world.until_final(message_id))["status"] == "sent"

    run(main)


def test_each_mails_own_unsubscribe_link_is_called_though_the_reason_holds_already(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            headers = {"List-Unsubscribe": "<https://lists.example/leave?id=2>"}
            await world.until_final(await world.send())
            await world.until_final(await world.send(headers=headers))
            first, second = (unsubscribe_path(message.data) for message in world.mx.messages)
            for path in (first, second, second, first):
                answer = await world.client.post(path, form={"List-Unsubscribe": "One-Click"})
                assert answer.status_code == 200
            events = [event for event in world.events() if isinstance(event, RecipientSuppressed)]
            assert [event.call_at is not None for event in events] == [False, True]

    run(main)
