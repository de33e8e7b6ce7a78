"""The operator at the console, without a browser and without a socket.

async with at_the_console(world) as operator:
    page = await operator.get("/members")
    done = await operator.post(f"/members/{DID}/membership/suspend", {"reason": "unpaid"})
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import trio

from relay.operator.commands import make_all_known
from relay.operator_console.door import OperatorDoor
from tests.console.visitor import Seen
from tests.world.relay import World

ADDRESS = "127.0.0.1:8026"


class OperatorVisitor:
    def __init__(self, door: OperatorDoor) -> None:
        self._door = door
        self.cookie = ""

    async def get(self, path: str) -> Seen:
        return await self._open("GET", path, b"")

    async def post(self, path: str, form: dict[str, Any], *, token: str | None = "") -> Seen:
        """`token`: "" for that of this session, None for none."""
        if token == "":
            found = re.search(r'name="token" value="(\w+)"', (await self.get("/members")).html)
            assert found is not None, "no page of this session has a form"
            token = found[1]
        fields = form if token is None else {**form, "token": token}
        return await self._open("POST", path, urlencode(fields, doseq=True).encode())

    async def _open(self, method: str, path: str, body: bytes) -> Seen:
        path, _, query = path.partition("?")
        headers = {
            "host": ADDRESS,
            "sec-fetch-site": "same-origin",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
            "cookie": self.cookie,
        }
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value],
            "client": ("127.0.0.1", 0),
            "http_version": "1.1",
            "extensions": {},
        }
        incoming = [{"type": "http.request", "body": body, "more_body": False}]
        answer: dict[str, Any] = {}
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            if not incoming:
                await trio.sleep_forever()  # the browser stays
            return incoming.pop()

        async def send(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            answer.update(message)
            parts.append(message.get("body", b""))

        await self._door(scope, receive, send)
        said = {name.decode().lower(): value.decode() for name, value in answer["headers"]}
        if "set-cookie" in said:
            self.cookie = said["set-cookie"].partition(";")[0]
        return Seen(answer["status"], b"".join(parts).decode(), said)


@asynccontextmanager
async def at_the_console(world: World) -> AsyncIterator[OperatorVisitor]:
    """Somebody who has signed in by a link."""
    make_all_known()
    async with trio.open_nursery() as nursery:
        operator = OperatorVisitor(OperatorDoor(world.core, ADDRESS, nursery))
        link, _ = world.core.console_links.make(None, "root", world.core.store.now_us())
        seen = await operator.post("/sign-in", {"link": link}, token=None)
        assert (seen.status, bool(operator.cookie)) == (303, True), seen
        yield operator
        nursery.cancel_scope.cancel()
