"""`/v1/webhooks`: a member adds, sees, pauses, rewinds and removes its webhooks; and what it cannot."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.events import WebhookDisabled, WebhookEvent, WebhookProgressed
from relay.message.keys import Pepper
from relay.webhooks.attempts import WebhookAttempt
from relay.webhooks.secrets import ed25519_key, hmac_key, public_key_text, secret_text
from tests.world.process import configure
from tests.world.relay import DID, OTHER_DID, OTHER_DOMAIN, World, make_directory, open_world, run

PATH = "/v1/webhooks"
URL = "https://yourdomain.com/hook?token=1"


async def add(world: World, expected: int = 201, **body: Any) -> Any:
    status, answer, _ = await world.request("POST", PATH, json={"url": URL, **body})
    assert status == expected, answer
    return answer


async def order(world: World, webhook: Any, what: str, expected: int = 200, **body: Any) -> Any:
    """POST .../{id}/{what}, or DELETE and GET of the webhook itself."""
    method, _, path = what.rpartition(" ")
    status, answer, _ = await world.request(
        method or "POST",
        f"{PATH}/{webhook['webhookId']}{path and '/' + path}",
        **({"json": body} if body else {}),
    )
    assert status == expected, answer
    return answer


async def listed(world: World) -> Any:
    _, answer, _ = await world.request("GET", PATH)
    return answer["webhooks"]


def own_events(world: World) -> list[str]:
    return [event.TYPE for event in world.events() if isinstance(event, WebhookEvent)]


def pepper_of(world: World) -> Pepper:
    pepper: Pepper = world.core.pepper.numbered(1)
    return pepper


def test_a_webhook_is_added_seen_and_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            last = world.core.store.last_seq
            types = ["message.bounced", "message.sent", "message.bounced"]
            status, made, headers = await world.request(
                "POST", PATH, json={"url": URL, "types": types, "batch": 10, "from": 1}
            )
            assert (status, headers["cache-control"]) == (201, "no-store")
            assert made["secret"] == secret_text(hmac_key(pepper_of(world), made["webhookId"], 1))
            assert made["publicKey"] is None
            assert len(base64.b64decode(made["secret"].removeprefix("whsec_"))) == 32
            (shown,) = await listed(world)
            assert shown == {
                name: value for name, value in made.items() if name not in ("secret", "publicKey")
            }
            assert (shown["url"], shown["types"], shown["batch"]) == (
                URL,
                ["message.bounced", "message.sent"],
                10,
            )
            assert (shown["status"], shown["cursor"], shown["replay"]) == ("active", 1, None)
            assert await order(world, made, "GET ") == shown
            # Where nothing is said it begins now, and tells everything one by one.
            plain = await add(world, ed25519=True)
            assert (plain["types"], plain["batch"], plain["cursor"]) == ([], 1, last + 1)
            assert plain["publicKey"] == public_key_text(ed25519_key(pepper_of(world), plain["webhookId"], 1))
            assert [each["webhookId"] for each in await listed(world)] == [
                made["webhookId"],
                plain["webhookId"],
            ]
            assert await order(world, made, "DELETE ") == {
                "webhookId": made["webhookId"],
                "status": "removed",
            }
            assert [each["webhookId"] for each in await listed(world)] == [plain["webhookId"]]
            await order(world, made, "GET ", 404)
            await order(world, made, "DELETE ", 404)

    run(main)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (
            {"types": ["message.bounce"]},
            "types: 'message.bounce' is no event of the stream; did you mean `message.bounced`?",
        ),
        ({"types": ["send.accepted"]}, "types: 'send.accepted' is no event of the stream"),
        ({"types": ["webhook.paused"]}, "types: 'webhook.paused' is no event of the stream"),
        ({"batch": 0}, "batch: "),
        ({"batch": 101}, "batch: "),
        ({"from": -1}, "from: "),
        ({"from": "yesterday"}, "from: 'yesterday' is neither a number nor now"),
        ({"from": 10**6}, "from: is beyond the last event"),
        ({"cursor": 1}, "cursor: write `from`"),
        ({"url": "http://yourdomain.com/"}, "url: the URL does not begin with https://HOST"),
        ({"url": "https://localhost/"}, "url: the URL's host is neither"),
        ({"url": "https://127.0.0.1/"}, "url: the URL's host is a loopback address"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url: the URL's host is a private address"),
        ({"url": "https://169.254.169.254/latest"}, "url: the URL's host is a link-local address"),
        ({"url": "https://a:b@yourdomain.com/"}, "url: the URL has a user name"),
        ({"url": "https://yourdomain.com/\r\nX: y"}, "url: the URL has a character"),
        ({"url": "ftp://yourdomain.com/"}, "url: the URL does not begin with"),
        ({"url": "https://yourdomain.com/" + "x" * 4096}, "url: the URL is longer"),
    ],
)
def test_what_is_wrong_is_named_and_adds_nothing(tmp_path: Path, body: Any, named: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answer = await add(world, 400, **body)
            assert answer["error"].startswith(named)
            assert await listed(world) == own_events(world) == []

    run(main)


def test_there_are_ten_at_most(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            answers: list[int] = []

            async def one() -> None:
                status, _, _ = await world.request("POST", PATH, json={"url": URL})
                answers.append(status)

            async with trio.open_nursery() as nursery:
                for _ in range(14):
                    nursery.start_soon(one)
            assert sorted(answers) == [201] * 10 + [409] * 4
            first, *_ = await listed(world)
            await order(world, first, "DELETE ")
            await add(world)

    run(main)


def test_another_members_webhook_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            made = await add(world)
            before = world.core.store.last_seq
            other = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            enrolled = world.core.store.last_seq
            assert enrolled > before
            world.credentials = other
            assert await listed(world) == []
            for what in ("GET ", "DELETE ", "pause", "resume", "rotate", "test", "GET attempts"):
                await order(world, made, what, 404)
            await order(world, made, "replay", 404, **{"from": 0})
            for nonsense in ("x", "wh" + "a" * 600, "wh%00", "whabcdefghijklmnop234567"):
                assert (await world.request("GET", f"{PATH}/{nonsense}"))[0] == 404
            assert world.core.store.last_seq == enrolled

    run(main)


def test_paused_and_resumed_and_an_order_given_twice_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            made = await add(world)
            for _ in range(2):
                assert (await order(world, made, "pause"))["status"] == "paused"
            for _ in range(2):
                assert (await order(world, made, "resume"))["status"] == "active"
            assert own_events(world) == ["webhook.added", "webhook.paused", "webhook.resumed"]

    run(main)


def test_what_is_disabled_says_why_is_not_paused_and_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            made = await add(world, **{"from": 0})
            gone = WebhookDisabled(
                did=DID, webhook_id=made["webhookId"], because="gone", until_seq=0, http_status=410
            )
            await world.core.store.append([gone])
            shown = await order(world, made, "GET ")
            assert (shown["status"], shown["disabledBecause"], shown["cursor"]) == ("disabled", "gone", 0)
            assert (shown["lastFailure"]["httpStatus"], shown["lastFailure"]["error"]) == (410, None)
            assert (await order(world, made, "pause", 409))["code"] == "CONFLICT"
            shown = await order(world, made, "resume")
            assert (shown["status"], shown["disabledBecause"]) == ("active", None)

    run(main)


def test_a_secret_is_rotated_and_the_one_before_it_signs_for_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            made = await add(world, ed25519=True)
            await world.command("pepper_rotate")
            rotated = await order(world, made, "rotate")
            assert rotated["secretVersion"] == 2
            assert rotated["previousSecretUntil"] > rotated["addedAt"]
            second = world.core.pepper.numbered(2)
            assert rotated["secret"] == secret_text(hmac_key(second, made["webhookId"], 2))
            assert rotated["publicKey"] == public_key_text(ed25519_key(second, made["webhookId"], 2))
            assert "secret" not in await order(world, made, "GET ")

    run(main)


def test_events_are_told_again_as_far_as_they_were_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            # Paused: nothing but what is said here moves it.
            made = await add(world, **{"from": 0})
            await order(world, made, "pause")
            progressed = WebhookProgressed(did=DID, webhook_id=made["webhookId"], until_seq=3)
            await world.core.store.append([progressed])
            assert (await order(world, made, "replay", **{"from": 0}))["replay"] == {"from": 0, "to": 3}
            assert (await order(world, made, "replay", **{"from": 1, "to": 2}))["replay"] == {
                "from": 1,
                "to": 2,
            }
            assert (await order(world, made, "replay", **{"from": 1, "to": 5}))["replay"] == {
                "from": 1,
                "to": 3,
            }
            for body, named in [
                ({"from": 3}, "from: it has got to 3"),
                ({"from": 2, "to": 2}, "to: nothing is behind 2"),
                ({"from": 10**6}, "from: is beyond"),
                ({"from": 0, "to": 10**6}, "to: is beyond"),
            ]:
                answer = await order(world, made, "replay", 400, **body)
                assert answer["error"].startswith(named)
            shown = await order(world, made, "GET ")
            assert (shown["cursor"], shown["replay"]) == (3, {"from": 1, "to": 3})

    run(main)


class NobodyThere:
    """In place of the task that tells events to webhooks: endpoints do not answer."""

    def __init__(self) -> None:
        self.tested: list[str] = []

    def told_seq(self, webhook_id: str) -> None:
        return None

    def attempts(self, webhook_id: str) -> list[WebhookAttempt]:
        return [WebhookAttempt(at_us=at, first_seq=at, last_seq=at, http_status=200) for at in (1, 2)]

    async def test(self, webhook_id: str) -> WebhookAttempt:
        self.tested.append(webhook_id)
        return WebhookAttempt(at_us=0, is_test=True, error="timeout")


def test_it_is_tested_once_in_ten_seconds_and_its_last_requests_are_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            world.core.webhooks = nobody = NobodyThere()
            made = await add(world)
            tested = await order(world, made, "test")
            assert (tested["isTest"], tested["taken"], tested["error"]) == (True, False, "timeout")
            another = await add(world)
            for each in (made, another):
                refused = await order(world, each, "test", 429)
                assert refused["code"] == "RATE_LIMITED"
                assert "a webhook of this owner's was tested" in refused["error"]
            await trio.sleep(10)
            await order(world, made, "test")
            assert nobody.tested == [made["webhookId"]] * 2
            attempts = (await order(world, made, "GET attempts"))["attempts"]
            assert [(each["lastSeq"], each["taken"]) for each in attempts] == [(2, True), (1, True)]

    run(main)


def test_where_http_and_private_addresses_are_allowed_the_operator_says_and_for_whom(tmp_path: Path) -> None:
    async def main() -> None:
        directory = make_directory(tmp_path / "data")
        configure(
            directory,
            webhooks=f'allow = ["127.0.0.1:9000", "{DID} 127.0.0.1:9001", "{OTHER_DID} 10.0.0.1:80"]',
        )
        async with open_world(directory) as world:
            for url in ("http://127.0.0.1:9001/a", "https://127.0.0.1:9001/a"):
                await add(world, url=url)
            for url in (
                "http://127.0.0.1:9000/",  # the operator's
                "http://127.0.0.1:9002/",
                "http://127.0.0.1/",
                "http://127.0.0.1:9001@example.com/",
                "http://10.0.0.1/",  # another member's
            ):
                await add(world, 400, url=url)
            world.credentials = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            await add(world, url="http://10.0.0.1/")
            await add(world, 400, url="http://127.0.0.1:9001/")

    run(main)


def test_revoking_a_key_with_all_of_it_ends_its_webhooks_and_without_it_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            (own,) = (await world.request("GET", "/v1/keys"))[1]["keys"]
            kept = await add(world)
            _, key, _ = await world.request("POST", "/v1/keys", json={})
            first = world.credentials
            world.credentials = {**first, "Authorization": f"Bearer {key['apiKey']}"}
            made = await add(world)
            assert made["keyId"] == key["keyId"]
            world.credentials = first
            await world.request("DELETE", f"/v1/keys/{key['keyId']}")
            assert len(await listed(world)) == 2
            # Also afterwards.
            status, answer, _ = await world.request("DELETE", f"/v1/keys/{key['keyId']}?allOfIt=1")
            assert status == 200, answer
            assert [each["webhookId"] for each in await listed(world)] == [kept["webhookId"]]
            status, answer, _ = await world.request("DELETE", f"/v1/keys/{key['keyId']}?allOfIt=1")
            assert (status, answer["code"]) == (409, "CONFLICT")
            assert own["keyId"] == kept["keyId"]

    run(main)


def test_a_webhook_of_a_key_that_a_key_has_made_came_of_the_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            first = world.credentials
            _, key, _ = await world.request("POST", "/v1/keys", json={})
            world.credentials = {**first, "Authorization": f"Bearer {key['apiKey']}"}
            _, other, _ = await world.request("POST", "/v1/keys", json={"scope": "full"})
            world.credentials = {**first, "Authorization": f"Bearer {other['apiKey']}"}
            made = await add(world)
            world.credentials = first
            status, answer, _ = await world.request("DELETE", f"/v1/keys/{key['keyId']}?allOfIt=1")
            assert status == 200
            assert answer["webhooks"] == [{"webhookId": made["webhookId"], "status": "removed"}]
            assert await listed(world) == []

    run(main)


def test_a_member_that_is_removed_takes_its_webhooks_along_and_their_urls_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            made = await add(world)
            await order(world, made, "DELETE ")
            await add(world)
            await world.command("member_remove", did=DID)
            assert own_events(world) == ["webhook.added", "webhook.removed"] * 2
            await world.command("log_strip", older_than=1)
            assert [event.personal.url for event in world.events() if event.TYPE == "webhook.added"] == [
                URL,
                URL,
            ]
            await trio.sleep(2 * 24 * 3600)
            await world.command("log_strip", older_than=1)
            assert [event.personal for event in world.events() if event.TYPE == "webhook.added"] == [
                None,
                None,
            ]

    run(main)


def test_the_url_of_a_webhook_that_is_used_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            made = await add(world)
            await trio.sleep(2 * 24 * 3600)
            await world.command("log_strip", older_than=1)
            assert (await order(world, made, "GET "))["url"] == URL

    run(main)
