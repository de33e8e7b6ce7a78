"""The unsubscribe page in a real browser: without JavaScript, on a small screen, with large text, with a keyboard, and
as a screen reader is told of it (WCAG 2.2 AA).

The browser talks to a relay over TCP on loopback, so time is real here, and nothing depends on it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from relay.events import RecipientSuppressed
from tests.world.browser import Browser, Page, chromium, open_browser
from tests.world.one_click import delivered
from tests.world.relay import DOMAIN, OTHER_DID, World, open_world

#: As long as a domain can be, and without a place where a line would break by itself.
LONG_DOMAIN = ".".join(["a" * 60, "b" * 60, "c" * 60, "example"])


class Visit(NamedTuple):
    world: World
    browser: Browser
    url: str

    async def open_page(self, *, width: int, url: str | None = None) -> Page:
        page = await self.browser.open_page(width=width)
        await page.go(url or self.url)
        return page


@asynccontextmanager
async def open_visit(directory: Path) -> AsyncIterator[Visit]:
    """A browser, and the link out of a mail that was delivered."""
    async with open_world(directory) as world, open_browser() as browser:
        _, path = await delivered(world)
        yield Visit(world, browser, f"http://{world.relay.http_address}{path}")


def look(test: Callable[[Visit], Awaitable[None]], tmp_path: Path) -> None:
    chromium()

    async def main() -> None:
        async with open_visit(tmp_path / "data") as visit:
            await test(visit)

    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


def suppressed(visit: Visit) -> int:
    return sum(isinstance(event, RecipientSuppressed) for event in visit.world.events())


async def heading(page: Page) -> Any:
    return await page.evaluate("document.querySelector('h1').textContent")


async def assert_it_fits(page: Page) -> None:
    """Nothing has to be scrolled sideways for, and nothing is cut off."""
    width, needed, widest = await page.evaluate(
        "[innerWidth, document.scrollingElement.scrollWidth, Math.max(...[...document.querySelectorAll('body *')]"
        ".map(e => e.getBoundingClientRect().right))]"
    )
    assert needed <= width
    assert widest <= width


# ------------------------------------------------------------------------------------------------ it works


def test_a_click_on_the_button_suppresses_and_opening_the_page_does_not(tmp_path: Path) -> None:
    async def test(visit: Visit) -> None:
        page = await visit.open_page(width=320)
        assert await heading(page) == "Unsubscribe"
        assert suppressed(visit) == 0
        async with page.loading():
            await page.click("button")
        assert await heading(page) == "You are unsubscribed"
        assert suppressed(visit) == 1
        assert await page.evaluate("location.href") == visit.url

    look(test, tmp_path)


def test_the_keyboard_is_enough_and_the_focus_is_seen(tmp_path: Path) -> None:
    async def test(visit: Visit) -> None:
        page = await visit.open_page(width=800)
        await page.press("Tab", 9)
        assert await page.evaluate("document.activeElement.localName") == "button"
        style, width = await page.evaluate(
            "(s => [s.outlineStyle, parseFloat(s.outlineWidth)])(getComputedStyle(document.activeElement))"
        )
        assert (style, width >= 2) == ("solid", True)
        async with page.loading():
            await page.press("Enter", 13, "\r")
        assert suppressed(visit) == 1

    look(test, tmp_path)


def test_the_browser_applies_our_style_and_nothing_else_is_loaded(tmp_path: Path) -> None:
    """A style whose hash were not in the policy would not be applied; a script that slipped in would not be run."""

    async def test(visit: Visit) -> None:
        page = await visit.open_page(width=320)
        assert await page.evaluate("document.styleSheets[0].cssRules.length") > 5
        assert await page.evaluate("getComputedStyle(document.querySelector('button')).fontWeight") == "600"
        assert await page.evaluate("document.querySelectorAll('script, img, link, iframe').length") == 0
        assert await page.evaluate("performance.getEntriesByType('resource').length") == 0
        await page.call("Emulation.setScriptExecutionDisabled", value=False)
        await page.go(visit.url)
        await page.evaluate(
            "(s => { s.textContent = 'document.title = \"taken over\"'; document.body.append(s) })"
            "(document.createElement('script'))"
        )
        assert await page.evaluate("document.title") == "Unsubscribe"

    look(test, tmp_path)


# ------------------------------------------------------------------------------------------------ it fits


@pytest.mark.parametrize("text_percent", [100, 200])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_fits_any_screen_also_with_large_text(tmp_path: Path, width: int, text_percent: int) -> None:
    async def test(visit: Visit) -> None:
        page = await visit.open_page(width=width)

        async def check() -> None:
            await page.evaluate(f"void (document.documentElement.style.fontSize = '{text_percent}%')")
            size = await page.evaluate("parseFloat(getComputedStyle(document.querySelector('p')).fontSize)")
            assert size == 16 * text_percent / 100
            await assert_it_fits(page)

        await check()
        wide, high = await page.evaluate(
            "(r => [r.width, r.height])(document.querySelector('button').getBoundingClientRect())"
        )
        assert min(wide, high) >= 44
        async with page.loading():
            await page.click("button")
        await check()
        await page.go(visit.url[:-5])
        assert await heading(page) == "This did not work"
        await check()

    look(test, tmp_path)


def test_a_long_domain_is_broken_rather_than_the_page(tmp_path: Path) -> None:
    async def test(visit: Visit) -> None:
        world = visit.world
        world.credentials = await world.enrol(OTHER_DID, LONG_DOMAIN)
        _, path = await delivered(world, **{"from": f"you@{LONG_DOMAIN}"})
        page = await visit.open_page(width=320, url=f"http://{world.relay.http_address}{path}")
        assert LONG_DOMAIN in await page.evaluate("document.body.textContent")
        await assert_it_fits(page)

    look(test, tmp_path)


# ------------------------------------------------------------------------------------------------ it is understood


def described(nodes: list[Any]) -> list[tuple[str, str]]:
    """(role, name) of what assistive technology is told of, the text itself left out."""
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    return [
        entry
        for entry in found
        if entry[0] not in ("StaticText", "InlineTextBox", "generic", "strong", "none")
    ]


def test_a_screen_reader_is_told_all_that_is_seen(tmp_path: Path) -> None:
    async def test(visit: Visit) -> None:
        page = await visit.open_page(width=320)
        assert await page.evaluate("document.documentElement.lang") == "en"
        asked = described(await page.accessibility_tree())
        assert asked[0] == ("RootWebArea", "Unsubscribe")
        assert [role for role, _ in asked].count("main") == 1
        assert [entry for entry in asked if entry[0] == "heading"] == [("heading", "Unsubscribe")]
        assert [entry for entry in asked if entry[0] == "button"] == [("button", "Unsubscribe")]
        async with page.loading():
            await page.click("button")
        nodes = await page.accessibility_tree()
        done = described(nodes)
        assert done[0] == ("RootWebArea", "You are unsubscribed")
        assert [role for role, _ in done].count("main") == 1
        assert ("heading", "You are unsubscribed") in done
        assert "status" in [role for role, _ in done]
        assert "button" not in [role for role, _ in done]
        await page.go(visit.url[:-5])
        failed = described(await page.accessibility_tree())
        assert {"main", "heading", "alert"} <= {role for role, _ in failed}

    look(test, tmp_path)


def luminance(color: list[float]) -> float:
    """Relative luminance of an sRGB colour, as WCAG defines it."""
    parts = [value / 255 for value in color[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[float], other: list[float]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


_COLORS = """
(() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    const color = parts(getComputedStyle(element).backgroundColor);
    return color.length == 4 && color[3] == 0 ? behind(element.parentElement) : color;
  };
  return [...document.querySelectorAll('h1, p, strong, button')]
    .map(e => [e.localName, parts(getComputedStyle(e).color), behind(e)]);
})()
"""


def test_light_and_dark_differ_and_both_can_be_read(tmp_path: Path) -> None:
    async def test(visit: Visit) -> None:
        page = await visit.open_page(width=320)
        backs = []
        for scheme in ("light", "dark"):
            await page.prefer(scheme)
            colors = await page.evaluate(_COLORS)
            assert {name for name, _, _ in colors} == {"h1", "p", "strong", "button"}
            for name, text, back in colors:
                assert contrast(text, back) >= 4.5, (scheme, name)
            # The button is told from the card that it stands on (WCAG 1.4.11).
            backgrounds = {name: back for name, _, back in colors}
            assert contrast(backgrounds["button"], backgrounds["h1"]) >= 3
            backs.append(luminance(backgrounds["h1"]))
        assert backs[0] > 0.8
        assert backs[1] < 0.1

    look(test, tmp_path)


def test_it_names_the_sender_and_can_be_looked_at(tmp_path: Path) -> None:
    """With SCREENSHOTS naming a directory, leaves pictures there for people to look at."""

    async def test(visit: Visit) -> None:
        directory = os.environ.get("SCREENSHOTS")
        page = await visit.open_page(width=320)
        for width, scheme in ((320, "light"), (320, "dark"), (1000, "light")):
            await page.prefer(scheme)
            await page.call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=560,
                deviceScaleFactor=1,
                mobile=False,
            )
            await page.go(visit.url)
            assert DOMAIN in await page.evaluate("document.querySelector('main').innerText")
            picture = base64.b64decode(await page.screenshot())
            assert picture.startswith(b"\x89PNG")
            if directory is not None:
                (Path(directory) / f"question-{width}-{scheme}.png").write_bytes(picture)
        async with page.loading():
            await page.click("button")
        if directory is not None:
            picture = base64.b64decode(await page.screenshot())
            (Path(directory) / "unsubscribed.png").write_bytes(picture)

    look(test, tmp_path)
