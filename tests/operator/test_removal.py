"""Domains and members are removed: what waits of them is cancelled, whatever is killed when, and the name is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from relay.core import open_core
from relay.decisions.removal import remove_domain
from relay.events import DomainPaused, DomainRemoved, MemberRemoved, MessageBounced, MessageSent
from relay.file_names import LOG_DIRECTORY
from relay.operator import removal
from relay.past.audit import audit
from relay.refusals import Refusal
from relay.surroundings import Surroundings
from relay.times import HOUR_US
from relay.views import due, members, messages, reputation, signing_keys, warming
from spool.reader import LogReader
from tests.world.one_click import unsubscribe_path
from tests.world.orders import administer, order
from tests.world.relay import (
    DID,
    DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    World,
    call_here,
    make_directory,
    open_world,
    run,
    virtual_clock,
)
from tests.world.zone_records import publish

HOUR = 3600
REQUIRED = "require_verified_domains = true"


class _EnoughSeen(Exception):
    """Ends a world without the questions that are asked of every other."""


async def one_deferred(world: World, number: int = 1) -> int:
    message_id = await world.send(to=f"tempfail-{number}@example.com")
    await world.until(message_id, "deferred")
    return message_id


async def remove(world: World, did: str = DID, domain: str = DOMAIN, **more: Any) -> Any:
    return await world.command("domain_remove", did=did, domain=domain, **more)


def state_of(world: World, message_id: int) -> messages.MessageState:
    with world.core.store.read() as view:
        state = messages.message(view, message_id)
    assert state is not None
    return state


def test_what_waits_of_a_removed_domain_is_cancelled_and_the_domain_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.command("domain_add", did=DID, domain=OTHER_DOMAIN)
            waiting = await one_deferred(world, 9)
            held = await one_deferred(world, 8)
            await world.command("queue_hold", message=[held], reason="a look")
            others = await world.send(**{"from": f"you@{OTHER_DOMAIN}", "to": "tempfail-1@example.com"})
            await world.until(others, "deferred")

            answer = await remove(world, reason="a typing error")
            assert (answer["status"], answer["cancelled"]) == ("removed", 2)
            assert answer["removableRecords"][0] == f"_atmos-verify.{DOMAIN}"
            assert len(answer["removableRecords"]) == 3
            for message_id in (waiting, held):
                shown = await world.message(message_id)
                assert (shown["status"], shown["timeline"][-1]["reason"]) == ("bounced", "cancelled")
                assert "was removed" in shown["lastReply"]["text"]
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "DOMAIN_MISMATCH")
            _, answer, _ = await world.request("GET", "/member/status")
            assert [domain["domain"] for domain in answer["domains"]] == [OTHER_DOMAIN]
            # The other domain's goes on, and the member has been told.
            assert (await world.until_final(others))["status"] == "sent"
            _, page, _ = await world.request("GET", "/v1/events?limit=100")
            (told,) = [event for event in page["events"] if event["type"] == "domain.removed"]
            assert (told["domain"], told["because"], told["reason"]) == (DOMAIN, "operator", "a typing error")
            assert "by" not in told

    run(main)


def test_what_is_being_tried_at_that_moment_is_not_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="hang@example.com")
            await wait_all_tasks_blocked()
            assert (await remove(world))["cancelled"] == 0
            # Enrolled again meanwhile, it does not come back: it was the other enrolment's.
            await world.command("domain_add", did=DID, domain=DOMAIN)
            ended = await world.until_final(message_id)
            assert (ended["status"], ended["attempts"]) == ("bounced", 1)
            assert ended["timeline"][-1]["reason"] == "cancelled"

    run(main)


def test_what_a_crash_left_is_cancelled_at_the_next_start(tmp_path: Path) -> None:
    """Also what something holds, and so never comes up; but not the mail of the domain as it was enrolled again."""
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            held = await one_deferred(world)
            await world.command("domain_pause", did=DID, domain=DOMAIN)
            await trio.sleep(HOUR)
            credentials = world.credentials
        surroundings = Surroundings(clock=virtual_clock, offload=call_here)
        async with open_core(directory, surroundings) as core:
            # As the command does, and then is killed.
            await core.store.decide(lambda view: remove_domain(view, DID, DOMAIN, "root", None))
            await order(core, "domain_add", did=DID, domain=DOMAIN)
            with core.store.read() as view:
                assert list(due.held_from(view, "domain", DOMAIN, 0)) == [held]
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            assert (await world.until_final(held))["timeline"][-1]["reason"] == "cancelled"
            await world.command("domain_resume", did=DID, domain=DOMAIN)
            later = await one_deferred(world)
        async with open_world(directory, enrol=False) as world:
            world.credentials = credentials
            assert (await world.until_final(later))["status"] == "sent"

    run(main)


def test_it_goes_turn_by_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "TURN_MESSAGES_MAX", 2)

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, answer = await world.post_send(to=[f"tempfail-9+{n}@example.com" for n in range(7)])
            ids = [accepted["messageId"] for accepted in answer["accepted"]]
            for message_id in ids[:4]:
                await world.until(message_id, "deferred")
            assert (await remove(world))["cancelled"] == 7
            assert {state_of(world, message_id).status for message_id in ids} == {"bounced"}

    run(main)


def test_without_a_relay_it_is_done_as_well(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            waiting = await one_deferred(world, 9)
        answer: Any = await administer(directory, "member_remove", {"did": DID})
        assert [domain["cancelled"] for domain in answer["domains"]] == [1]
        assert await administer(directory, "member_list", {}) == []
        assert await administer(directory, "domain_list", {}) == []
        async with open_world(directory, enrol=False) as world:
            assert state_of(world, waiting).status == "bounced"

    # The command opens the directory with the clock of the machine.
    trio.run(main)


def test_pause_rates_and_age_stay_with_the_name(tmp_path: Path) -> None:
    """Or a member would get rid of them by being removed and enrolled again, under whatever DID."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with world.core.store.read() as view:
                before = members.domain(view, DOMAIN)
                assert before is not None
            for number in range(9):
                await world.until_final(await world.send(to=f"friend{number}@example.com"))
            for name in ("permfail", "permfail+b", "permfail+c"):
                await world.until_final(await world.send(to=f"{name}@example.com"))
            await wait_all_tasks_blocked()
            assert any(isinstance(event, DomainPaused) for event in world.events())
            await trio.sleep(HOUR / 2)
            await world.command("member_remove", did=DID)
            world.credentials = await world.enrol(OTHER_DID)
            with world.core.store.read() as view:
                now = world.core.store.now_us()
                after = members.domain(view, DOMAIN)
                assert after is not None
                assert (after.did, after.status, after.stops) == (OTHER_DID, "paused_bounce_rate", "bulk")
                assert after.name_added_at == before.added_at < after.added_at
                assert warming.used(view, DOMAIN, now, HOUR_US) == 12
                assert reputation.totals_until(view, DOMAIN, now).final == 12
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "DOMAIN_PAUSED")

    run(main)


