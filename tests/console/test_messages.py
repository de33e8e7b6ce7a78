"""A member's messages in the console: found, told, shown as they were, cancelled, sent again; and never as anything but
text."""

from __future__ import annotations

import email
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.console.message_contents import PREVIEW_POLICY
from relay.events import MessageQueued, SendAccepted
from tests.console.visitor import Seen, Visitor, signed_in
from tests.operator_console.visitor import open_door
from tests.world.relay import OTHER_DID, OTHER_DOMAIN, open_world, run

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\u202egnp.exe\u2066\u200b{{7*7}}'


def text_of(seen: Seen) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", seen.html).split())


def test_why_a_mail_did_not_arrive_stands_on_its_page(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="permfail@example.com", subject="Your receipt")
            await world.until_final(message_id)
            visitor = await signed_in(world)
            listed = text_of(await visitor.get("/messages?status=bounced"))
            # A screen reader's list of links says what each mail is about.
            assert (
                f'<a href="/console/messages/{message_id}"><bdi>Your receipt</bdi></a>'
                in (await visitor.get("/messages")).html
            )
            assert "Your receipt invalid recipient 550 5.1.1 No such mailbox here" in listed
            seen = await visitor.get(f"/messages/{message_id}")
            told = text_of(seen)
            assert "refused it for good. 550 5.1.1 No such mailbox here" in told
            assert "What to do. Nobody has this address: take it off the list." in told
            assert len(seen.html) < 30_000

    run(main)


def test_what_is_deferred_says_when_it_is_tried_next_and_draws_its_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(to="full@example.com")
            await trio.sleep(3 * 3600)
            visitor = await signed_in(world)
            seen = await visitor.get(f"/messages/{message_id}")
            told = text_of(seen)
            assert "did not take it yet, after" in told
            assert "Next attempt" in told
            assert seen.html.count('class="wait"') > 3
            waits = [
                float(x)
                for x in re.findall(r'<line class="wait" x1="[\d.]+" y1="26" x2="([\d.]+)"', seen.html)
            ]
            assert waits == sorted(waits), "time runs back"

    run(main)


