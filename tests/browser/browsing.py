"""Chromium by Playwright, as somebody who has signed in sees a console with it.

    with open_chromium() as chromium:
        with look(chromium, WIDE_LIGHT, state) as tab: tab.go(url)

No host but this machine exists for it. What a page logs as an error (what the Content-Security-Policy forbids is one),
a script that fails, and an answer that came from elsewhere are remembered, and `Tab.faults` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

from tests.browser.hostile import MARK, OWNED
from tests.world.browser import chromium

PATIENCE_MS: Final = 150_000
AXE: Final = (Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js").read_text()
#: All of WCAG 2.2, levels A and AA.
TAGS: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


class Look(NamedTuple):
    name: str
    width: int
    height: int
    scheme: Any


WIDE_LIGHT: Final = Look("wide-light", 1280, 900, "light")
WIDE_DARK: Final = Look("wide-dark", 1280, 900, "dark")
NARROW_LIGHT: Final = Look("narrow-light", 360, 740, "light")
NARROW_DARK: Final = Look("narrow-dark", 360, 740, "dark")
#: Half of a usual screen.
HALF_LIGHT: Final = Look("half-light", 960, 900, "light")


@contextmanager
def open_chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            args=[
                "--no-sandbox",  # it has none as root, which is what tests in containers run as
                "--disable-gpu",
                "--disable-lcd-text",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-proxy-server",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """Made by `look`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.faults.append(f"script failed: {error}"))
        page.on("response", self._answered)

    def go(self, url: str) -> Response:
        """What was answered at last, behind whatever led there."""
        response = self.page.goto(url)
        assert response is not None
        return response

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _is_a_preview_kept_in(message.text):
            self.faults.append(f"{message.type} on {self.page.url}: {message.text}")

    def _answered(self, response: Response) -> None:
        if not response.url.startswith(("http://127.0.0.1:", "data:", "about:")):
            self.faults.append(f"{self.page.url} had an answer of {response.url}")

    def broken_rules(self) -> list[str]:
        """What axe finds of WCAG 2.2 AA, a sentence each."""
        # By the debugger's way in, which the page's policy does not forbid.
        self.page.evaluate(AXE)
        options = {
            "runOnly": {"type": "tag", "values": TAGS},
            "resultTypes": ["violations"],
            "iframes": False,
        }
        found = self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{rule['id']} ({rule['help']}) at {node['target']}: {node['html'][:200]} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def what_is_too_wide(self) -> list[str]:
        """What one would have to scroll the page sideways for, the innermost elements."""
        found: list[str] = self.page.evaluate(_FIND_WIDE)
        return found

    def tables_that_are_cut(self) -> list[str]:
        """Captions of those that one has to scroll sideways within the page, as one may have to on a narrow one."""
        found: list[str] = self.page.evaluate(_FIND_CUT)
        return found

    def what_hostile_text_did(self) -> list[str]:
        """Where a text of `tests.browser.hostile` is more than text."""
        found: list[str] = self.page.evaluate(_FIND_HOSTILE, OWNED)
        return found

    def all_faults(self) -> list[str]:
        """Of the page that is there now, and of its loading."""
        of_loading, self.faults = self.faults, []
        return [*of_loading, *self.broken_rules(), *self.what_is_too_wide(), *self.what_hostile_text_did()]

    def shows_hostile_text(self) -> bool:
        return MARK in self.page.inner_text("body")


_FIND_WIDE: Final = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const scrolls = each => each && (getComputedStyle(each).overflowX !== "visible" || scrolls(each.parentElement));
  const sticksOut = each => each.getBoundingClientRect().right > width + 0.5 && !scrolls(each.parentElement);
  return [...document.querySelectorAll("body *")]
    .filter(each => sticksOut(each) && ![...each.children].some(sticksOut))
    .map(each => "too wide: " + each.outerHTML.slice(0, 200))
    .concat(["the page scrolls sideways"]);
}"""

_FIND_CUT: Final = """() => [...document.querySelectorAll("div.table")]
  .filter(each => each.scrollWidth > each.clientWidth)
  .map(each => each.querySelector("caption").innerText)"""


def _is_a_preview_kept_in(text: str) -> bool:
    """A mail's HTML wanted a picture, or a script of its own, and its frame said no: as it should be."""
    return (
        text.startswith("Blocked script execution in ")
        or '"img-src data:". The action has been blocked' in text
    )


#: No element and no attribute that a text brought, no script that ran, and nothing that turns text around or hides.
_FIND_HOSTILE: Final = r"""owned => {
  const found = [];
  if (window.owned !== undefined) found.push("a script ran");
  for (const each of document.querySelectorAll("." + owned)) found.push("an element: " + each.outerHTML.slice(0, 100));
  for (const each of document.querySelectorAll("*")) for (const attribute of each.attributes)
    if (/^on/i.test(attribute.name) || /^\s*javascript:/i.test(attribute.value))
      found.push("an attribute: " + each.outerHTML.slice(0, 100));
  const unseen = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/;
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const texts = node.nodeType === Node.TEXT_NODE ? [node.data] : [...node.attributes].map(each => each.value);
    for (const text of texts)
      if (unseen.test(text)) found.push("an invisible character: " + JSON.stringify(text.slice(0, 100)));
  }
  return found;
}"""


@contextmanager
def look(browser: Browser, how: Look, state: Any = None, *, scripts: bool = True) -> Iterator[Tab]:
    """A tab of its own, of somebody with this state (cookies)."""
    context = browser.new_context(
        viewport={"width": how.width, "height": how.height},
        color_scheme=how.scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce",
        storage_state=state,
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield Tab(context.new_page())
    finally:
        context.close()