def test_a_bounce_that_comes_while_nobody_has_the_name_counts_when_somebody_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(9):
                await world.until_final(await world.send(to=f"friend{number}@example.com"))
            for name in ("permfail", "permfail+b"):
                await world.until_final(await world.send(to=f"{name}@example.com"))
            message_id = await world.send(to="hang@example.com")
            await wait_all_tasks_blocked()
            await remove(world)
            await world.core.store.append(
                [
                    MessageBounced(
                        did=DID,
                        message_id=message_id,
                        attempt=1,
                        reason="rejected",
                        bounce_class="invalid_recipient",
                    )
                ]
            )
            await wait_all_tasks_blocked()
            assert not any(isinstance(event, DomainPaused) for event in world.events())
            await world.enrol(OTHER_DID)
            await wait_all_tasks_blocked()
            (pause,) = [event for event in world.events() if isinstance(event, DomainPaused)]
            assert (pause.did, pause.status) == (OTHER_DID, "paused_bounce_rate")
            raise _EnoughSeen  # the attempt that hangs has an outcome already, and must not get a second one

    with pytest.raises(_EnoughSeen):
        run(main)


def test_a_removed_member_is_nobody_and_its_links_still_work(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await world.send(to="a@example.com"))
            await world.request("POST", "/v1/suppressions", json={"recipient": "b@example.com"})
            _, ticket, _ = await world.request("POST", "/v1/stream/ticket")
            answer = await world.command("member_remove", did=DID, reason="it asked for it")
            assert (answer["status"], len(answer["domains"])) == ("removed", 1)
            assert isinstance(world.events()[-1], MemberRemoved)
            for method, path in (
                ("GET", "/member/status"),
                ("GET", "/member/deliverability"),
                ("GET", "/v1/messages"),
                ("GET", "/v1/messages/1"),
                ("GET", "/v1/events"),
                ("GET", "/v1/suppressions"),
                ("POST", "/v1/stream/ticket"),
                ("POST", "/v1/suppressions"),
                ("POST", "/v1/send"),
                ("PUT", "/member/forward-to"),
            ):
                status, answer, _ = await world.request(method, path, json={} if method != "GET" else None)
                assert (status, answer["code"]) == (401, "AUTH_FAILED"), path
            status, answer, _ = await world.request(
                "GET", f"/v1/stream?ticket={ticket['ticket']}", headers={}
            )
            assert status in (400, 401)
            with pytest.raises(Refusal, match="not a member"):
                await world.command("member_remove", did=DID)
            with pytest.raises(Refusal, match="not a member"):
                await world.command("key_issue", did=DID)
            # Who got its mail may still be rid of it, and stays so if it comes back.
            url = unsubscribe_path(world.mx.messages[0].data)
            clicked = await world.client.post(url, form={"List-Unsubscribe": "One-Click"})
            assert clicked.status_code == 200
            old = world.credentials
            world.credentials = await world.enrol()
            _, answer = await world.post_send(to=["a@example.com", "b@example.com"])
            assert [entry["recipient"] for entry in answer["rejected"]] == ["a@example.com", "b@example.com"]
            status, _, _ = await world.request("GET", "/member/status", headers=old)
            assert status == 401

    run(main)


