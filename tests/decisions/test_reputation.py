"""Who is paused for what became of his mail, and what a pause stops (SPEC 4)."""

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.delivery.bounce_classes import BounceClass
from relay.events import RECIPIENT_CLASSES, RELAY_CLASSES, DomainPaused, RecipientSuppressed
from tests.api.test_metrics import scrape
from tests.world.relay import DID, DOMAIN, World, open_world, run

EAGER = (
    "\n[reputation]\nmessages_min = 1\nbounces_min = 1\ncomplaints_min = 1\n"
    "transactional_per_hour_while_paused = 2\n"
)


async def pauses(world: World) -> list[DomainPaused]:
    await wait_all_tasks_blocked()
    return [event for event in world.events() if isinstance(event, DomainPaused)]


async def login(world: World, **fields: Any) -> tuple[int, Any, dict[str, str]]:
    mail = {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": "Log in", "text": "x"}
    answer: tuple[int, Any, dict[str, str]] = await world.request(
        "POST", "/v1/send", json={**mail, "category": "login-link", **fields}
    )
    return answer


def test_the_classes_that_count_are_classes_of_bounces() -> None:
    assert set(RECIPIENT_CLASSES + RELAY_CLASSES) <= set(BounceClass)
    assert not set(RECIPIENT_CLASSES) & set(RELAY_CLASSES)


def test_a_mistyped_address_among_ten_login_links_pauses_nobody_however_often(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(9):
                await world.until_final(
                    await world.send(to=f"friend{number}@example.com", category="login-link")
                )
            for _ in range(5):
                await world.until_final(await world.send(to="permfail@example.com", category="login-link"))
            # In another case it is the same mailbox.
            await world.until_final(await world.send(to="PermFail@example.com", category="login-link"))
            assert await pauses(world) == []
            assert (await login(world))[0] == 200
            await world.until_final(await world.send(to="permfail+2@example.com", category="login-link"))
            assert await pauses(world) == []
            await world.until_final(await world.send(to="permfail+3@example.com", category="login-link"))
            (pause,) = await pauses(world)
            assert (pause.status, pause.stops) == ("paused_bounce_rate", "bulk")

    run(main)


def test_what_tells_of_the_relay_pauses_nobody_and_alarms_the_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(12):
                message = await world.until_final(await world.send(to=f"blocklisted+{number}@example.com"))
                assert message["lastReply"]["bounceClass"] == "spam_block"
            assert await pauses(world) == []
            assert (await scrape(world))["atmos_relay_refused_total{bounce_class=spam_block}"] == 12
            # They are no part of the rate: not even of what it is a rate of.
            for number in range(10):
                await world.until_final(await world.send(to=f"permfail+{number}@example.com"))
            (pause,) = await pauses(world)
            assert pause.evidence is not None
            assert (pause.evidence.final, pause.evidence.bounced) == (10, 10)
        (alarm,) = [record for record in caplog.records if record.message == "reputation.relay_refused"]
        assert (alarm.levelno, vars(alarm)["bounce_class"]) == (logging.WARNING, "spam_block")

    run(main)


def test_other_refusals_are_final_and_no_bounces_of_the_rate(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(12):
                await world.until_final(await world.send(to=f"refuse-message+{number}@example.com"))
            assert await pauses(world) == []

    run(main)


def test_a_pause_for_bounces_stops_bulk_and_lets_logins_trickle(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=EAGER) as world:
            waiting_bulk = await world.send(to="tempfail-1+bulk@example.com")
            waiting_login = await world.send(to="tempfail-1+login@example.com", category="login-link")
            for message_id in (waiting_bulk, waiting_login):
                await world.until(message_id, "deferred")
            await world.until_final(await world.send(to="permfail@example.com"))
            (pause,) = await pauses(world)
            assert pause.stops == "bulk"
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "DOMAIN_PAUSED")
            for said in ("paused_bounce_rate", "1 bounces among 1 final", "operator resumes", "since 20"):
                assert said in answer["error"]
            # What was sent before the pause is not counted, and each recipient is.
            await trio.sleep(1)
            assert (await login(world, to=["a@example.com", "b@example.com"]))[0] == 200
            await trio.sleep(600)
            status, answer, headers = await login(world)
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            assert int(headers["retry-after"]) == 3000
            status, answer, _ = await login(world, to=[f"{name}@example.com" for name in "abc"])
            assert "can never fit" in answer["error"]
            assert "at most 2 at once" in answer["error"]
            await trio.sleep(2999)
            assert (await login(world))[0] == 429
            await trio.sleep(1)
            assert (await login(world))[0] == 200
            assert (await world.message(waiting_login))["status"] == "sent"
            assert (await world.message(waiting_bulk))["timeline"][-1]["type"] == "message.held"
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            assert (await world.until_final(waiting_bulk))["status"] == "sent"
            assert (await login(world, to=[f"{name}@example.com" for name in "abcdef"]))[0] == 200

    run(main)


@pytest.mark.parametrize("by", ["complaint", "operator"])
def test_complaints_and_the_operator_stop_what_bounces_had_left(tmp_path: Path, by: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data", settings=EAGER) as world:
            sent = await world.send()
            await world.until_final(sent)
            await world.until_final(await world.send(to="permfail@example.com"))
            assert [pause.stops for pause in await pauses(world)] == ["bulk"]
            assert (await login(world))[0] == 200
            if by == "complaint":
                await world.command("complaint_record", message=sent)
            else:
                await world.command("domain_pause", did=DID, domain=DOMAIN)
            assert [pause.stops for pause in await pauses(world)] == ["bulk", "all"]
            status, answer, _ = await login(world)
            assert (status, answer["code"]) == (403, "DOMAIN_PAUSED")
            assert ("1 complaints" in answer["error"]) == (by == "complaint")

    run(main)


def test_a_hard_bounce_suppresses_for_bulk_until_the_member_takes_it_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_set_forward", domain=DOMAIN, to="bounces@elsewhere.example")
            bounced = await world.send(to="permfail@example.com")
            await world.until_final(bounced)
            # In one batch with its bounce, behind the notification: a crash parts none of them.
            store = world.core.store
            kinds = [
                (entry.event.TYPE, entry.time_us) for entry in map(store.get, range(1, store.last_seq + 1))
            ]
            at = next(index for index, (kind, _) in enumerate(kinds) if kind == "message.bounced")
            batch = kinds[at : at + 3]
            assert [kind for kind, _ in batch] == ["message.bounced", "dsn.queued", "recipient.suppressed"]
            assert len({time for _, time in batch}) == 1
            _, page, _ = await world.request("GET", "/v1/suppressions")
            (entry,) = page["suppressions"]
            assert (entry["recipient"], entry["reason"]) == ("permfail@example.com", "bounced")
            status, answer = await world.post_send(to="PERMFAIL@example.com")
            assert (status, answer["accepted"]) == (200, [])
            assert answer["rejected"][0]["reason"].startswith("suppressed (bounced): ")
            ((accepted,), _) = (await login(world, to="permfail@example.com"))[1].values()
            await world.until_final(accepted["messageId"])
            answer = await world.client.delete(
                "/v1/suppressions/permfail@example.com", headers=world.credentials
            )
            assert answer.status_code == 204
            assert len((await world.post_send(to="permfail@example.com"))[1]["accepted"]) == 1

    run(main)


def test_what_says_nothing_for_good_suppresses_nobody(tmp_path: Path) -> None:
    """A refused content, a list with the relay's address, a mailbox that is full until the mail is given up; a
    suppression, a cancellation."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for word in ("refuse-message", "blocklisted", "full"):
                message_id = await world.send(to=f"{word}@example.com", category="login-link")
                assert (await world.until_final(message_id))["status"] == "bounced"
            cancelled = await world.send(to="tempfail-9@example.com")
            await world.until(cancelled, "deferred")
            await world.command("queue_cancel", message=[cancelled], reason="x")
            await wait_all_tasks_blocked()
            assert not any(isinstance(event, RecipientSuppressed) for event in world.events())

    run(main)
