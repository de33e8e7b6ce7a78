"""Rows that are live, in a real browser: what happens is seen without a reload, and the page's policy lets it be.

The browser talks to a relay over TCP on loopback, so time is real here. The page itself tells when it has changed.
"""

from __future__ import annotations

from pathlib import Path

import trio

from tests.console.visitor import HOME, Visitor
from tests.world.browser import Page, chromium, open_browser
from tests.world.relay import World, open_world

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


#: The page's body says what it heard last, and how many answers to its questions are kept from it until `release`.
_KEPT = """(() => {
  const kept = [];
  window.WebSocket = class extends WebSocket {
    set onmessage(hear) {
      super.onmessage = (frame) => { hear(frame); document.body.dataset.heard = JSON.parse(frame.data).type; };
    }
  };
  const ask = window.fetch;
  window.fetch = async (...question) => {
    const answer = await ask(...question);
    if (window.keeps) await new Promise((give) => document.body.dataset.kept = kept.push(give));
    return answer;
  };
  window.release = () => { window.keeps = false; kept.forEach((give) => give()); };
})()"""


async def open_signed_in(world: World, page: Page, path: str) -> None:
    visitor = Visitor(world)
    await visitor.sign_in()
    name, _, value = visitor.cookie.partition("=")
    address = world.relay.http_address
    cookie = {"name": name, "value": value, "url": f"https://{address}", "secure": True, "path": "/"}
    await page.call("Emulation.setScriptExecutionDisabled", value=False)
    await page.call("Network.enable")
    await page.call("Network.setCookie", **cookie)
    await page.go(f"http://{address}{HOME}{path}")


def test_a_list_and_a_message_follow_what_happens(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            listed, shown = [await browser.open_page(width=1280) for _ in range(2)]
            first = await world.send(to="tempfail@example.com", subject="The first")
            await world.until(first, "deferred")
            await open_signed_in(world, listed, "/messages")
            await open_signed_in(world, shown, f"/messages/{first}")
            for page in (listed, shown):
                await when(page, "document.querySelector('.live span')?.textContent.startsWith('Live')")
            second = await world.send(subject="The second")
            await when(listed, f"document.querySelector('#m{second} .status.good')")
            assert await listed.evaluate("document.querySelectorAll('#messages tr').length") == 2
            await listed.evaluate(f"document.querySelector('#m{second}').stays = true")
            await world.command("queue_cancel", message=[first], reason="no more")
            await when(shown, "document.querySelector('.verdict .status.bad')")
            await when(listed, f"document.querySelector('#m{first} .status.bad')")
            assert await listed.evaluate(f"document.querySelector('#m{second}').stays")
            # Paused, it stays as it is.
            await listed.click(".live button")
            await when(listed, "document.querySelector('.live span').textContent === 'Paused.'")

    trio.run(main)


def test_what_happens_while_the_page_is_asked_for_is_not_lost(tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_world(tmp_path / "data") as world, open_browser() as browser:
            page = await browser.open_page(width=1280)
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=_KEPT)
            await open_signed_in(world, page, "/messages")
            await when(page, "document.querySelector('.live span')?.textContent.startsWith('Live')")
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
            page = await browser.open_page(width=1280)
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=f"{_KEPT}; keeps = true")
            message_id = await world.send(to="tempfail@example.com")
            await world.until(message_id, "deferred")
            await open_signed_in(world, page, f"/messages/{message_id}")
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
            page = await browser.open_page(width=1280)
            await open_signed_in(world, page, "/messages?status=deferred")
            await when(page, "document.querySelector('.live span')?.textContent.startsWith('Live')")
            message_id = await world.send(to="tempfail@example.com")
            await when(page, f"document.querySelector('#m{message_id} .status.slow')")
            await world.command("queue_cancel", message=[message_id], reason="no more")
            await when(
                page, "document.querySelector('#list').textContent.includes('No message is like that.')"
            )

    trio.run(main)