def test_a_request_that_is_under_way_when_its_member_goes_is_refused(tmp_path: Path) -> None:
    """Its body may take its time; and a read may wait for its turn."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            quota = world.core.quota
            for _ in range(4):
                await quota.begin_read(DID)
            answers: list[int] = []

            async def read() -> None:
                status, _, _ = await world.request("GET", "/member/deliverability")
                answers.append(status)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await wait_all_tasks_blocked()
                await world.command("member_remove", did=DID)
                for _ in range(4):
                    quota.end_read(DID)
            assert answers == [401]

    run(main)


def test_an_order_to_erase_an_address_finds_what_a_removed_member_wrote_to_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.until_final(await world.send(to="a@example.com"))
            await world.command("member_remove", did=DID)
            answer = await world.command("log_erase", recipient="a@example.com", reason="ticket 5")
            assert answer["messages"] == 1

    run(main)


def test_an_audit_of_a_removed_members_mail_is_as_good_as_any(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "data")

    async def main() -> None:
        async with open_world(directory) as world:
            sent = await world.send(to="tempfail-1@example.com")
            await world.until_final(sent)
            waiting = await one_deferred(world, 9)
            await world.command("member_remove", did=DID)
            # The same name again, with other keys.
            await world.enrol(OTHER_DID)
        with LogReader(directory / LOG_DIRECTORY) as reader:
            found = audit(directory, reader, sent)
            assert found.problems == []
            assert [one.match for one in found.compositions] == [True]
            assert [signature.valid for signature in found.signatures] == [True] * 4
            cancelled = audit(directory, reader, waiting)
        assert [type(told.event) for told in cancelled.story][-2:] == [DomainRemoved, MessageBounced]
        assert cancelled.problems == []

    run(main)


def test_enrolled_again_a_name_has_keys_of_its_own(tmp_path: Path) -> None:
    """The same day, too: what receivers have cached under a selector is never contradicted."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            with world.core.store.read() as view:
                first = members.domain(view, DOMAIN)
            await remove(world)
            await world.command("domain_add", did=DID, domain=DOMAIN)
            with world.core.store.read() as view:
                second = members.domain(view, DOMAIN)
                assert first is not None
                assert second is not None
                assert second.selector_stem == f"{first.selector_stem}-2"
                assert second.rsa_public != first.rsa_public
                (key,) = signing_keys.retired_of(view, DOMAIN)
                assert key.selector_stem == first.selector_stem
            assert (await world.until_final(await world.send()))["status"] == "sent"

    run(main)


# ------------------------------------------------------------------------------------------------ nobody's names


def require_verification(directory: Path) -> Path:
    path = make_directory(directory) / "relay.toml"
    path.write_text(path.read_text().replace("require_verified_domains = false", REQUIRED))
    return directory


