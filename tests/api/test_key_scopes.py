"""What a key may be used for, whatever path it comes by; and what its category does to sends that name none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.api.app import OPERATIONS
from relay.principals import FULL, Principal
from relay.refusals import Refusal
from relay.self_service import Suppress
from relay.times import DAY_US, rfc3339
from relay.webhooks.attempts import WebhookAttempt
from tests.world.process import configure
from tests.world.relay import DID, DOMAIN, EPOCH_US, World, make_directory, open_world, run
from tests.world.stream import open_stream

#: What a key of scope `send` is refused: each with a request that is right but for the key.
REFUSED: dict[str, tuple[str, str, Any]] = {
    "setForwardTo": ("PUT", "/member/forward-to", {"domain": DOMAIN, "forward_to": "me@example.com"}),
    "suppress": ("POST", "/v1/suppressions", {"recipient": "a@example.com"}),
    "unsuppress": ("DELETE", "/v1/suppressions/b@example.com", None),
    "listDomains": ("GET", "/v1/domains", None),
    "enrolDomain": ("POST", "/v1/domains", {"domain": "other.example"}),
    "verifyDomain": ("POST", f"/v1/domains/{DOMAIN}/verify", None),
    "listKeys": ("GET", "/v1/keys", None),
    "issueKey": ("POST", "/v1/keys", {}),
    "revokeKey": ("DELETE", "/v1/keys/{key}", None),
    "listWebhooks": ("GET", "/v1/webhooks", None),
    "addWebhook": ("POST", "/v1/webhooks", {"url": "https://yourdomain.com/hook"}),
    "getWebhook": ("GET", "/v1/webhooks/{webhook}", None),
    "pauseWebhook": ("POST", "/v1/webhooks/{webhook}/pause", None),
    "resumeWebhook": ("POST", "/v1/webhooks/{webhook}/resume", None),
    "rotateWebhookSecret": ("POST", "/v1/webhooks/{webhook}/rotate", None),
    "replayWebhook": ("POST", "/v1/webhooks/{webhook}/replay", {"from": 0}),
    "testWebhook": ("POST", "/v1/webhooks/{webhook}/test", None),
    "listWebhookAttempts": ("GET", "/v1/webhooks/{webhook}/attempts", None),
    "removeWebhook": ("DELETE", "/v1/webhooks/{webhook}", None),
}
MAIL = {"from": f"you@{DOMAIN}", "to": "a@example.com", "subject": "s", "text": "t"}
LATER = rfc3339(EPOCH_US + 20 * DAY_US)
#: What it may.
MAY: dict[str, tuple[str, str, Any]] = {
    "send": ("POST", "/v1/send", MAIL),
    "sendBatch": ("POST", "/v1/batch", {"messages": [MAIL]}),
    "rescheduleMessage": ("PATCH", "/v1/messages/{waiting}", {"scheduledAt": LATER}),
    "cancelMessage": ("POST", "/v1/messages/{waiting}/cancel", None),
    "sendEmail": ("POST", "/emails", MAIL),
    "sendEmails": ("POST", "/emails/batch", [MAIL]),
    "getEmail": ("GET", "/emails/{email}", None),
    "updateEmail": ("PATCH", "/emails/{email}", {"scheduled_at": LATER}),
    "cancelEmail": ("POST", "/emails/{email}/cancel", None),
    "listMessages": ("GET", "/v1/messages", None),
    "getMessage": ("GET", "/v1/messages/{message}", None),
    "memberStatus": ("GET", "/member/status", None),
    "memberDeliverability": ("GET", "/member/deliverability", None),
    "listSuppressions": ("GET", "/v1/suppressions", None),
    "listEvents": ("GET", "/v1/events", None),
    "streamTicket": ("POST", "/v1/stream/ticket", None),
}


class NobodyThere:
    """In place of the task that tells events to webhooks: their endpoints do not answer."""

    def told_seq(self, webhook_id: str) -> None:
        return None

    def attempts(self, webhook_id: str) -> list[WebhookAttempt]:
        return []

    async def test(self, webhook_id: str) -> WebhookAttempt:
        return WebhookAttempt(at_us=0, is_test=True, error="timeout")


async def with_key(world: World, **options: Any) -> dict[str, str]:
    """Credentials by another key of the member."""
    issued = await world.command("key_issue", did=DID, **options)
    return {**world.credentials, "Authorization": f"Bearer {issued['apiKey']}"}


def test_every_operation_of_a_member_is_in_one_of_the_two_tables() -> None:
    members = {each.name for each in OPERATIONS if each.for_members and each.handler is not None}
    # Without a websocket it answers that there is none, whoever asks; with one it is below.
    assert members - {"stream"} == REFUSED.keys() | MAY.keys()


def test_a_key_to_send_with_sends_and_reads_and_changes_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(directory, members="self_service = true")
        async with open_world(directory) as world:
            world.credentials, full = await with_key(world, scope="send"), world.credentials
            key = (await world.command("key_issue", did=DID))["keyId"]
            message = await world.send(to="first@example.com")
            await world.until_final(message)
            method, path, body = REFUSED["addWebhook"]
            _, hook, _ = await world.request(method, path, json=body, headers=full)
            world.core.webhooks = NobodyThere()
            there = {"key": key, "webhook": hook["webhookId"]}
            added = {"recipient": "b@example.com"}
            assert (await world.request("POST", "/v1/suppressions", json=added, headers=full))[0] == 201
            waiting = [await world.send(scheduledAt=rfc3339(EPOCH_US + 10 * DAY_US)) for _ in range(2)]
            for name, (method, path, body) in MAY.items():
                asked = path.format(message=message, waiting=waiting[0], email=waiting[1] - 1)
                status, answer, _ = await world.request(method, asked, json=body)
                assert status == 200, (name, answer)
            async with open_stream(world, cursor=0) as stream:
                assert (await stream.next())["type"] == "member.added"
            before = world.core.store.last_seq
            for name, (method, path, body) in REFUSED.items():
                status, answer, _ = await world.request(method, path.format(**there), json=body)
                assert (status, answer["code"]) == (403, "SCOPE_INSUFFICIENT"), name
                assert "scope `full`" in answer["error"]
            assert world.core.store.last_seq == before
            world.credentials = full
            for name, (method, path, body) in REFUSED.items():
                asked = path.format(**there)
                answered = await world.client.open(asked, method=method, json=body, headers=full)
                assert answered.status_code in (200, 201, 204), name

    run(main)


def test_a_key_of_before_there_were_scopes_is_good_for_everything(tmp_path: Path) -> None:
    """The one that enrolment gives is still such a one."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for method, path, body in (REFUSED["suppress"], REFUSED["setForwardTo"], MAY["send"]):
                assert (await world.request(method, path, json=body))[0] in (200, 201)

    run(main)


