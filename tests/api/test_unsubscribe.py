"""One-click unsubscribe, through the relay: the link out of a delivered mail suppresses, and nothing else does.

RFC 8058 and SPEC 3.3. What people see is looked at in a browser, in test_unsubscribe_page.py.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relay.codec import Recorded
from relay.events import Event, RecipientSuppressed, SendAccepted
from relay.file_names import VIEWS_DIRECTORY
from relay.message.tokens import SEAL_KEY_OCTETS, Unsubscribe, UnsubscribeTokens
from spool.errors import LogPoisonedError
from tests.world.one_click import FORM, ONE_CLICK, delivered, one_click, visit
from tests.world.relay import DID, DOMAIN, OTHER_DID, World, open_world, run

ADDRESS = "friend@example.com"
MULTIPART = (
    b'--cut\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--cut--\r\n'
)


def suppressed(world: World) -> list[RecipientSuppressed]:
    return [event for event in world.events() if isinstance(event, RecipientSuppressed)]


# ------------------------------------------------------------------------------------------------ what suppresses


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", ONE_CLICK),
        ("application/x-www-form-urlencoded; charset=utf-8", b"more=1&List-Unsubscribe=One-Click"),
        ("multipart/form-data; boundary=cut", MULTIPART),
        ('Multipart/Form-Data; Boundary="cut"', MULTIPART),
    ],
)
def test_the_link_out_of_a_received_mail_suppresses(tmp_path: Path, content_type: str, body: bytes) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id, path = await delivered(world)
            page = await visit(world, "POST", path, headers={"Content-Type": content_type}, data=body)
            assert page.status == 200
            assert "You are unsubscribed" in page.text
            (event,) = suppressed(world)
            assert (event.did, event.reason, event.message_id) == (DID, "unsubscribe", message_id)
            assert event.personal is not None
            assert event.personal.address == ADDRESS
            assert event.call_at is None

    run(main)


def test_who_unsubscribed_gets_no_more_bulk_mail_but_can_still_log_in(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            await one_click(world, path)
            status, answer = await world.post_send(to=[ADDRESS, "other@example.com"])
            assert status == 200
            assert [accepted["recipient"] for accepted in answer["accepted"]] == ["other@example.com"]
            (rejected,) = answer["rejected"]
            assert (rejected["recipient"], rejected["code"]) == (ADDRESS, "RECIPIENT_SUPPRESSED")
            assert rejected["reason"] == rejected["error"]
            status, answer = await world.post_send(category="login-link")
            assert [accepted["recipient"] for accepted in answer["accepted"]] == [ADDRESS]

    run(main)


def test_a_repeat_changes_nothing_and_gets_the_same_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            first = await one_click(world, path)
            seq = world.core.store.last_seq
            assert (await one_click(world, path))[:2] == first[:2]
            assert world.core.store.last_seq == seq

    run(main)


def test_ten_clicks_at_once_are_one_event(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one_click, world, path)
            assert len(suppressed(world)) == 1

    run(main)


def test_a_link_works_again_after_the_member_took_the_suppression_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            await one_click(world, path)
            await world.client.delete(f"/v1/suppressions/{ADDRESS}", headers=world.credentials)
            assert (await world.post_send())[1]["rejected"] == []
            await one_click(world, path)
            assert len((await world.post_send())[1]["rejected"]) == 1

    run(main)


def test_suppression_and_links_survive_the_loss_of_the_views(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            credentials = world.credentials
            _, path = await delivered(world)
            _, other = await delivered(world, to="other@example.com")
            await one_click(world, path)
        shutil.rmtree(tmp_path / "data" / VIEWS_DIRECTORY)
        async with open_world(tmp_path / "data", enrol=False) as world:
            world.credentials = credentials
            assert len((await world.post_send())[1]["rejected"]) == 1
            await one_click(world, path)
            assert len(suppressed(world)) == 1
            await one_click(world, other)
            assert len((await world.post_send(to="other@example.com"))[1]["rejected"]) == 1

    run(main)


OWN_LINK = {"headers": {"List-Unsubscribe": "<https://member.example/off?u=1>, <mailto:off@member.example>"}}


def test_a_member_that_brought_its_own_link_is_to_be_called(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world, **OWN_LINK)
            now = world.core.store.now_us()
            await one_click(world, path)
            (event,) = suppressed(world)
            assert event.call_at is not None
            assert event.call_at >= now

    run(main)


def test_a_link_works_when_what_was_personal_in_its_message_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world, **OWN_LINK)
            store = world.core.store
            whole = store.get

            def stripped(seq: int) -> Recorded:
                recorded: Recorded = whole(seq)
                if isinstance(recorded.event, SendAccepted):
                    bare: Event = msgspec.structs.replace(recorded.event, personal=None)
                    return recorded._replace(event=bare)
                return recorded

            monkeypatch.setattr(store, "get", stripped)
            assert DOMAIN in (await visit(world, "GET", path)).text
            await one_click(world, path)
            (event,) = suppressed(world)
            # Nobody knows any more where the member wanted to hear of it.
            assert event.call_at is None

    run(main)


def test_a_link_whose_message_is_not_in_the_log_still_suppresses(tmp_path: Path) -> None:
    """What a relay that was set up again from an older copy meets."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            token = world.core.composer.unsubscribe.seal(Unsubscribe(DID, 999_999, ADDRESS))
            assert "this sender" in (await visit(world, "GET", f"/u/{token}")).text
            assert (await one_click(world, f"/u/{token}")).status == 200
            (event,) = suppressed(world)
            assert event.message_id is None

    run(main)


