"""A mailbox that a member names is used once its owner has confirmed it, and the member learns nothing of it."""

from __future__ import annotations

import email
import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from click.testing import CliRunner

from relay.events import (
    NOBODY,
    ConfirmationQueued,
    DomainForwardConfirmed,
    DomainForwardSet,
    DsnQueued,
    Event,
    ForwardAddress,
)
from relay.views import messages
from tests.world.relay import (
    DID,
    DOMAIN,
    OPERATOR_DOMAIN,
    OTHER_DID,
    OTHER_DOMAIN,
    World,
    assert_views_are_the_log,
    open_world,
    run,
)
from tools.cli import cli

OWNER = "owner@elsewhere.example"
PATH = "/member/forward-to"
BUTTON = b"confirm=yes"
DAY = 24 * 3600


async def put(
    world: World, to: str | None = OWNER, domain: str = DOMAIN, headers: Any = None
) -> tuple[int, Any, Any]:
    body = {"domain": domain, "forward_to": to}
    return await world.request("PUT", PATH, json=body, headers=headers)


async def shown(world: World) -> tuple[str | None, bool]:
    _, answer, _ = await world.request("GET", "/member/status")
    (domain,) = answer["domains"]
    return domain["forward_to"], domain["forward_confirmed"]


def of(world: World, kind: type[Event]) -> list[Any]:
    return [event for event in world.events() if isinstance(event, kind)]


async def mail_to_owner(world: World, number: int = 0) -> Any:
    """The mail that asks, as its owner's server got it."""
    return (await world.mx.wait_messages(number + 1))[number]


def link_in(mail: Any) -> str:
    """The path of the link."""
    text = email.message_from_bytes(mail.data).get_payload()
    assert isinstance(text, str)
    (link,) = re.findall(r"https://\S+", text)
    return "/" + link.split("/", 3)[3]


async def page(world: World, method: str, path: str, data: bytes = b"") -> tuple[int, str]:
    answer = await world.client.open(path, method=method, data=data)
    assert answer.content_type == "text/html; charset=utf-8"
    return answer.status_code, (await answer.get_data()).decode()


async def bounce(world: World, number: int = 0) -> None:
    await world.until_final(await world.send(to=f"permfail+{number}@example.com"))


