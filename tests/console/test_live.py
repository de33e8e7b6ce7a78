"""Rows that are live, in a real browser: what happens is seen without a reload, and the page's policy lets it be.

The browser talks to a relay over TCP on loopback, so time is real here. The page itself tells when it has changed.
"""

from __future__ import annotations

from pathlib import Path

import trio

from tests.console.visitor import HOME, Visitor, signed_in
from tests.world.browser import Browser, Page, chromium, open_browser
from tests.world.relay import open_world

PATIENCE_SECONDS = 30
_WHEN = """new Promise((seen, late) => {{
  const look = () => {{ if ({condition}) {{ seen(true); return true; }} return false; }};
  if (look()) return;
  new MutationObserver((_, observer) => {{ if (look()) observer.disconnect(); }})
    .observe(document.body, {{ childList: true, subtree: true, characterData: true, attributes: true }});
  setTimeout(() => late(new Error(document.body.innerText)), {patience});
}})"""


async def when(page: Page, condition: str) -> None:
    """Until this holds of the page, which is looked at whenever it changes."""
    expression = _WHEN.format(condition=condition, patience=PATIENCE_SECONDS * 1000)
    answer = await page.call("Runtime.evaluate", expression=expression, awaitPromise=True)
    assert "exceptionDetails" not in answer, answer["exceptionDetails"]["exception"].get("description")


#: The page's body says what it heard last, how many answers to its questions it has, and how many are kept from it
#: until `release`. Its ticket and its first look are the first two.
_KEPT = """(() => {
  const kept = [];
  let answered = 0;
  window.WebSocket = class extends WebSocket {
    set onmessage(hear) {
      super.onmessage = hear && ((frame) => {
        hear(frame);
        document.body.dataset.heard = JSON.parse(frame.data).type;
      });
    }
  };
  const ask = window.fetch;
  window.fetch = async (...question) => {
    const answer = await ask(...question);
    if (window.keeps) await new Promise((give) => document.body.dataset.kept = kept.push(give));
    setTimeout(() => document.body.dataset.answered = ++answered); // and taken
    return answer;
  };
  window.release = () => { window.keeps = false; kept.forEach((give) => give()); };
})()"""
_IS_LIVE = "document.querySelector('.live span')?.textContent.startsWith('Live')"


async def go(visitor: Visitor, page: Page, path: str) -> None:
    name, _, value = visitor.cookie.partition("=")
    address = visitor.world.relay.http_address
    cookie = {"name": name, "value": value, "url": f"https://{address}", "secure": True, "path": "/"}
    await page.call("Emulation.setScriptExecutionDisabled", value=False)
    await page.call("Network.enable")
    await page.call("Network.setCookie", **cookie)
    await page.go(f"http://{address}{HOME}{path}")


async def open_live(visitor: Visitor, browser: Browser, path: str) -> Page:
    """It has looked once, and waits for what happens."""
    page = await browser.open_page(width=1280)
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=_KEPT)
    await go(visitor, page, path)
    await when(page, f"{_IS_LIVE} && document.body.dataset.answered >= '2'")
    return page