async def prove(world: World, did: str) -> Any:
    answer = await world.command("dns", domain=DOMAIN)
    (enrolled,) = [domain for domain in answer["domains"] if domain["did"] == did]
    publish(world.dns, enrolled["records"])
    return await world.command("domain_verify", did=did, domain=DOMAIN)


def test_a_name_that_nobody_proved_is_whosever_proves_it_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(require_verification(tmp_path / "data")) as world:
            mine, theirs = world.credentials, await world.enrol(OTHER_DID)
            listed = await world.command("domain_list")
            assert [(row["domain"], row["did"]) for row in listed] == [(DOMAIN, DID), (DOMAIN, OTHER_DID)]
            assert len({row["selector"] for row in listed}) == 2
            with pytest.raises(Refusal, match="several members"):
                await world.command("domain_set_forward", domain=DOMAIN, to="a@example.com")
            for credentials in (mine, theirs):
                world.credentials = credentials
                status, answer = await world.post_send()
                assert (status, answer["code"]) == (403, "DOMAIN_UNVERIFIED")

            assert (await prove(world, OTHER_DID))["verified"]
            assert (await world.post_send())[0] == 200
            world.credentials = mine
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "DOMAIN_MISMATCH")
            _, page, _ = await world.request("GET", "/v1/events")
            told = page["events"][-1]
            assert (told["type"], told["because"]) == ("domain.removed", "proved")
            # Proved once, it is theirs, whatever the DNS says one day, until the operator removes it.
            with pytest.raises(Refusal, match="enrolled already"):
                await world.command("domain_add", did=DID, domain=DOMAIN)
            with pytest.raises(Refusal, match="not enrolled under"):
                await world.command("domain_verify", did=DID, domain=DOMAIN)

    run(main)


def test_two_that_prove_a_name_at_the_same_moment(tmp_path: Path) -> None:
    """Both records of ownership can be in the DNS: one of them has it, and the other is told so."""

    async def main() -> None:
        async with open_world(require_verification(tmp_path / "data")) as world:
            await world.enrol(OTHER_DID)
            answer = await world.command("dns", domain=DOMAIN)
            for enrolled in answer["domains"]:
                before = dict(world.dns.txt)
                publish(world.dns, enrolled["records"])
                name = f"_atmos-verify.{DOMAIN}"
                world.dns.txt[name] = [*before.get(name, []), *world.dns.txt[name]]
            refused: list[str] = []

            async def verify(did: str) -> None:
                try:
                    await world.command("domain_verify", did=did, domain=DOMAIN)
                except Refusal as refusal:
                    refused.append(refusal.code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(verify, DID)
                nursery.start_soon(verify, OTHER_DID)
            assert refused == ["NOT_FOUND"]
            with world.core.store.read() as view:
                (left,) = members.enrolments(view, DOMAIN)
            assert left.proved_at is not None

    run(main)


def test_where_nobody_has_to_prove_a_name_who_enrolled_it_first_sends(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            mine, theirs = world.credentials, await world.enrol(OTHER_DID)
            waiting = await one_deferred(world, 9)
            world.credentials = theirs
            status, answer = await world.post_send()
            assert (status, answer["code"]) == (403, "DOMAIN_UNVERIFIED")
            assert "another member" in answer["error"]
            # Who proves it has it nevertheless; what waits of the other is over.
            assert (await prove(world, OTHER_DID))["verified"]
            assert (await world.post_send())[0] == 200
            await wait_all_tasks_blocked()
            assert state_of(world, waiting).status == "bounced"
            world.credentials = mine
            assert (await world.post_send())[0] == 403
            sent = [event for event in world.events() if isinstance(event, MessageSent)]
            assert {event.did for event in sent} <= {OTHER_DID}

    run(main)


def test_removed_a_name_is_free_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(require_verification(tmp_path / "data")) as world:
            await prove(world, DID)
            with world.core.store.read() as view:
                before = members.domain(view, DOMAIN)
            assert before is not None
            with pytest.raises(Refusal, match="enrolled already"):
                await world.enrol(OTHER_DID)
            await remove(world)
            await trio.sleep(HOUR)
            world.credentials = await world.enrol(OTHER_DID)
            assert (await world.post_send())[0] == 403
            assert (await prove(world, OTHER_DID))["verified"]
            assert (await world.post_send())[0] == 200
            with world.core.store.read() as view:
                after = members.domain(view, DOMAIN)
            assert after is not None
            assert after.first_verified_at == before.first_verified_at  # its age is the name's

    run(main)
