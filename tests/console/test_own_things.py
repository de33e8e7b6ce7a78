"""A member's own things in the console: each form is a decision with its event and whose it was, a secret is shown
once, and nobody reaches what is another's."""

from __future__ import annotations

import re
from pathlib import Path

from relay.events import (
    DomainForwardSet,
    KeyIssued,
    KeyRevoked,
    RecipientSuppressed,
    RecipientUnsuppressed,
    WebhookAdded,
    WebhookPaused,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSecretRotated,
)
from tests.console.visitor import Seen, Visitor, signed_in
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, open_world, run

HOOK = "https://hooks.example/%3Cscript%3E"
PAGES = ("/suppressions", "/domains", f"/domains/{DOMAIN}", "/keys", "/webhooks", "/forwarding")
#: What somebody may write beside an address.
HOSTILE = "\"><script>alert(1)</script>'{{7*7}}\u202eevil"


def said(page: Seen) -> str:
    """What stands on top of a page."""
    return re.sub("<[^>]+>", "", " ".join(re.findall(r'<p class="said.*?</p>', page.html)))


async def done(visitor: Visitor, path: str, form: dict[str, object]) -> str:
    """What is said on the page that a form leads to."""
    seen = await visitor.post(path, form)
    assert seen.status == 303, (path, said(seen))
    return said(await visitor.get(seen.location.removeprefix("/console")))


def test_each_form_is_a_decision_with_its_event_and_the_key_that_ordered_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = await signed_in(world)
            (first,) = [event for event in world.events() if isinstance(event, KeyIssued)]
            address = {"recipient": "bob@example.org", "note": HOSTILE}
            assert "no mail goes there" in await done(visitor, "/suppressions", address)
            whole = (await visitor.get("/suppressions")).html
            assert "1 address to which not all of your mail goes" in whole
            # A page has one name.
            assert "<h1>Forwarding</h1>" in (await visitor.get("/forwarding")).html
            found = await visitor.get("/suppressions?recipient=BOB@example.org")
            assert "&lt;script&gt;" in found.html
            assert "<script>alert" not in found.html
            assert "\u202e" not in found.html
            taken = {"suppressed": "bob@example.org"}
            assert "taken back" in await done(visitor, "/suppressions/take-back", taken)
            again = await visitor.post("/suppressions/take-back", taken)
            assert (again.status, "not on your suppression list" in said(again)) == (404, True)

            to = {"domain": DOMAIN, "to": "owner@example.org"}
            assert "A mail with a link goes" in await done(visitor, "/forwarding", to)
            assert "has not been confirmed" in (await visitor.get("/forwarding")).html
            assert "Nobody is told" in await done(visitor, "/forwarding", {**to, "to": ""})
            assert "looked at just now" in await done(visitor, f"/domains/{DOMAIN}/look", {})
            assert "missing" in (await visitor.get(f"/domains/{DOMAIN}")).html

            made = await visitor.post("/webhooks", {"url": HOOK, "type": "message.sent", "batch": "3"})
            (webhook_id,) = set(re.findall(r"wh[a-z2-7]{22}", made.html))
            assert made.html.count("whsec_") == 1
            here = f"/webhooks/{webhook_id}"
            for verb, form, word in (
                ("pause", {}, "paused"),
                ("resume", {}, "active"),
                ("replay", {"from": "0"}, "told again"),
            ):
                assert word in await done(visitor, f"{here}/{verb}", dict(form))
            rotated = await visitor.post(f"{here}/rotate", {})
            assert rotated.html.count("whsec_") == 1
            assert "the secret of before signs" in rotated.html
            tested = await visitor.post(f"{here}/test", {})
            assert "did not take the test" in said(tested)
            assert "removed" in await done(visitor, f"{here}/remove", {})
            assert "whsec_" not in "".join([(await visitor.get(page)).html for page in PAGES])

            ordered = world.events()[world.events().index(first) + 1 :]
            kinds = (
                *(RecipientSuppressed, RecipientUnsuppressed, DomainForwardSet, DomainForwardSet),
                *(WebhookAdded, WebhookPaused, WebhookResumed, WebhookRewound, WebhookSecretRotated),
                WebhookRemoved,
            )
            mine = [event for event in ordered if isinstance(event, kinds)]
            assert [type(event) for event in mine] == list(kinds)
            assert {event.key_id for event in mine} == {first.key_id}

    run(main)