def test_as_it_was_after_an_earlier_step(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send()
            await world.until_final(message_id)
            visitor = await signed_in(world)
            begun = text_of(await visitor.get(f"/messages/{message_id}?step=1"))
            assert "It was accepted and waits for its first attempt." in begun
            assert "As it was after step 1 of 3" in begun
            assert "Send it again" not in begun
            assert text_of(await visitor.get(f"/messages/{message_id}?asOf={message_id}")) == begun
            for wrong in ("step=0", "step=4", "step=x", "asOf=999999", "asOf=yesterday", "step=1&asOf=1"):
                assert (await visitor.get(f"/messages/{message_id}?{wrong}")).status == 400, wrong

    run(main)


def test_as_of_a_step_at_which_it_was_tried_no_next_attempt_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_door(world) as operator:
            message_id = await world.send(to="full@example.com")
            await trio.sleep(3 * 3600)
            visitor = await signed_in(world)
            await operator.sign_in()
            timeline = (await world.message(message_id))["timeline"]
            for step, entry in enumerate(timeline, 1):
                seen = (await visitor.get(f"/messages/{message_id}?step={step}")).html
                assert ("<dt>Next attempt</dt>" in seen) == (entry["type"] == "message.deferred"), entry
            assert len(timeline) > 5
            assert "<dt>Next attempt</dt>" in (await operator.get(f"/messages/{message_id}")).html

    run(main)


def test_what_waits_is_cancelled_once_and_what_was_tried_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(scheduledAt="2026-10-01T00:00:00Z")
            visitor = await signed_in(world)
            assert "Cancel it" in text_of(await visitor.get(f"/messages/{message_id}"))
            done = await visitor.post(f"/messages/{message_id}/cancel", {})
            assert (done.status, done.location) == (303, f"/console/messages/{message_id}?done=cancelled")
            told = text_of(await visitor.get(f"/messages/{message_id}?done=cancelled"))
            assert "It is cancelled, and will not be sent." in told
            assert "It was cancelled before it was sent." in told
            sent = await world.send()
            await world.until_final(sent)
            refused = await visitor.post(f"/messages/{sent}/cancel", {})
            # What is shown there is live by the address of the page that it is.
            assert f'data-live-page="/console/messages/{sent}"' in refused.html
            assert refused.status == 409
            assert 'role="alert"' in refused.html

    run(main)


def test_sent_again_it_is_a_new_message_that_names_the_old_and_a_form_sends_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            fields = {"subject": "Hello", "html": "<p>Hi", "tag": "news", "metadata": {"order": "1"}}
            old = await world.send(to="permfail@example.com", category="transactional", **fields)
            await world.until_final(old)
            visitor = await signed_in(world)
            page = await visitor.get(f"/messages/{old}")
            (once,) = re.findall(r'name="once" value="(\w+)"', page.html)
            done = [await visitor.post(f"/messages/{old}/again", {"once": once}) for _ in range(2)]
            assert [each.status for each in done] == [303, 303]
            assert done[0].location == done[1].location
            new = int(re.findall(r"/messages/(\d+)\?done=again", done[0].location)[0])
            assert new > old
            sends = [each for each in world.events() if isinstance(each, SendAccepted)]
            first, second = sends
            assert first.personal is not None
            assert second.personal is not None
            for name in ("subject", "text", "html", "from_address"):
                assert getattr(first.personal, name) == getattr(second.personal, name)
            assert (second.tag, second.category) == ("news", "transactional")
            queued = [each for each in world.events() if isinstance(each, MessageQueued)]
            assert queued[-1].personal is not None
            assert queued[-1].personal.metadata == {"order": "1", "again-of": str(old)}
            assert f'href="/console/messages/{old}"' in (await visitor.get(f"/messages/{new}")).html

    run(main)


def test_sent_again_it_is_no_repeat_to_its_receiver(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            headers = {"message-ID": "<mine@shop.example>", "X-Order": "1"}
            old = await world.send(headers=headers)
            await world.until_final(old)
            visitor = await signed_in(world)
            assert (await visitor.post(f"/messages/{old}/again", {"once": "0" * 32})).status == 303
            await world.until_so_many_are_final(2)
            first, second = (email.message_from_bytes(mail.data) for mail in world.mx.messages)
            assert first["Message-ID"] == "<mine@shop.example>"
            assert second["Message-ID"] not in (None, first["Message-ID"])
            assert (first["X-Order"], second["X-Order"]) == ("1", "1")

    run(main)


def test_to_a_suppressed_recipient_nothing_is_sent_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            old = await world.send()
            await world.until_final(old)
            visitor = await signed_in(world)
            await visitor.post("/suppressions", {"recipient": "friend@example.com", "note": ""})
            refused = await visitor.post(f"/messages/{old}/again", {"once": "0" * 32})
            assert refused.status == 403
            assert "you suppressed this recipient" in text_of(refused)

    run(main)


def test_another_members_message_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            theirs = await world.send()
            await world.until_final(theirs)
            other = Visitor(world)
            credentials = await world.enrol(OTHER_DID, OTHER_DOMAIN)
            await other.sign_in(OTHER_DID, credentials["Authorization"].removeprefix("Bearer "))
            for path in ("", "/contents", "/html", "?step=1"):
                assert (await other.get(f"/messages/{theirs}{path}")).status == 404, path
            for path in ("cancel", "again"):
                form = {"once": "0" * 32}
                assert (await other.post(f"/messages/{theirs}/{path}", form)).status == 404, path
            assert "friend@example.com" not in (await other.get("/messages")).html

    run(main)


def test_a_mail_of_markup_and_tricks_is_text_on_every_page(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(
                subject=HOSTILE,
                text=HOSTILE,
                html=f"<b>{HOSTILE}</b>",
                metadata={"m" + HOSTILE[:60]: HOSTILE},
            )
            await world.until_final(message_id)
            visitor = await signed_in(world)
            for path in ("", f"/{message_id}", f"/{message_id}/contents"):
                seen = await visitor.get(f"/messages{path}")
                assert seen.status == 200
                assert "<script>alert" not in seen.html
                assert "<img src=x" not in seen.html
                assert not re.search("[\u202e\u2066\u200b]", seen.html), "a mark of direction is on the page"
                assert "\\u202egnp.exe" in seen.html
                assert "{{7*7}}" in seen.html

    run(main)


def test_the_html_has_a_path_and_a_policy_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(html="<h1>Hi</h1><script>alert(1)</script>")
            plain = await world.send()
            visitor = await signed_in(world)
            contents = await visitor.get(f"/messages/{message_id}/contents")
            assert '<iframe class="preview" sandbox="" ' in contents.html
            seen = await visitor.get(f"/messages/{message_id}/html")
            assert seen.headers["content-security-policy"] == PREVIEW_POLICY
            assert seen.html == "<h1>Hi</h1><script>alert(1)</script>"
            assert (await visitor.get(f"/messages/{plain}/html")).status == 404

    run(main)


def test_a_preview_has_nothing_that_browsers_connect_for_in_spite_of_its_policy(tmp_path: Path) -> None:
    elsewhere = (
        '<iframe src="//e.example"></iframe><IFRAME\nsrc=//e.example><link rel=preconnect href=//e.example>'
    )
    frames = '<frameset><frame src="//e.example"></frameset><object data=//e.example></object><embed/src=//e.example>'

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(html=f"<p>1 <b>linked</b> {elsewhere}{frames}<links>")
            visitor = await signed_in(world)
            seen = await visitor.get(f"/messages/{message_id}/html")
            assert seen.html.startswith("<p>1 <b>linked</b> <x-iframe src=")
            assert not re.search(r"<(i?frame|link|object|embed)[\s/>]", seen.html, re.I)
            assert seen.html.endswith("<links>")

    run(main)


@pytest.mark.parametrize("text", ["\u202e", "\U000e0001", "<"])
def test_what_a_mail_holds_makes_nobody_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    beside: list[object] = []

    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            message_id = await world.send(text=text * 65_536)
            await world.until_final(message_id)
            visitor = await signed_in(world)
            await visitor.get(f"/messages/{message_id}/contents")
            work = world.core.edge.heavy_work
            offload = work._offload

            async def noting(function: Any, *arguments: Any) -> Any:
                beside.append(function)
                return await offload(function, *arguments)

            monkeypatch.setattr(work, "_offload", noting)
            seen = await visitor.get(f"/messages/{message_id}/contents")
            assert seen.status == 200
            assert [getattr(each, "__name__", "") for each in beside] == ["_rendered"]

    run(main)


@pytest.mark.parametrize("after", ["x", "0", "-1", "1e9"])
def test_a_cursor_that_is_none_is_refused(tmp_path: Path, after: str) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            visitor = await signed_in(world)
            assert (await visitor.get(f"/messages?after={after}")).status == 400

    run(main)


def test_pages_of_the_list_go_on_where_the_last_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            for begin in range(0, 60, 30):
                await world.post_send(to=[f"r{number}@example.com" for number in range(begin, begin + 30)])
            visitor = await signed_in(world)
            path, shown = "/messages?recipient=", []
            while path:
                seen = await visitor.get(path)
                shown += [int(each) for each in re.findall(r'<tr id="m(\d+)"', seen.html)]
                older = re.search(r'href="(\?[^"]*)" rel="next"', seen.html)
                path = f"/messages{older[1]}" if older else ""
            assert len(shown) == 60
            assert shown == sorted(shown, reverse=True)

    run(main)


def test_each_thing_to_look_for_finds_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            sent = await world.send(tag="news", category="broadcast")
            bounced = await world.send(to="permfail@example.com", category="transactional")
            for message_id in (sent, bounced):
                await world.until_final(message_id)
            visitor = await signed_in(world)
            for query, ids in {
                "status=sent": [sent],
                "recipient=permfail%40example.com": [bounced],
                "class=invalid_recipient": [bounced],
                "category=broadcast": [sent],
                "tag=news": [sent],
                "since=1h": [bounced, sent],
                "until=1h": [],
                "status=&recipient=&since=&class=": [bounced, sent],
            }.items():
                seen = await visitor.get(f"/messages?{query}")
                assert [int(each) for each in re.findall(r'<tr id="m(\d+)"', seen.html)] == ids, query
            for wrong in (
                "status=lost",
                "recipient=x",
                "since=soon",
                "class=%00",
                "did=did:plc:x",
                "from=a@b.c",
            ):
                refused = await visitor.get(f"/messages?{wrong}")
                assert refused.status == 400, wrong
                # It would be refused each time that it is asked for.
                assert "data-stream" not in refused.html
            assert "data-stream" in (await visitor.get("/messages")).html

    run(main)
