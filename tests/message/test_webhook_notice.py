"""The mail that tells that a webhook is disabled: what it looks like, who gets it, and that its bytes are proved."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path

import pytest
import trio

from relay.events import NOBODY, WebhookDisabled, WebhookNoticeQueued
from relay.message.signing import verify
from relay.quota import WEBHOOK_NOTICES_PER_DAY
from relay.webhooks.notices import with_mails
from tests.golden_messages.notices import WEBHOOK_NOTICES, signed_webhook_notice
from tests.golden_messages.stories import HERE, RECORDS
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run

URL = "https://yourdomain.com/hook?token=1"


@pytest.mark.parametrize("name", WEBHOOK_NOTICES)
def test_golden_notices(name: str) -> None:
    signed = signed_webhook_notice(WEBHOOK_NOTICES[name])
    assert signed == (HERE / f"{name}.eml").read_bytes()
    assert all(verdict.valid for verdict in verify(signed, RECORDS.get))


async def disable(world: World, webhook_id: str, did: str = DID) -> list[WebhookNoticeQueued]:
    """Its endpoint is gone, and its owner is told."""
    disabled = WebhookDisabled(did=did, webhook_id=webhook_id, because="gone", until_seq=3, http_status=410)
    core = world.core
    recorded = await core.store.decide(lambda view: with_mails(core, view, [disabled]))
    first, *mails = recorded
    assert first.event == disabled
    return [item.event for item in mails]


def test_it_goes_once_to_each_mailbox_that_is_told_of_bounces_and_wants_to_be(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="domains_max = 3")
        async with open_world(directory) as world:
            _, made, _ = await world.request("POST", "/v1/webhooks", json={"url": URL})
            assert await disable(world, made["webhookId"]) == []  # there is no mailbox
            for domain in ("b.example", "c.example"):
                await world.command("domain_add", did=DID, domain=domain)
            for domain in (DOMAIN, "b.example"):
                await world.command("domain_set_forward", domain=domain, to="me@elsewhere.example")
            # Its owner has not confirmed it.
            asked = {"domain": "c.example", "forward_to": "other@elsewhere.example"}
            await world.request("PUT", "/member/forward-to", json=asked)
            # Another member's are none of its business.
            await world.enrol(OTHER_DID, OTHER_DOMAIN)
            await world.command("domain_set_forward", domain=OTHER_DOMAIN, to="them@elsewhere.example")
            begin = world.core.store.last_seq
            (mail,) = await disable(world, made["webhookId"])
            assert mail.personal is not None
            assert (mail.did, mail.personal.address) == (DID, "me@elsewhere.example")
            shown = await world.until_final(begin + 2)
            assert (shown["status"], shown["category"]) == ("sent", "webhook")
            assert shown["subject"] == "A webhook is disabled"
            (sent,) = [one for one in world.mx.messages if one.rcpt_to == ("me@elsewhere.example",)]
            assert sent.mail_from == ""
            read = email.message_from_bytes(sent.data, policy=email.policy.default)
            assert read["Auto-Submitted"] == "auto-generated"
            text = read.get_content()
            assert f"/v1/webhooks/{made['webhookId']}/resume" in text
            assert "HTTP 410" in text
            assert "token=1" not in text

    run(main)


def test_no_mail_goes_to_who_is_on_a_suppression_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, made, _ = await world.request("POST", "/v1/webhooks", json={"url": URL})
            await world.command("domain_set_forward", domain=DOMAIN, to="me@elsewhere.example")
            await world.request("POST", "/v1/suppressions", json={"recipient": "Me@elsewhere.example"})
            assert await disable(world, made["webhookId"]) == []

    run(main)


def test_of_the_operators_own_the_operator_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, inbound='operator_mailbox = "ops@elsewhere.example"')
        async with open_world(directory) as world:
            made = await world.command("webhook_add", url=URL)
            (mail,) = await disable(world, made["webhookId"], NOBODY)
            assert mail.personal is not None
            assert (mail.did, mail.personal.address) == (NOBODY, "ops@elsewhere.example")

    run(main)


def test_who_resumes_it_again_and_again_fills_no_mailbox(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, made, _ = await world.request("POST", "/v1/webhooks", json={"url": URL})
            await world.command("domain_set_forward", domain=DOMAIN, to="me@elsewhere.example")
            mails = []
            for _ in range(3 * WEBHOOK_NOTICES_PER_DAY):
                mails += await disable(world, made["webhookId"])
                await world.request("POST", f"/v1/webhooks/{made['webhookId']}/resume")
            assert len(mails) == WEBHOOK_NOTICES_PER_DAY
            await trio.sleep(24 * 3600)
            assert len(await disable(world, made["webhookId"])) == 1

    run(main)