# ------------------------------------------------------------------------------------------------ what does not


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_at_the_page_changes_nothing(tmp_path: Path, method: str) -> None:
    """Link scanners open every link in a mail, also with the query that a form would send."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            seq = world.core.store.last_seq
            for query in ("", "?List-Unsubscribe=One-Click"):
                page = await visit(world, method, path + query)
                assert page.status == 200
            assert world.core.store.last_seq == seq

    run(main)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b""),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=one-click"),
        ("application/x-www-form-urlencoded", b"List-Unsubscribe="),
        ("application/x-www-form-urlencoded", b"list-unsubscribe=One-Click"),
        ("application/x-www-form-urlencoded", b"\xff\xfe%zz"),
        ("application/json", json.dumps({"List-Unsubscribe": "One-Click"}).encode()),
        ("multipart/form-data", MULTIPART),
        ("multipart/form-data; boundary=other", MULTIPART),
        ("multipart/form-data; boundary=c\xfct", MULTIPART),
        ("multipart/form-data; boundary=cut", MULTIPART[:60]),
        ("multipart/form-data; boundary=cut", b"\x00" * 100),
        ("text/plain", b"--"),
        ("text/plain", b"--\r\n--\r\n----"),
        ("text/plain", MULTIPART[:60]),
        ("text/plain", b"--" + b"x" * 4000 + b"\r\n" + MULTIPART),
        ("text/plain", MULTIPART.replace(b"--cut", b"--c\xfct").replace(b"One-Click", b"one")),
    ],
)
def test_a_post_without_the_body_of_rfc_8058_is_400(tmp_path: Path, content_type: str, body: bytes) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            headers = {"Content-Type": content_type} if content_type else {}
            page = await visit(world, "POST", path, headers=headers, data=body)
            assert page.status == 400
            assert suppressed(world) == []

    run(main)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", ONE_CLICK),
        ("", ONE_CLICK),
        ("application/octet-stream", ONE_CLICK),
        ("application/x-www-form-urlencoded", ONE_CLICK + b"\r\n"),
        ("text/plain; charset=utf-8", ONE_CLICK + b"\n"),
        ("multipart/form-data", ONE_CLICK),
        ("multipart/form-data; boundary=cut", ONE_CLICK),
        (None, MULTIPART),
        ("text/plain", MULTIPART),
        ("application/x-www-form-urlencoded", MULTIPART),
    ],
)
def test_the_right_body_is_taken_whatever_it_calls_itself(
    tmp_path: Path, content_type: str, body: bytes
) -> None:
    """Mail clients send it so. Whoever clicked is not to stay subscribed for want of a header."""

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            headers = {"Content-Type": content_type} if content_type else {}
            page = await visit(world, "POST", path, headers=headers, data=body)
            assert page.status == 200
            assert suppressed(world) != []

    run(main)


def test_a_body_larger_than_any_click_is_413(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            for padding in (8 * 1024, 2 * 1024 * 1024):
                body = ONE_CLICK + b"&x=" + b"x" * padding
                assert (await visit(world, "POST", path, headers=FORM, data=body)).status == 413
            parts = MULTIPART.removesuffix(b"--cut--\r\n") * 30 + b"--cut--\r\n"
            headers = {"Content-Type": "multipart/form-data; boundary=cut"}
            assert (await visit(world, "POST", path, headers=headers, data=parts)).status == 413
            assert suppressed(world) == []

    run(main)


async def assert_powerless(world: World, token: str) -> None:
    for method in ("GET", "POST"):
        page = await visit(world, method, f"/u/{token}", headers=FORM, data=ONE_CLICK)
        assert page.status == 404, token


def test_an_altered_token_suppresses_nobody_whichever_character_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            token = path.removeprefix("/u/")
            seq = world.core.store.last_seq
            for position, character in enumerate(token):
                other = "A" if character != "A" else "B"
                await assert_powerless(world, token[:position] + other + token[position + 1 :])
            # The last character can have bits that stand for nothing: no spelling but our own is taken.
            for character in string.ascii_letters + string.digits + "-_=.~":
                if character != token[-1]:
                    await assert_powerless(world, token[:-1] + character)
            assert world.core.store.last_seq == seq

    run(main)


def test_a_truncated_or_lengthened_token_suppresses_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            token = path.removeprefix("/u/")
            seq = world.core.store.last_seq
            for length in range(1, len(token)):
                await assert_powerless(world, token[:length])
                await assert_powerless(world, token[length:])
            for more in ("A", "=", "==", "%20", "%0A", "%00", "é", token, "A" * 5000):
                await assert_powerless(world, token + more)
            assert world.core.store.last_seq == seq

    run(main)


def test_a_token_of_another_relay_or_of_nobody_suppresses_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id, path = await delivered(world)
            seq = world.core.store.last_seq
            foreign = UnsubscribeTokens(bytes(range(SEAL_KEY_OCTETS)))
            tokens = [
                foreign.seal(Unsubscribe(DID, message_id, ADDRESS)),
                secrets.token_urlsafe(len(path) * 3 // 4),
                f"{DID}-{message_id}",
                # Ours, but of somebody who is no member here.
                world.core.composer.unsubscribe.seal(Unsubscribe(OTHER_DID, message_id, ADDRESS)),
            ]
            for token in tokens:
                await assert_powerless(world, token)
            assert world.core.store.last_seq == seq

    run(main)


# ------------------------------------------------------------------------------------------------ how it is answered


def test_the_page_tells_who_sent_but_not_to_whom_or_what(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world, subject="Very private")
            asked = await visit(world, "GET", path)
            done = await one_click(world, path)
            for page in (asked, done):
                assert DOMAIN in page.text
                assert ADDRESS not in page.text
                assert "friend" not in page.text
                assert "private" not in page.text
                assert "<script" not in page.text

    run(main)


def test_every_page_says_what_a_browser_may_do_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            pages = [
                await visit(world, "GET", path),
                await one_click(world, path),
                await visit(world, "POST", path),
                await visit(world, "GET", "/u/nothing"),
                await visit(world, "DELETE", path),
            ]
            assert [page.status for page in pages] == [200, 200, 400, 404, 405]
            for page in pages:
                policy = page.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; style-src 'sha256-")
                assert policy.endswith("'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
                assert page.headers["Referrer-Policy"] == "no-referrer"
                assert page.headers["Cache-Control"] == "no-store"
                assert page.headers["X-Robots-Tag"] == "noindex, nofollow"
                assert page.headers["X-Frame-Options"] == "DENY"
                assert page.headers["X-Content-Type-Options"] == "nosniff"

    run(main)


def test_below_u_every_error_is_a_page_and_elsewhere_json(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)
            for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
                page = await visit(world, method, path)
                assert page.status == 405
                assert {"GET", "HEAD", "POST"} == set(page.headers["Allow"].split(", "))
            for nowhere in ("/u/", "/u//", "/u/a/b", path + "/"):
                assert (await visit(world, "GET", nowhere)).status == 404
            for elsewhere in ("/u", "/U/x", "/v1/u/x", "/unsubscribe"):
                assert (await world.request("GET", elsewhere))[0] == 404

    run(main)


def test_when_the_log_cannot_be_written_the_page_asks_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)

            async def fail(decision: object, **_: Any) -> list[Recorded]:
                raise LogPoisonedError("planted")

            monkeypatch.setattr(world.core.store, "decide", fail)
            page = await one_click(world, path)
            assert page.status == 503
            assert "try again" in page.text
            assert int(page.headers["Retry-After"]) > 0

    run(main)


def test_a_defect_is_a_page_with_the_number_that_our_log_has_it_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world)

            async def fail(decision: object, **_: Any) -> list[Recorded]:
                raise ZeroDivisionError

            monkeypatch.setattr(world.core.store, "decide", fail)
            page = await one_click(world, path)
            assert page.status == 500
            (line,) = [record for record in caplog.records if record.message == "http.defect"]
            assert vars(line)["request_id"] in page.text
            assert vars(line)["route"] == "/u/<token>"

    run(main)


def test_neither_token_nor_address_is_in_the_application_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            _, path = await delivered(world, **OWN_LINK)
            await visit(world, "GET", path)
            await one_click(world, path)
            await visit(world, "POST", path)
            lines = "\n".join(str(vars(record)) for record in caplog.records)
            assert lines
            for word in (path.removeprefix("/u/"), ADDRESS, "member.example"):
                assert word not in lines

    run(main)
