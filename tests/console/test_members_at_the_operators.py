"""The operator's pages of members and domains: each form is a command with its event, by whom is written, and nobody
else sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from relay.events import (
    DomainAdded,
    DomainForwardSet,
    DomainKeyCreated,
    DomainPaused,
    DomainRemoved,
    DomainResumed,
    Event,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MemberHandleSet,
    MemberLimitsSet,
    MemberRemoved,
    MemberResumed,
    MemberSuspended,
    RecipientSuppressed,
    RecipientUnsuppressed,
)
from tests.console.operator_visitor import OperatorVisitor, at_the_console
from tests.console.visitor import Seen
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, open_world, run

HERE = f"/members/{DID}"
OF_DOMAIN = f"{HERE}/domains/{DOMAIN}"


def said(page: Seen) -> str:
    return re.sub("<[^>]+>", "", " ".join(re.findall(r'<p class="said.*?</p>', page.html)))


async def done(operator: OperatorVisitor, path: str, **form: str) -> str:
    """What is said on the page that a form leads to."""
    seen = await operator.post(path, form)
    assert seen.status == 303, (path, said(seen))
    page = await operator.get(seen.location)
    assert page.status == 200, seen.location
    return said(page)


def test_each_form_is_a_command_whose_event_names_the_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, at_the_console(world) as operator:
            begun = len(world.events())
            told = {
                f"{HERE}/membership/suspend": ({"reason": "<b>unpaid"}, MemberSuspended),
                f"{HERE}/membership/resume": ({}, MemberResumed),
                f"{HERE}/membership/limits": ({"hour": "5", "day": "50"}, MemberLimitsSet),
                f"{HERE}/membership/handle": ({"handle": "m.example.com", "offline": "yes"}, MemberHandleSet),
                f"{OF_DOMAIN}/pause": ({"reason": "spam"}, DomainPaused),
                f"{OF_DOMAIN}/resume": ({}, DomainResumed),
                f"{OF_DOMAIN}/rotate": ({}, DomainKeyCreated),
                f"{HERE}/suppressions": ({"recipient": "b@example.org"}, RecipientSuppressed),
                f"{HERE}/suppressions/take-back": ({"suppressed": "b@example.org"}, RecipientUnsuppressed),
                f"{HERE}/forwarding": ({"domain": DOMAIN, "to": "b@example.org"}, DomainForwardSet),
                f"{HERE}/domains": ({"domain": "more.example.net"}, DomainAdded),
                f"{HERE}/domains/more.example.net/remove": ({"really": "more.example.net"}, DomainRemoved),
            }
            for path, (form, _) in told.items():
                assert await done(operator, path, **form), path
            made = await operator.post(f"{HERE}/keys", {"scope": "send", "category": ""})
            (key_id,) = re.findall(r"Key id</dt><dd>(\w+)", made.html)
            assert await done(operator, f"{HERE}/keys/{key_id}/revoke")
            added = await operator.post(
                "/members", {"did": OTHER_DID, "domains": OTHER_DOMAIN, "offline": "yes"}
            )
            assert added.html.count("atmos_") == 1
            assert await done(operator, f"{HERE}/membership/remove", really=DID)

            events: list[Event] = world.events()[begun:]
            kinds = [kind for _, kind in told.values()]
            kinds += [KeyIssued, KeyRevoked, MemberAdded, DomainAdded, KeyIssued]
            mine = [event for event in events if isinstance(event, (*kinds, MemberRemoved))]
            assert [type(event) for event in mine[: len(kinds)]] == kinds
            assert isinstance(mine[-1], MemberRemoved)
            (session,) = {event.by for event in mine}  # type: ignore[attr-defined]
            assert re.fullmatch(r"console:[0-9a-f]{8}", session)

    run(main)


def test_who_gave_an_order_no_member_sees(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, at_the_console(world) as operator:
            await done(operator, f"{OF_DOMAIN}/pause", reason="spam")
            await done(operator, f"{HERE}/suppressions", recipient="b@example.org")
            assert "not all of this member's mail goes" in (await operator.get(f"{HERE}/suppressions")).html
            await operator.post(f"{HERE}/keys", {"scope": "full", "category": ""})
            for path in ("/v1/events", "/v1/keys", "/v1/domains", "/v1/suppressions", "/member/status"):
                status, answer, _ = await world.request("GET", path)
                assert (status, "console:" in json.dumps(answer)) == (200, False), path

    run(main)


def test_a_mistake_changes_nothing_and_a_page_is_of_the_member_that_it_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, at_the_console(world) as operator:
            theirs = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            hook = {"url": "https://hooks.example/"}
            status, added, _ = await world.request("POST", "/v1/webhooks", json=hook, headers=theirs)
            assert status == 201
            webhook = f"/webhooks/{added['webhookId']}"
            begun = world.events()
            assert (await operator.get(f"/members/{OTHER_DID}{webhook}")).status == 200
            for path in (
                f"{HERE}{webhook}",
                f"{HERE}/domains/{OTHER_DOMAIN}",
                "/members/did:plc:nobody/keys",
            ):
                assert (await operator.get(path)).status == 404, path
            for path, form, status in (
                (f"{HERE}{webhook}/remove", {}, 404),
                (f"{HERE}{webhook}/rotate", {}, 404),
                (f"{HERE}/domains/{OTHER_DOMAIN}/look", {}, 404),
                (f"{HERE}/domains/{OTHER_DOMAIN}/remove", {"really": OTHER_DOMAIN}, 404),
                (f"{HERE}/membership/remove", {"really": OTHER_DID}, 400),
                (f"{OF_DOMAIN}/remove", {"really": ""}, 400),
                (f"{HERE}/membership/limits", {"hour": "9", "day": "1"}, 400),
                ("/members", {"did": "did:x", "domains": "a.example"}, 400),
                ("/members", {"did": OTHER_DID, "domains": ""}, 400),
                (f"{HERE}/webhooks", hook, 409),
            ):
                assert (await operator.post(path, form)).status == status, path
            assert world.events() == begun

    run(main)


def test_domains_that_may_not_send_come_first_and_are_let_go_together(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, at_the_console(world) as operator:
            await world.enrol(OTHER_DID, OTHER_DOMAIN)
            await done(operator, f"{OF_DOMAIN}/pause", reason="spam")
            page = (await operator.get("/domains")).html
            assert page.index(f">{DOMAIN}</a>") < page.index(f">{OTHER_DOMAIN}</a>")
            only = (await operator.get("/domains?only=paused")).html
            assert (f">{DOMAIN}</a>" in only, f">{OTHER_DOMAIN}</a>" in only) == (True, False)
            paused = (await operator.get(OF_DOMAIN)).html
            assert "The operator says: “spam”" in paused
            assert "may send again" in await done(operator, "/domains/resume-all", reason="x")
            assert "Let it send again" not in (await operator.get(OF_DOMAIN)).html
            found = (await operator.get(f"/members?q={OTHER_DOMAIN}")).html
            assert (OTHER_DID in found, DID in found) == (True, False)

    run(main)