def test_a_key_is_shown_once_and_revoked_with_all_that_came_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = await signed_in(world)
            made = await visitor.post("/keys", {"scope": "full", "category": ""})
            (key,) = re.findall(r"atmos_[A-Za-z0-9_-]+", made.html)
            assert made.headers["cache-control"] == "no-store"
            (issued,) = [event for event in world.events() if isinstance(event, KeyIssued)][1:]
            other = Visitor(world)
            await other.sign_in(key=key)
            await other.post("/keys", {"scope": "send", "category": "verification"})
            pages = "".join([(await visitor.get(page)).html for page in PAGES])
            assert "atmos_" not in pages
            asked = await visitor.get(f"/keys/{issued.key_id}/revoke")
            assert "It has made 1 active key" in asked.html
            assert "It is the key of this session" in (await other.get(f"/keys/{issued.key_id}/revoke")).html
            not_itself = await other.post(f"/keys/{issued.key_id}/revoke", {})
            assert (
                not_itself.status,
                "would revoke the key that you are asking with" in said(not_itself),
            ) == (
                409,
                True,
            )
            assert "revoked" in await done(visitor, f"/keys/{issued.key_id}/revoke", {"all_of_it": "yes"})
            revoked = [event for event in world.events() if isinstance(event, KeyRevoked)]
            assert len(revoked) == 2
            assert {event.revoked_by for event in revoked} == {issued.issued_by}
            assert (await other.get("/keys")).status == 303, "a session ends with its key"

    run(main)


def test_what_is_anothers_is_not_found_and_what_a_key_may_not_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = await signed_in(world)
            made = await visitor.post("/webhooks", {"url": HOOK})
            (webhook_id,) = set(re.findall(r"wh[a-z2-7]{22}", made.html))
            (key_id,) = [event.key_id for event in world.events() if isinstance(event, KeyIssued)]
            theirs = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            other = Visitor(world)
            await other.sign_in(OTHER_DID, theirs["Authorization"].removeprefix("Bearer "))
            events = world.events()
            for path in (f"/domains/{DOMAIN}", f"/keys/{key_id}/revoke", f"/webhooks/{webhook_id}"):
                assert (await other.get(path)).status == 404, path
            for path, form in (
                (f"/domains/{DOMAIN}/look", {}),
                (f"/keys/{key_id}/revoke", {}),
                *(
                    (f"/webhooks/{webhook_id}/{verb}", {"from": "0"})
                    for verb in ("pause", "replay", "rotate")
                ),
                *((f"/webhooks/{webhook_id}/{verb}", {}) for verb in ("remove", "test")),
            ):
                assert (await other.post(path, form)).status == 404, path
            forward = {"domain": DOMAIN, "to": "mine@example.org"}
            assert (await other.post("/forwarding", forward)).status == 403
            assert world.events() == events

            made = await visitor.post("/keys", {"scope": "send", "category": ""})
            (key,) = re.findall(r"atmos_[A-Za-z0-9_-]+", made.html)
            sender = Visitor(world)
            await sender.sign_in(DID, key)
            assert (await sender.get("/suppressions")).status == 200
            for path in ("/domains", "/keys", "/webhooks"):
                refused = await sender.get(path)
                assert (refused.status, "has the scope" in refused.html) == (403, True), path
            assert (await sender.post("/suppressions", {"recipient": "b@example.org"})).status == 403

    run(main)


def test_the_list_goes_on_where_a_page_ends_and_a_refused_form_keeps_what_was_typed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = await signed_in(world)
            token = re.search(r'name="token" value="(\w+)"', (await visitor.get("/")).html)
            assert token is not None
            for number in range(51):
                address = {"recipient": f"r{number}@example.org"}
                assert (await visitor.post("/suppressions", address, token=token[1])).status == 303
            first = await visitor.get("/suppressions")
            (following,) = re.findall(r'href="(\?after=\d+)" rel="next"', first.html)
            second = await visitor.get(f"/suppressions{following}")
            found = [
                set(
                    re.findall(r"recipient=(r\d+)%40", page.html)
                    or re.findall(r"recipient=(r\d+)@", page.html)
                )
                for page in (first, second)
            ]
            assert [len(some) for some in found] == [50, 1]
            assert len(found[0] | found[1]) == 51
            wrong = await visitor.post("/suppressions", {"recipient": "no address", "note": "why"})
            assert wrong.status == 400
            assert 'value="no address"' in wrong.html
            assert 'value="why"' in wrong.html
            assert (await visitor.get("/suppressions?after=x")).status == 400

    run(main)
