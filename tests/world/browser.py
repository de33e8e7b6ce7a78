"""A real browser: headless Chromium, spoken to over its DevTools protocol.

    async with open_browser() as browser:
        page = await browser.open_page(width=320)
        await page.go("http://127.0.0.1:8025/u/...")
        assert await page.evaluate("document.title") == "Unsubscribe"

It has a profile of its own, and for it no host but 127.0.0.1 exists: nothing that a page or the browser itself would
like to fetch leaves the machine. JavaScript of pages is off; what `evaluate` runs is ours. Every wait is bounded.

The browser is the Debian package `chromium` (or what CHROMIUM names). Where it is missing, a test that wants it fails,
so that it cannot be left out by accident; SKIP_BROWSER=1 skips on purpose.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

#: Nothing here takes nearly that long; it is what tells a browser that hangs from a slow machine.
PATIENCE_SECONDS = 60.0
MESSAGE_BYTES_MAX = 64 * 1024 * 1024

_FLAGS = (
    "--headless",
    "--no-sandbox",  # it has none as root, which is what tests in containers run as
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def chromium() -> str:
    """The browser's command. Fails or skips the test where there is none."""
    if os.environ.get("SKIP_BROWSER") == "1":
        pytest.skip("SKIP_BROWSER=1")
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    pytest.fail(
        "there is no Chromium, in which this test looks at a page: `apt-get install chromium`, name one in CHROMIUM, "
        "or leave these tests out with SKIP_BROWSER=1"
    )


class Page:
    """One tab. Made by `Browser.open_page`."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def call(self, method: str, **parameters: Any) -> Any:
        """A method of the DevTools protocol, on this tab."""
        return await self._browser.call(method, self._session, **parameters)

    async def go(self, url: str) -> None:
        """Open a URL; returns when it is loaded."""
        async with self.loading():
            answer = await self.call("Page.navigate", url=url)
            assert "errorText" not in answer, answer

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """What the block does loads a page; left when that is loaded."""
        loaded = self._browser.next_event(self._session, "Page.loadEventFired")
        yield
        with trio.fail_after(PATIENCE_SECONDS):
            await loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element, scrolled to where it can be seen."""
        element = f"document.querySelector({json.dumps(selector)})"
        await self.evaluate(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = await self.evaluate(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """A key on the keyboard, by its name and its number."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed
            )

    async def accessibility_tree(self) -> list[Any]:
        """What assistive technology is told: the nodes that it does not ignore."""
        answer = await self.call("Accessibility.getFullAXTree")
        return [node for node in answer["nodes"] if not node["ignored"]]

    async def screenshot(self) -> bytes:
        """PNG, in base64."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return str(answer["data"]).encode()


class Browser:
    """Made by `open_browser`."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self._answers: dict[int, Any] = {}
        self._answered: dict[int, trio.Event] = {}
        self._awaited: dict[tuple[str | None, str], trio.Event] = {}

    async def read(self) -> None:
        """Give out what the browser says, until the connection is closed."""
        while True:
            try:
                message = json.loads(await self._socket.get_message())
            except trio_websocket.ConnectionClosed:
                return
            if "id" in message:
                self._answers[message["id"]] = message
                self._answered.pop(message["id"]).set()
            elif (
                awaited := self._awaited.pop((message.get("sessionId"), message["method"]), None)
            ) is not None:
                awaited.set()

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._last_id += 1
        number = self._last_id
        answered = self._answered[number] = trio.Event()
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        with trio.fail_after(PATIENCE_SECONDS):
            await self._socket.send_message(json.dumps(message))
            await answered.wait()
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def next_event(self, session: str, method: str) -> trio.Event:
        """Set when the browser tells of this the next time."""
        return self._awaited.setdefault((session, method), trio.Event())

    async def open_page(self, *, width: int, height: int = 640) -> Page:
        """A window of this size, in which JavaScript is off. Not a tab: that would hide the one before it."""
        target = (await self.call("Target.createTarget", url="about:blank", newWindow=True))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Accessibility"):
            await page.call(f"{domain}.enable")
        await page.call("Emulation.setScriptExecutionDisabled", value=True)
        await page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        return page


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """A running browser, gone when the block ends."""
    command = chromium()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    [command, *_FLAGS, f"--user-data-dir={Path(profile) / 'profile'}", "about:blank"],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    check=False,
                )
            )
            assert process.stderr is not None
            url = await _debugger_url(process.stderr)
            nursery.start_soon(_drain, process.stderr)
            async with trio_websocket.open_websocket_url(url, max_message_size=MESSAGE_BYTES_MAX) as socket:
                browser = Browser(socket)
                nursery.start_soon(browser.read)
                yield browser
            nursery.cancel_scope.cancel()  # which kills the process, and waits for it


async def _debugger_url(stderr: trio.abc.ReceiveStream) -> str:
    """Where the browser can be spoken to: it says so when it is ready."""
    said = b""
    with trio.move_on_after(PATIENCE_SECONDS):
        while part := await stderr.receive_some(4096):
            said += part
            found = re.search(rb"DevTools listening on (ws://\S+)\s", said)
            if found is not None:
                return found[1].decode()
    raise AssertionError(f"the browser did not start: {said.decode(errors='replace')}")


async def _drain(stderr: trio.abc.ReceiveStream) -> None:
    """A browser whose complaints nobody reads would stop when the pipe is full."""
    while await stderr.receive_some(65536):
        pass