@pytest.mark.parametrize(
    ("of_key", "named", "expected"),
    [
        (None, None, "bulk"),
        (None, "mfa-otp", "mfa-otp"),
        ("verification", None, "verification"),
        ("verification", "", "verification"),
        ("verification", "bulk", "bulk"),
        ("verification", "login-link", "login-link"),
        ("broadcast", None, "broadcast"),
        ("broadcast", "transactional", "transactional"),
    ],
)
def test_the_category_of_a_send_is_its_own_or_the_keys(
    tmp_path: Path, of_key: str | None, named: str | None, expected: str
) -> None:
    """A default, and never a limit; all that hangs on the class follows."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            world.credentials = await with_key(world, category=of_key)
            message = await world.send(category=named)
            assert (await world.until_final(message))["category"] == expected
            (mail,) = world.mx.messages
            assert (b"List-Unsubscribe" in mail.data) == (expected in ("bulk", "broadcast"))

    run(main)


def test_what_the_class_reserves_goes_by_the_keys_category(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            headers = {"Return-Receipt-To": "a@example.com"}
            assert (await world.post_send(headers=headers))[0] == 400
            world.credentials = await with_key(world, category="transactional")
            assert (await world.post_send(headers=headers))[0] == 200
            assert (await world.post_send(headers=headers, category="bulk"))[0] == 400

    run(main)


def test_what_a_key_has_begun_when_it_is_revoked_it_does_not_get_done(tmp_path: Path) -> None:
    """A body takes up to four seconds; whoever has a stolen key open that long must not come out behind its end."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            issued = await world.command("key_issue", did=DID)
            thief = Principal(DID, issued["keyId"], FULL)
            wanted = Suppress(address="a@example.com")
            assert (await world.core.decide("suppress", wanted, thief)).is_new
            await world.command("key_revoke", did=DID, key_id=issued["keyId"])
            before = world.core.store.last_seq
            with pytest.raises(Refusal) as refused:
                await world.core.decide("suppress", Suppress(address="b@example.com"), thief)
            assert refused.value.code == "AUTH_FAILED"
            (owner,) = [
                event.key_id
                for event in world.events()
                if event.TYPE == "key.issued" and event.key_id != thief.key_id
            ]
            await world.command("member_suspend", did=DID)
            with pytest.raises(Refusal) as refused:
                await world.core.decide("suppress", wanted, Principal(DID, owner, FULL))
            assert refused.value.code == "MEMBER_SUSPENDED"
            assert world.core.store.last_seq == before + 1

    run(main)