def test_a_list_and_a_message_follow_what_happens(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            visitor = await signed_in(world)
            first = await world.send(to="tempfail@example.com", subject="The first")
            await world.until(first, "deferred")
            listed = await open_live(visitor, browser, "/messages")
            shown = await open_live(visitor, browser, f"/messages/{first}")
            second = await world.send(subject="The second")
            await when(listed, f"document.querySelector('#m{second} .status.good')")
            assert await listed.evaluate("document.querySelectorAll('#messages tr').length") == 2
            await listed.evaluate(f"document.querySelector('#m{second}').stays = true")
            await world.command("queue_cancel", message=[first], reason="no more")
            await when(shown, "document.querySelector('.verdict .status.bad')")
            await when(listed, f"document.querySelector('#m{first} .status.bad')")
            assert await listed.evaluate(f"document.querySelector('#m{second}').stays")
            # Paused, it stays as it is, and has all when it goes on.
            await listed.click(".live button")
            await when(listed, "document.querySelector('.live span').textContent === 'Paused.'")
            third = await world.send(subject="The third")
            await world.until_final(third)
            assert await listed.evaluate("document.querySelectorAll('#messages tr').length") == 2
            await listed.click(".live button")
            await when(listed, f"document.querySelector('#m{third} .status.good')")

    trio.run(main)


def test_what_happens_while_the_page_is_asked_for_is_not_lost(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            visitor = await signed_in(world)
            page = await open_live(visitor, browser, "/messages")
            assert "There is no message yet." in await page.evaluate("document.body.innerText")
            await page.evaluate("keeps = true")
            message_id = await world.send(to="tempfail@example.com")
            # The row comes with this answer, and is not there yet: nobody can tell that what comes now is about it.
            await when(page, "document.body.dataset.kept === '1'")
            await world.until(message_id, "deferred")
            await world.command("queue_cancel", message=[message_id], reason="no more")
            await when(page, "document.body.dataset.heard === 'message.bounced'")
            await page.evaluate("release()")
            await when(page, f"document.querySelector('#m{message_id} .status.bad')")

    trio.run(main)


def test_time_that_passes_is_no_change(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            visitor = await signed_in(world)
            page = await browser.open_page(width=1280)
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=f"{_KEPT}; keeps = true")
            message_id = await world.send(to="tempfail@example.com")
            await world.until(message_id, "deferred")
            await go(visitor, page, f"/messages/{message_id}")
            # Its ticket is kept from it, so it has not looked yet.
            await when(page, "document.body.dataset.kept === '1'")
            await page.evaluate("document.querySelector('.verdict').stays = true")
            await page.evaluate("document.querySelector('time + .nowrap').textContent = '(long ago)'")
            await page.evaluate("release()")
            await when(page, "document.querySelector('time + .nowrap').textContent !== '(long ago)'")
            assert await page.evaluate("document.querySelector('.verdict').stays")
            assert await page.evaluate("document.querySelector('[role=status].unseen').textContent") == ""

    trio.run(main)


def test_a_list_of_some_has_what_becomes_one_of_them_and_loses_what_is_none_any_more(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            visitor = await signed_in(world)
            message_id = await world.send(to="tempfail@example.com")
            await world.until(message_id, "deferred")
            deferred = await open_live(visitor, browser, "/messages?status=deferred")
            bounced = await open_live(visitor, browser, "/messages?status=bounced")
            await when(deferred, f"document.querySelector('#m{message_id}')")
            assert not await bounced.evaluate(f"!!document.querySelector('#m{message_id}')")
            await world.command("queue_cancel", message=[message_id], reason="no more")
            await when(bounced, f"document.querySelector('#m{message_id} .status.bad')")
            await when(
                deferred, "document.querySelector('#list').textContent.includes('No message is like that.')"
            )

    trio.run(main)


def test_who_does_not_look_at_it_asks_for_nothing_and_has_all_when_looking_again(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            visitor = await signed_in(world)
            page = await open_live(visitor, browser, "/messages")
            await page.evaluate("Object.defineProperty(document, 'hidden', { value: true, writable: true })")
            # A look begins with a pause.
            await page.evaluate(
                "begun = 0; wait = setTimeout; setTimeout = (act, ms) => (begun += ms <= 1500, wait(act, ms))"
            )
            message_id = await world.send()
            await when(page, "document.body.dataset.heard === 'message.sent'")
            assert await page.evaluate("begun") == 0
            await page.evaluate(
                "document.hidden = false; document.dispatchEvent(new Event('visibilitychange'))"
            )
            await when(page, f"document.querySelector('#m{message_id} .status.good')")

    trio.run(main)


def test_whose_session_is_over_is_told_and_asks_no_more(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            visitor = await signed_in(world)
            page = await open_live(visitor, browser, "/messages")
            await page.call("Network.clearBrowserCookies")
            await world.send()
            await when(
                page, "document.querySelector('.live span').textContent.startsWith('Not live any more')"
            )

    trio.run(main)