def test_nothing_goes_there_before_its_owner_has_used_the_button(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, answer, _ = await put(world)
            assert (status, answer["forward_to"], answer["forward_confirmed"]) == (200, OWNER, False)
            link = link_in(await mail_to_owner(world))
            await bounce(world)
            assert of(world, DsnQueued) == []

            seq = world.core.store.last_seq
            for method in ("GET", "HEAD"):
                assert (await page(world, method, link))[0] == 200
            status, html = await page(world, "GET", link)
            assert DOMAIN in html
            assert OWNER not in html
            assert (await page(world, "POST", link))[0] == 400
            assert (await page(world, "POST", link, b"List-Unsubscribe=One-Click"))[0] == 400
            assert world.core.store.last_seq == seq
            assert await shown(world) == (OWNER, False)

            assert (await page(world, "POST", link, BUTTON))[0] == 200
            seq = world.core.store.last_seq
            assert (await page(world, "POST", link, BUTTON))[0] == 200, "a repeat is no error"
            assert world.core.store.last_seq == seq
            assert len(of(world, DomainForwardConfirmed)) == 1
            assert await shown(world) == (OWNER, True)
            assert (await put(world))[1]["forward_confirmed"] is True
            await bounce(world, 1)
            assert len(of(world, DsnQueued)) == 1
            assert_views_are_the_log(world.relay, tmp_path / "data")

    run(main)


def test_the_mail_is_the_relays_and_has_no_word_of_the_members(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await put(world)
            received = await mail_to_owner(world)
            assert received.rcpt_to == (OWNER,)
            assert re.fullmatch(
                rf"bounces\+[0-9]+-[a-z2-7]+@{re.escape(OPERATOR_DOMAIN)}", received.mail_from
            )
            mail = email.message_from_bytes(received.data)
            assert mail["From"] == f"Mail Delivery System <mailer-daemon@{OPERATOR_DOMAIN}>"
            assert mail["Auto-Submitted"] == "auto-generated"
            domains = [re.search(r"d=([^;]+);", value) for value in mail.get_all("DKIM-Signature", [])]
            assert [match and match[1] for match in domains] == [OPERATOR_DOMAIN] * 2
            without_link = received.data.replace(link_in(received).encode(), b"")
            for word in (DOMAIN, DID, "Hello"):
                assert word.encode() not in without_link

    run(main)


def test_no_member_sees_that_mail(tmp_path: Path) -> None:
    """Where it is, or that it bounced, would tell of a mailbox that is not the member's."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await put(world, "permfail@elsewhere.example")
            seq = world.events().index(of(world, ConfirmationQueued)[0]) + 1
            await world.until_so_many_are_final(1)
            state = state_of(world, seq)
            assert (state.status, state.did) == ("bounced", NOBODY)
            assert (await world.request("GET", f"/v1/messages/{seq}"))[0] == 404
            assert (await world.request("GET", "/v1/messages"))[1]["messages"] == []
            _, answer, _ = await world.request("GET", "/v1/events?cursor=0")
            types = [event["type"] for event in answer["events"]]
            assert types == ["member.added", "domain.added", "domain.forward_set"]
            assert answer["events"][-1]["forwardConfirmed"] is False

    run(main)


def state_of(world: World, message_id: int) -> Any:
    with world.core.store.read() as view:
        return messages.message(view, message_id)


@pytest.mark.parametrize("whose", ["own", "other"])
def test_the_answer_is_the_same_whether_the_mailbox_is_suppressed_or_not(tmp_path: Path, whose: str) -> None:
    answers: list[Any] = []

    async def main(suppressed: bool) -> None:
        async with open_world(tmp_path / f"data-{suppressed}") as world:
            others = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            if suppressed:
                headers = world.credentials if whose == "own" else others
                recipient = {"recipient": OWNER.upper()}
                assert (await world.request("POST", "/v1/suppressions", headers=headers, json=recipient))[
                    0
                ] == 201
            said: list[Any] = []
            for to in (OWNER, OWNER, None, OWNER, None, OWNER, None, OWNER, OWNER, None):
                status, answer, headers = await put(world, to)
                said.append((status, answer, headers.get("retry-after")))
            said.append(await shown(world))
            answers.append(said)
            await trio.testing.wait_all_tasks_blocked()
            assert len(world.mx.messages) == len(of(world, ConfirmationQueued)) == (not suppressed)

    run(lambda: main(False))
    run(lambda: main(True))
    assert answers[0] == answers[1]


def test_one_mail_to_an_address_in_24_hours_of_the_whole_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            others = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            assert (await put(world))[0] == 200
            assert (await put(world, OWNER.upper(), OTHER_DOMAIN, others))[0] == 200
            await trio.sleep(DAY - 60)
            assert (await put(world, OWNER.upper(), OTHER_DOMAIN, others))[0] == 200
            assert len(world.mx.messages) == 1
            await trio.sleep(120)
            assert (await put(world, OWNER.upper(), OTHER_DOMAIN, others))[0] == 200
            second = await mail_to_owner(world, 1)
            # The first is good still, and each confirms its own domain.
            assert (await page(world, "POST", link_in(second), BUTTON))[0] == 200
            assert await shown(world) == (OWNER, False)
            assert (await page(world, "POST", link_in(world.mx.messages[0]), BUTTON))[0] == 200
            assert await shown(world) == (OWNER, True)

    run(main)


def test_three_a_domain_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for number in range(3):
                assert (await put(world, f"owner{number}@elsewhere.example"))[0] == 200
            status, answer, headers = await put(world, "owner3@elsewhere.example")
            assert (status, answer["code"]) == (429, "RATE_LIMITED")
            assert 0 < int(headers["retry-after"]) <= DAY
            assert len(of(world, DomainForwardSet)) == 3
            # What is so already, and to want nobody, is no mail.
            assert (await put(world, "owner2@elsewhere.example"))[0] == 200
            assert (await put(world, None))[0] == 200
            await trio.sleep(int(headers["retry-after"]))
            assert (await put(world, "owner3@elsewhere.example"))[0] == 200
            assert len(await world.mx.wait_messages(4)) == 4

    run(main)


def test_a_link_is_bound_to_domain_address_and_mail(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await put(world)
            link = link_in(await mail_to_owner(world))
            for wrong in (
                link[:-1],
                link + "A",
                "/confirm/" + link[9:].swapcase(),
                "/confirm/",
                "/confirm/x" * 300,
            ):
                for method in ("GET", "POST"):
                    status, html = await page(world, method, wrong, BUTTON)
                    assert status == 404
                    assert "<main>" in html
            unsubscribe = link.replace("/confirm/", "/u/")
            assert (await page(world, "POST", unsubscribe, b"List-Unsubscribe=One-Click"))[0] == 404
            # The domain wanted another mailbox meanwhile, and then this one again: that is another wish.
            await put(world, "other@elsewhere.example")
            assert (await page(world, "POST", link, BUTTON))[0] == 404
            await put(world)
            assert (await page(world, "POST", link, BUTTON))[0] == 404
            assert await shown(world) == (OWNER, False)

    run(main)


def test_confirmed_is_the_mailbox_and_not_the_domain(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await put(world)
            assert (await page(world, "POST", link_in(await mail_to_owner(world)), BUTTON))[0] == 200
            await put(world, "other@elsewhere.example")
            assert await shown(world) == ("other@elsewhere.example", False)
            await world.command("domain_set_forward", domain=DOMAIN, to="other@elsewhere.example")
            assert await shown(world) == ("other@elsewhere.example", True)
            assert (await put(world, "other@elsewhere.example"))[1]["forward_confirmed"] is True

    run(main)


def test_a_full_disk_keeps_a_confirmation_out_and_the_page_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await put(world)
            link = link_in(await mail_to_owner(world))
            world.core.space._free_bytes = lambda: 0
            assert (await page(world, "POST", link, BUTTON))[0] == 503
            assert await shown(world) == (OWNER, False)

    run(main)


def test_whoever_calls_the_mail_spam_is_written_to_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await put(world)
            await mail_to_owner(world)
            seq = world.events().index(of(world, ConfirmationQueued)[0]) + 1
            await world.command("complaint_record", message=seq)
            await trio.sleep(DAY + 60)
            assert (await put(world))[0] == 200
            await trio.testing.wait_all_tasks_blocked()
            assert len(world.mx.messages) == 1

    run(main)


def old_style(domain: str, did: str, key_id: str | None, address: str = OWNER) -> DomainForwardSet:
    """As a relay of before wrote it."""
    return DomainForwardSet(did=did, domain=domain, key_id=key_id, personal=ForwardAddress(address=address))


def test_what_members_set_before_is_silent_and_its_owner_is_asked_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            await world.enrol(OTHER_DID, OTHER_DOMAIN, "zz.example")
            await world.core.store.append(
                [
                    old_style(DOMAIN, DID, "0a1b2c3d4e5f"),
                    old_style(OTHER_DOMAIN, OTHER_DID, None),
                    old_style("zz.example", OTHER_DID, "0a1b2c3d4e5f"),
                ]
            )
            assert await shown(world) == (OWNER, False)
        for start in range(2):
            async with open_world(tmp_path / "data", enrol=False) as world:
                world.credentials = credentials
                await trio.testing.wait_all_tasks_blocked()
                # One mail to one mailbox in 24 hours, for whichever domain.
                assert len(of(world, ConfirmationQueued)) == 1
                if start == 0:
                    link = link_in(await mail_to_owner(world))
                    await bounce(world)
                    assert of(world, DsnQueued) == []
                    assert (await page(world, "POST", link, BUTTON))[0] == 200
                else:
                    await trio.sleep(DAY)
                    await trio.testing.wait_all_tasks_blocked()
                    assert [event.domain for event in of(world, ConfirmationQueued)] == [
                        DOMAIN,
                        "zz.example",
                    ]
                    await trio.sleep(3 * DAY)
                    assert len(of(world, ConfirmationQueued)) == 2
                assert await shown(world) == (OWNER, True)
                assert_views_are_the_log(world.relay, tmp_path / "data")

    run(main)


def test_a_suppressed_owner_is_not_asked_at_the_first_start_either(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await world.core.store.append([old_style(DOMAIN, DID, "0a1b2c3d4e5f")])
            await world.request("POST", "/v1/suppressions", json={"recipient": OWNER})
        async with open_world(tmp_path / "data", enrol=False) as world:
            await trio.sleep(2 * DAY)
            assert of(world, ConfirmationQueued) == []
            assert world.mx.messages == []

    run(main)


def test_the_operators_tools_tell_it(tmp_path: Path) -> None:
    found: dict[str, Any] = {}

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            await put(world)
            await mail_to_owner(world)
            await trio.testing.wait_all_tasks_blocked()
            found["seq"] = world.events().index(of(world, ConfirmationQueued)[0]) + 1

    run(main)

    def command(*words: str) -> str:
        result = CliRunner().invoke(cli, [*words])
        assert result.exit_code == 0, result.output
        return result.output

    directory, seq = str(tmp_path / "data"), str(found["seq"])
    assert f"{OWNER} (not confirmed)" in command("domain", "list", directory)
    (row,) = json.loads(command("domain", "list", directory, "--json"))
    assert (row["forwardTo"], row["forwardConfirmed"]) == (OWNER, False)
    told = command("log", "cat", directory)
    assert f"{OWNER} is told of the bounces of {DOMAIN}, once its owner has confirmed that" in told
    assert "it asks whether the bounces of" in told
    types = [
        json.loads(line)["type"]
        for line in command("log", "cat", directory, "--message", seq, "--json").splitlines()
    ]
    assert types == ["confirmation.queued", "attempt.started", "message.sent"]
